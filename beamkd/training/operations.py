"""Operations of a whole program, loops and all, counted in what JAX has traced."""

import math
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def operations_of(program: ClosedJaxpr | Jaxpr) -> float:
    """Floating-point operations of the matrix products and convolutions in a program, as `jax.make_jaxpr` gives it.

    Multiplication and addition are two. Other than `flops`, what is in a loop counts as often as it is done, and
    nothing is compiled; of a choice the costlier side counts, and a loop of unknown length counts once.
    """
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    return sum((_of_equation(equation) for equation in jaxpr.eqns), 0.0)


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
    parts = jax.tree.leaves(list(found.values()), is_leaf=_is_program)
    inside = [operations_of(part) for part in parts if _is_program(part)]
    if name == "cond":
        return max(inside)
    return found.get("length", 1) * sum(inside) if name == "scan" else sum(inside)


def _is_program(part: Any) -> bool:
    return isinstance(part, ClosedJaxpr | Jaxpr)
