"""Operations of a traced program, which no compiler is asked for.

XLA's own count knows nothing of what it hands to a GPU's libraries: convolutions in
cuDNN, and a program that is not compiled yet has none at all there.
"""

import math
from typing import Any


def by_hand(jaxpr: Any) -> float:
    """Operations of convolutions and matrix products: 2 x outputs x inputs of each.

    Zeros of a padding count as inputs, those of dilation do not. Of a branch all sides
    are counted, and of a loop of unknown length one turn.
    """
    total = 0.0
    for eqn in jaxpr.eqns:
        shapes = [getattr(each.aval, "shape", ()) for each in eqn.invars]
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            inner = math.prod(shapes[0][axis] for axis in contracted)
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * inner
        elif eqn.primitive.name == "conv_general_dilated":
            numbers = eqn.params["dimension_numbers"]
            kernel = [shapes[1][axis] for axis in numbers.rhs_spec[1:]]
            # Inputs of an output, less those that dilation makes zero.
            holes = math.prod(eqn.params["lhs_dilation"])
            outputs = math.prod(eqn.outvars[0].aval.shape)
            total += 2 * outputs * math.prod(kernel) / holes
        for value in eqn.params.values():
            for inner_value in value if isinstance(value, tuple | list) else (value,):
                inner_jaxpr = getattr(inner_value, "jaxpr", inner_value)
                if hasattr(inner_jaxpr, "eqns"):
                    times = eqn.params.get("length", 1)
                    total += times * by_hand(inner_jaxpr)
    return total
