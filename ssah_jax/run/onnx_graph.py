"""A function of JAX as a graph of ONNX, for the operations that our networks use.

The function's jaxpr is walked once. Whatever does not depend on the images is computed
here and becomes a constant, so that only what touches them needs a translation: some
thirty operations. Anything else is refused by name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import export

from ssah_jax.run.onnx_nodes import Graph, UntranslatableError, Value, element_type
from ssah_jax.run.onnx_operations import OPERATIONS, Equation

OPSET = 18
"""Of the operators that are used; read by every ONNX Runtime since 1.14."""


def to_onnx(
    function: Callable[[jax.Array], tuple[jax.Array, ...]],
    *,
    image_shape: tuple[int, int, int],
    outputs: Sequence[str],
    metadata: Mapping[str, str],
) -> bytes:
    """The graph of a function of uint8 images `[batch, H, W, ch]`, any batch.

    Args:
        function: from images to arrays `[batch, ...]`.
        image_shape: `(H, W, ch)`.
        outputs: their names; the input's is "images".
        metadata: properties of the model.

    Returns:
        The bytes of a `.onnx` file.

    Raises:
        UntranslatableError: an operation has no translation.
    """
    import onnx
    from onnx import helper

    (batch,) = export.symbolic_shape("batch")
    image = jax.ShapeDtypeStruct((batch, *image_shape), np.uint8)
    closed = jax.make_jaxpr(function)(image)
    graph = Graph(helper)
    results = _walk(graph, closed.jaxpr, closed.consts, ["images"])
    found = []
    for name, value, out in zip(outputs, results, closed.jaxpr.outvars, strict=True):
        graph.node("Identity", value, result=name)
        found.append(_info(helper, name, out.aval))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "encoder",
            [_info(helper, "images", closed.jaxpr.invars[0].aval)],
            found,
            [onnx.numpy_helper.from_array(a, name) for name, a in graph.constants],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        # Of that opset: a newer number would be refused by older runtimes.
        ir_version=9,
        producer_name="ssah_jax",
    )
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _info(helper: Any, name: str, aval: Any) -> Any:
    dims = [d if isinstance(d, int) else "batch" for d in aval.shape]
    return helper.make_tensor_value_info(name, element_type(helper, aval.dtype), dims)


def _walk(
    graph: Graph, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Value]
) -> list[Value]:
    """Translates a jaxpr; returns its outputs."""
    known: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
    known |= {v: np.asarray(c) for v, c in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> Value:
        literal = hasattr(atom, "val")
        return np.asarray(atom.val, atom.aval.dtype) if literal else known[atom]

    for equation in jaxpr.eqns:
        values = _translate(graph, equation, [read(x) for x in equation.invars])
        known |= dict(zip(equation.outvars, values, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _translate(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    """The results of one operation."""
    name, params = equation.primitive.name, equation.params
    if name == "platform_index":
        return [np.zeros((), np.int32)]
    if name == "cond":
        # Of what is written for several platforms, the general form comes last.
        branch = params["branches"][-1]
        return _walk(graph, branch.jaxpr, branch.consts, values[1:])
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if (inner := params.get(key)) is not None:
            closed = getattr(inner, "jaxpr", inner)
            return _walk(graph, closed, getattr(inner, "consts", ()), values)
    static = all(isinstance(d, int) for d in equation.outvars[0].aval.shape)
    constants = [x for x in values if isinstance(x, np.ndarray)]
    if static and len(constants) == len(values):
        result = equation.primitive.bind(*constants, **params)
        several = equation.primitive.multiple_results
        return [np.asarray(x) for x in (result if several else [result])]
    if name not in OPERATIONS:
        raise UntranslatableError(
            f"found the operation {name!r}, accepted are {', '.join(OPERATIONS)}"
        )
    shapes = [x.aval.shape for x in equation.invars]
    found = Equation(values, params, shapes, equation.outvars[0].aval)
    return [OPERATIONS[name](graph, found)]
