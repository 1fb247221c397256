"""What each operation of a jaxpr is in ONNX."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ssah_jax.run.onnx_nodes import Graph, UntranslatableError, Value


class Equation(NamedTuple):
    """One operation to translate.

    Attributes:
        x: what it is applied to, constants or names.
        params: JAX's, of the primitive.
        shapes: of `x`; what depends on the batch is no int.
        out: shape and dtype of the result.
    """

    x: list[Value]
    params: Mapping[str, Any]
    shapes: list[tuple[Any, ...]]
    out: Any


Operation = Callable[[Graph, Equation], Value]


def _ints(values: Sequence[Any]) -> np.ndarray:
    return np.asarray(values, np.int64)


def _sizes(shape: Sequence[Any]) -> np.ndarray:
    """A shape for Reshape: what depends on the batch is left for it to find."""
    return _ints([d if isinstance(d, int) else -1 for d in shape])


def _plain(kind: str) -> Operation:
    return lambda graph, e: graph.node(kind, *e.x)


def _same(graph: Graph, e: Equation) -> Value:
    return e.x[0]


def _convert(graph: Graph, e: Equation) -> Value:
    return graph.cast(e.x[0], e.params["new_dtype"])


def _square(graph: Graph, e: Equation) -> Value:
    return graph.node("Mul", e.x[0], e.x[0])


def _rsqrt(graph: Graph, e: Equation) -> Value:
    return graph.node("Reciprocal", graph.node("Sqrt", e.x[0]))


def _erfc(graph: Graph, e: Equation) -> Value:
    one = np.ones((), e.out.dtype)
    return graph.node("Sub", one, graph.node("Erf", e.x[0]))


def _integer_pow(graph: Graph, e: Equation) -> Value:
    return graph.node("Pow", e.x[0], np.asarray(e.params["y"], e.out.dtype))


def _reduce(kind: str) -> Operation:
    def reduce(graph: Graph, e: Equation) -> Value:
        return graph.node(kind, e.x[0], _ints(e.params["axes"]), keepdims=0)

    return reduce


def _transpose(graph: Graph, e: Equation) -> Value:
    return graph.node("Transpose", e.x[0], perm=list(e.params["permutation"]))


def _reshape(graph: Graph, e: Equation) -> Value:
    return graph.node("Reshape", e.x[0], _sizes(e.out.shape))


def _broadcast(graph: Graph, e: Equation) -> Value:
    places = e.params["broadcast_dimensions"]
    small: list[Any] = [1] * len(e.out.shape)
    for place, size in zip(places, e.shapes[0], strict=True):
        small[place] = size
    spread = graph.node("Reshape", e.x[0], _sizes(small))
    if tuple(small) == tuple(e.out.shape):
        return spread
    # A 1 keeps what is there; only a batch that is new has to be asked for.
    wanted: list[str] = [
        graph.batch()
        if not isinstance(size, int) and small[place] == 1
        else graph.constant(_ints([size if isinstance(size, int) else 1]))
        for place, size in enumerate(e.out.shape)
    ]
    return graph.node("Expand", spread, graph.node("Concat", *wanted, axis=0))


def _concatenate(graph: Graph, e: Equation) -> Value:
    return graph.node("Concat", *e.x, axis=e.params["dimension"])


def _slice(graph: Graph, e: Equation) -> Value:
    steps = e.params["strides"] or (1,) * len(e.out.shape)
    rows = zip(
        e.params["start_indices"],
        e.params["limit_indices"],
        e.shapes[0],
        steps,
        strict=True,
    )
    cut = [
        (start, end, axis, step)
        for axis, (start, end, size, step) in enumerate(rows)
        if (start, end, step) != (0, size, 1)
    ]
    if not cut:
        return e.x[0]
    return graph.node("Slice", e.x[0], *map(_ints, zip(*cut, strict=True)))


def _gather(graph: Graph, e: Equation) -> Value:
    """Known rows along one axis: what a slice is of an array of any batch."""
    numbers, indices = e.params["dimension_numbers"], e.x[1]
    (*axes,) = numbers.start_index_map
    whole = [
        size == whole
        for axis, (size, whole) in enumerate(
            zip(e.params["slice_sizes"], e.shapes[0], strict=True)
        )
        if axis not in axes
    ]
    if (
        isinstance(indices, str)
        or len(axes) != 1
        or e.params["slice_sizes"][axes[0]] != 1
        or numbers.operand_batching_dims
        or not all(whole)
    ):
        raise UntranslatableError("found a gather, accepted is one of known rows")
    rows = indices[..., 0].astype(np.int64)
    kept = tuple(numbers.collapsed_slice_dims) != (axes[0],)
    others = [d for d in range(len(e.out.shape)) if d not in numbers.offset_dims]
    if kept or others != list(range(axes[0], axes[0] + rows.ndim)):
        raise UntranslatableError("found a gather, accepted is one of known rows")
    return graph.node("Gather", e.x[0], rows, axis=axes[0])


def _dot(graph: Graph, e: Equation) -> Value:
    (left, right), (left_batch, right_batch) = e.params["dimension_numbers"]
    ends = (tuple(left), tuple(right)) == ((len(e.shapes[0]) - 1,), (0,))
    if ends and len(e.shapes[1]) == 2 and not left_batch:
        return graph.node("MatMul", *e.x)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    first = [next(letters) for _ in e.shapes[0]]
    second = [next(letters) for _ in e.shapes[1]]
    pairs = [*zip(left_batch, right_batch, strict=True)]
    for i, j in [*pairs, *zip(left, right, strict=True)]:
        second[j] = first[i]
    result = [first[i] for i in left_batch]
    result += [a for i, a in enumerate(first) if i not in {*left, *left_batch}]
    result += [a for j, a in enumerate(second) if j not in {*right, *right_batch}]
    equation = f"{''.join(first)},{''.join(second)}->{''.join(result)}"
    return graph.node("Einsum", *e.x, equation=equation)


def _conv(graph: Graph, e: Equation) -> Value:
    numbers = e.params["dimension_numbers"]
    if e.params["batch_group_count"] != 1 or set(e.params["lhs_dilation"]) != {1}:
        raise UntranslatableError(
            "found a convolution in groups of the batch or transposed, accepted is a "
            "plain one"
        )
    image = graph.node("Transpose", e.x[0], perm=list(numbers.lhs_spec))
    kernel: Value = e.x[1]
    if isinstance(kernel, np.ndarray):
        kernel = kernel.transpose(numbers.rhs_spec)
    else:
        kernel = graph.node("Transpose", kernel, perm=list(numbers.rhs_spec))
    begins, ends = zip(*e.params["padding"], strict=True)
    found = graph.node(
        "Conv",
        image,
        kernel,
        strides=list(e.params["window_strides"]),
        pads=[*begins, *ends],
        dilations=list(e.params["rhs_dilation"]),
        group=e.params["feature_group_count"],
    )
    back = np.argsort(numbers.out_spec).tolist()
    return graph.node("Transpose", found, perm=back)


def _pool(kind: str) -> Operation:
    def pool(graph: Graph, e: Equation) -> Value:
        window, strides = e.params["window_dimensions"], e.params["window_strides"]
        padding = e.params["padding"]
        free = [
            axis
            for axis in range(len(window))
            if window[axis] == strides[axis] == 1 and padding[axis] == (0, 0)
        ]
        if len(free) < 2 or {
            *e.params["base_dilation"],
            *e.params["window_dilation"],
        } != {1}:
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
        found = graph.node(kind, graph.node("Transpose", e.x[0], perm=order), **options)
        if kind == "AveragePool":
            number = np.asarray(np.prod(options["kernel_shape"]), e.out.dtype)
            found = graph.node("Mul", found, number)
        return graph.node("Transpose", found, perm=np.argsort(order).tolist())

    return pool


OPERATIONS: dict[str, Operation] = {
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
"""By the name of JAX's primitive."""
