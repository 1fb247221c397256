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

OPSET = 18
"""Of the operators that are used; read by every ONNX Runtime since 1.14."""


class UntranslatableError(ValueError):
    """The function has an operation that there is no translation for."""


Value = np.ndarray | str
"""A constant, or the name of what a node computes."""


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
    graph = _Graph(helper)
    results = graph.walk(closed.jaxpr, closed.consts, ["images"])
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
    return helper.make_tensor_value_info(name, _type(helper, aval.dtype), dims)


def _type(helper: Any, dtype: Any) -> int:
    if np.dtype(dtype).name == "bfloat16":
        raise UntranslatableError("found bfloat16, accepted is float32")
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


class _Graph:
    """Nodes and constants as they come."""

    def __init__(self, helper: Any) -> None:
        self.nodes: list[Any] = []
        self.constants: list[tuple[str, np.ndarray]] = []
        self._helper = helper
        self._batch = ""

    def node(self, kind: str, *inputs: Value, result: str = "", **options: Any) -> str:
        """Adds a node of one output; returns its name."""
        result = result or f"{kind}_{len(self.nodes)}"
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        self.nodes.append(self._helper.make_node(kind, names, [result], **options))
        return result

    def constant(self, array: np.ndarray) -> str:
        """Adds a constant; returns its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append((name, np.array(array, order="C")))
        return name

    def cast(self, x: Value, dtype: Any) -> str:
        return self.node("Cast", x, to=_type(self._helper, dtype))

    def batch(self) -> str:
        """The number of images, int64 `[1]`."""
        if not self._batch:
            shape = self.node("Shape", "images", start=0, end=1)
            self._batch = shape
        return self._batch

    def walk(
        self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Value]
    ) -> list[Value]:
        """Translates a jaxpr; returns its outputs."""
        known: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
        known |= {
            v: np.asarray(c) for v, c in zip(jaxpr.constvars, consts, strict=True)
        }

        def read(atom: Any) -> Value:
            literal = hasattr(atom, "val")
            return np.asarray(atom.val, atom.aval.dtype) if literal else known[atom]

        for equation in jaxpr.eqns:
            values = self._equation(equation, [read(x) for x in equation.invars])
            known |= dict(zip(equation.outvars, values, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, values: list[Value]) -> list[Value]:
        name, params = equation.primitive.name, equation.params
        if name == "platform_index":
            return [np.zeros((), np.int32)]
        if name == "cond":
            # Of what is written for several platforms, the general form comes last.
            branch = params["branches"][-1]
            return self.walk(branch.jaxpr, branch.consts, values[1:])
        for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
            if (inner := params.get(key)) is not None:
                closed = getattr(inner, "jaxpr", inner)
                return self.walk(closed, getattr(inner, "consts", ()), values)
        static = all(isinstance(d, int) for d in equation.outvars[0].aval.shape)
        constants = [x for x in values if isinstance(x, np.ndarray)]
        if static and len(constants) == len(values):
            result = equation.primitive.bind(*constants, **params)
            several = equation.primitive.multiple_results
            return [np.asarray(x) for x in (result if several else [result])]
        if name not in _OPERATIONS:
            raise UntranslatableError(
                f"found the operation {name!r}, accepted are {', '.join(_OPERATIONS)}"
            )
        shapes = [x.aval.shape for x in equation.invars]
        out = equation.outvars[0].aval
        return [_OPERATIONS[name](self, values, params, shapes, out)]


Shape = tuple[Any, ...]
_Operation = Callable[[_Graph, list[Value], Mapping[str, Any], list[Shape], Any], Value]


def _ints(values: Sequence[Any]) -> np.ndarray:
    return np.asarray(values, np.int64)


def _sizes(shape: Sequence[Any]) -> np.ndarray:
    """A shape for Reshape: what depends on the batch is left for it to find."""
    return _ints([d if isinstance(d, int) else -1 for d in shape])


def _plain(kind: str) -> _Operation:
    return lambda graph, x, params, shapes, out: graph.node(kind, *x)


def _same(
    graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
) -> Value:
    return x[0]


def _convert(
    graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
) -> Value:
    return graph.cast(x[0], params["new_dtype"])


def _square(
    graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
) -> Value:
    return graph.node("Mul", x[0], x[0])


def _rsqrt(
    graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
) -> Value:
    return graph.node("Reciprocal", graph.node("Sqrt", x[0]))


def _erfc(
    graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
) -> Value:
    one = np.ones((), out.dtype)
    return graph.node("Sub", one, graph.node("Erf", x[0]))


def _integer_pow(
    graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
) -> Value:
    return graph.node("Pow", x[0], np.asarray(params["y"], out.dtype))


def _reduce(kind: str) -> _Operation:
    def reduce(
        graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
    ) -> Value:
        return graph.node(kind, x[0], _ints(params["axes"]), keepdims=0)

    return reduce


def _transpose(
    graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
) -> Value:
    return graph.node("Transpose", x[0], perm=list(params["permutation"]))


def _reshape(
    graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
) -> Value:
    return graph.node("Reshape", x[0], _sizes(out.shape))


def _broadcast(
    graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
) -> Value:
    places = params["broadcast_dimensions"]
    small: list[Any] = [1] * len(out.shape)
    for place, size in zip(places, shapes[0], strict=True):
        small[place] = size
    spread = graph.node("Reshape", x[0], _sizes(small))
    if tuple(small) == tuple(out.shape):
        return spread
    # A 1 keeps what is there; only a batch that is new has to be asked for.
    wanted: list[str] = [
        graph.batch()
        if not isinstance(size, int) and small[place] == 1
        else graph.constant(_ints([size if isinstance(size, int) else 1]))
        for place, size in enumerate(out.shape)
    ]
    return graph.node("Expand", spread, graph.node("Concat", *wanted, axis=0))


def _concatenate(
    graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
) -> Value:
    return graph.node("Concat", *x, axis=params["dimension"])


def _slice(
    graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
) -> Value:
    steps = params["strides"] or (1,) * len(out.shape)
    rows = zip(
        params["start_indices"], params["limit_indices"], shapes[0], steps, strict=True
    )
    cut = [
        (start, end, axis, step)
        for axis, (start, end, size, step) in enumerate(rows)
        if (start, end, step) != (0, size, 1)
    ]
    if not cut:
        return x[0]
    return graph.node("Slice", x[0], *map(_ints, zip(*cut, strict=True)))


def _gather(
    graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
) -> Value:
    """Known rows along one axis: what a slice is of an array of any batch."""
    numbers, indices = params["dimension_numbers"], x[1]
    (*axes,) = numbers.start_index_map
    whole = [
        size == whole
        for axis, (size, whole) in enumerate(
            zip(params["slice_sizes"], shapes[0], strict=True)
        )
        if axis not in axes
    ]
    if (
        isinstance(indices, str)
        or len(axes) != 1
        or params["slice_sizes"][axes[0]] != 1
        or numbers.operand_batching_dims
        or not all(whole)
    ):
        raise UntranslatableError("found a gather, accepted is one of known rows")
    rows = indices[..., 0].astype(np.int64)
    kept = tuple(numbers.collapsed_slice_dims) != (axes[0],)
    others = [d for d in range(len(out.shape)) if d not in numbers.offset_dims]
    if kept or others != list(range(axes[0], axes[0] + rows.ndim)):
        raise UntranslatableError("found a gather, accepted is one of known rows")
    return graph.node("Gather", x[0], rows, axis=axes[0])


def _dot(
    graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
) -> Value:
    (left, right), (left_batch, right_batch) = params["dimension_numbers"]
    ends = (tuple(left), tuple(right)) == ((len(shapes[0]) - 1,), (0,))
    if ends and len(shapes[1]) == 2 and not left_batch:
        return graph.node("MatMul", *x)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    first = [next(letters) for _ in shapes[0]]
    second = [next(letters) for _ in shapes[1]]
    pairs = [*zip(left_batch, right_batch, strict=True)]
    for i, j in [*pairs, *zip(left, right, strict=True)]:
        second[j] = first[i]
    result = [first[i] for i in left_batch]
    result += [a for i, a in enumerate(first) if i not in {*left, *left_batch}]
    result += [a for j, a in enumerate(second) if j not in {*right, *right_batch}]
    equation = f"{''.join(first)},{''.join(second)}->{''.join(result)}"
    return graph.node("Einsum", *x, equation=equation)


def _conv(
    graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
) -> Value:
    numbers = params["dimension_numbers"]
    if params["batch_group_count"] != 1 or set(params["lhs_dilation"]) != {1}:
        raise UntranslatableError(
            "found a convolution in groups of the batch or transposed, accepted is a "
            "plain one"
        )
    image = graph.node("Transpose", x[0], perm=list(numbers.lhs_spec))
    kernel: Value = x[1]
    if isinstance(kernel, np.ndarray):
        kernel = kernel.transpose(numbers.rhs_spec)
    else:
        kernel = graph.node("Transpose", kernel, perm=list(numbers.rhs_spec))
    begins, ends = zip(*params["padding"], strict=True)
    found = graph.node(
        "Conv",
        image,
        kernel,
        strides=list(params["window_strides"]),
        pads=[*begins, *ends],
        dilations=list(params["rhs_dilation"]),
        group=params["feature_group_count"],
    )
    back = np.argsort(numbers.out_spec).tolist()
    return graph.node("Transpose", found, perm=back)


def _pool(kind: str) -> _Operation:
    def pool(
        graph: _Graph, x: list[Value], params: Mapping[str, Any], shapes: Any, out: Any
    ) -> Value:
        window, strides = params["window_dimensions"], params["window_strides"]
        padding = params["padding"]
        free = [
            axis
            for axis in range(len(window))
            if window[axis] == strides[axis] == 1 and padding[axis] == (0, 0)
        ]
        if len(free) < 2 or {*params["base_dilation"], *params["window_dilation"]} != {
            1
        }:
            raise UntranslatableError(
                "found a reduction over dilated windows, accepted is one of pooling"
            )
        order = [*free[:2], *(a for a in range(len(window)) if a not in free[:2])]
        begins, ends = zip(*(padding[axis] for axis in order[2:]), strict=True)
        options: dict[str, Any] = {
            "kernel_shape": [window[axis] for axis in order[2:]],
            "strides": [strides[axis] for axis in order[2:]],
            "pads": [*begins, *ends],
        }
        if kind == "AveragePool":
            options["count_include_pad"] = 1
        found = graph.node(kind, graph.node("Transpose", x[0], perm=order), **options)
        if kind == "AveragePool":
            number = np.asarray(np.prod(options["kernel_shape"]), out.dtype)
            found = graph.node("Mul", found, number)
        return graph.node("Transpose", found, perm=np.argsort(order).tolist())

    return pool


_OPERATIONS: dict[str, _Operation] = {
    "add": _plain("Add"),
    "sub": _plain("Sub"),
    "mul": _plain("Mul"),
    "div": _plain("Div"),
    "max": _plain("Max"),
    "min": _plain("Min"),
    "neg": _plain("Neg"),
    "exp": _plain("Exp"),
    "sqrt": _plain("Sqrt"),
    "pow": _plain("Pow"),
    "ge": _plain("GreaterOrEqual"),
    "square": _square,
    "rsqrt": _rsqrt,
    "erfc": _erfc,
    "integer_pow": _integer_pow,
    "convert_element_type": _convert,
    "stop_gradient": _same,
    "copy": _same,
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "transpose": _transpose,
    "reshape": _reshape,
    "squeeze": _reshape,
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "slice": _slice,
    "gather": _gather,
    "dot_general": _dot,
    "conv_general_dilated": _conv,
    "reduce_window_max": _pool("MaxPool"),
    "reduce_window_sum": _pool("AveragePool"),
}
