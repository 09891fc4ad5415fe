"""Operations of a whole program, loops and all, counted in what JAX has traced."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def operations(function: Callable, *args: Any) -> float:
    """Floating-point operations of the matrix products and convolutions in one call of `function`.

    Multiplication and addition are two. Other than `flops`, what is in a loop counts as often as it is done, and
    nothing is compiled; of a choice the costlier side counts, and a loop of unknown length counts once.

    Args:
      function: any that JAX can trace.
      *args: arrays or their shapes (`jax.ShapeDtypeStruct`).
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def _of_jaxpr(jaxpr: Jaxpr) -> float:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> float:
    name, found = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = found["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        each = math.prod(kernel) / kernel[found["dimension_numbers"].rhs_spec[0]]
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * each
    inside = [
        _of_jaxpr(_opened(part))
        for part in jax.tree.leaves(list(found.values()), is_leaf=_is_program)
        if _is_program(part)
    ]
    if name == "cond":
        return max(inside)
    return found.get("length", 1) * sum(inside) if name == "scan" else sum(inside)


def _is_program(part: Any) -> bool:
    return isinstance(part, ClosedJaxpr | Jaxpr)


def _opened(part: Any) -> Jaxpr:
    return part.jaxpr if isinstance(part, ClosedJaxpr) else part
