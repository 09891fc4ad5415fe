"""Layers in the words of ONNX: what `beamkd.deploy.convert` traces in place of how XLA computes them fastest."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.extend.core import Primitive

from beamkd.models.layers import Gru, Linear

GEMM = Primitive("onnx_gemm")
"""Of rows [N, in], weights [in, out] and biases [out], their product and sum [N, out]."""

GRU = Primitive("onnx_gru")
"""ONNX's operator with `linear_before_reset`: of inputs [S, B, in], weights [1, 3H, in] and [1, 3H, H] and biases
[1, 6H], whose gates are in the order update, reset, new, the states [S, 1, B, H]."""


@GEMM.def_abstract_eval
def _product(rows, weights, biases):
    return jax.core.ShapedArray((rows.shape[0], biases.shape[0]), rows.dtype)


@GRU.def_abstract_eval
def _states(inputs, weights, recurrent, biases):
    return jax.core.ShapedArray((inputs.shape[0], 1, inputs.shape[1], recurrent.shape[-1]), inputs.dtype)


@contextlib.contextmanager
def by_operators() -> Iterator[None]:
    """Trace what is within with one operator a recurrence and one a linear map, for jax2onnx to convert."""
    _teach_converter()
    with nn.intercept_methods(_in_onnx_words):
        yield


def _in_onnx_words(call, args, kwargs, context):
    words = {Gru: _gru, Linear: _linear}.get(type(context.module))
    if words is None or context.method_name != "__call__":
        return call(*args, **kwargs)
    return words(*args, context.module.variables["params"])


def _linear(inputs, weights):
    kernel = weights["kernel"]
    biases = weights.get("bias", jnp.zeros(kernel.shape[1]))
    return GEMM.bind(inputs.reshape(-1, kernel.shape[0]), kernel, biases).reshape(*inputs.shape[:-1], -1)


def _gru(inputs, weights):
    """The states [B, S, H] of `Gru`."""
    kernels = (_gates(weights[f"{name}_kernel"]).T[None] for name in ("input", "state"))
    biases = np.concatenate([_gates(weights[f"{name}_bias"]) for name in ("input", "state")])[None]
    return GRU.bind(inputs.swapaxes(0, 1), *map(jnp.asarray, kernels), jnp.asarray(biases))[:, 0].swapaxes(0, 1)


def _gates(values):
    """Of three gates in the order reset, update, new, along the last axis, those in ONNX's order."""
    reset, update, new = np.split(np.asarray(values), 3, axis=-1)
    return np.concatenate([update, reset, new], axis=-1)


@functools.cache
def _teach_converter() -> None:
    """Tell jax2onnx what the operators are in ONNX."""
    _teach(GEMM, lambda builder, *given, **options: builder.Gemm(*given, **options))
    _teach(
        GRU,
        lambda builder, *given, **options: builder.GRU(
            *given, hidden_size=given[2].shape[-1], linear_before_reset=1, **options
        ),
    )


def _teach(primitive: Primitive, operator: Callable) -> None:
    """operator(builder, *given, _outputs) adds it to a graph."""
    from jax2onnx.plugins.plugin_system import PrimitiveLeafPlugin, register_primitive

    about = {"component": primitive.name, "context": "beamkd", "since": "0", "onnx": [], "testcases": []}

    @register_primitive(jaxpr_primitive=primitive.name, **about)
    class _Plugin(PrimitiveLeafPlugin):
        def lower(self, ctx, eqn):
            given = [ctx.get_value_for_var(var) for var in eqn.invars]
            spec = ctx.get_value_for_var(eqn.outvars[0])
            made = operator(ctx.builder, *given, _outputs=[ctx.fresh_name(primitive.name)])
            made.type, made.shape = spec.type, spec.shape
            ctx.bind_value_for_var(eqn.outvars[0], made)
