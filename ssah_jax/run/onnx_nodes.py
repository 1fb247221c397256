"""Nodes and constants of a graph of ONNX, as they come."""

from typing import Any

import numpy as np


class UntranslatableError(ValueError):
    """The function has an operation that there is no translation for."""


Value = np.ndarray | str
"""A constant, or the name of what a node computes."""


def element_type(helper: Any, dtype: Any) -> int:
    """ONNX's number of a dtype.

    Raises:
        UntranslatableError: of bfloat16.
    """
    if np.dtype(dtype).name == "bfloat16":
        raise UntranslatableError("found bfloat16, accepted is float32")
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


class Graph:
    """Collects the nodes and constants of one model."""

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
        """Adds a conversion of the dtype; returns its name."""
        return self.node("Cast", x, to=element_type(self._helper, dtype))

    def batch(self) -> str:
        """The number of images, int64 `[1]`."""
        if not self._batch:
            self._batch = self.node("Shape", "images", start=0, end=1)
        return self._batch
