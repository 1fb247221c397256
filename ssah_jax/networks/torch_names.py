"""Names of PyTorch's tensors, and the variables of a backbone that they become.

A table has one row for each kind of layer: a regular expression of the layer's name in
PyTorch, our name for it, and what its tensors are. Between them the rows of a backbone
name every tensor of the files that torchvision, timm and the authors publish. Each
stands in the file of its network.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

Transform = Callable[[np.ndarray], np.ndarray]


def same(x: np.ndarray) -> np.ndarray:
    """The array as it is."""
    return x


def conv(x: np.ndarray) -> np.ndarray:
    """Kernel `[out, in, H, W]` to `[H, W, in, out]`."""
    return x.transpose(2, 3, 1, 0) if x.ndim == 4 else x


def dense(x: np.ndarray) -> np.ndarray:
    """Matrix `[out, in]`, or a 1x1 convolution's, to `[in, out]`."""
    return rows(x, 1)


def rows(x: np.ndarray, side: int) -> np.ndarray:
    """The matrix behind a flattened map: from channels first to channels last.

    PyTorch's columns (or an equivalent convolution `[out, in, side, side]`) count
    channels, rows, columns; our rows count rows, columns, channels.
    """
    if x.ndim not in (2, 4) or not x.size or x[0].size % side**2:
        return x  # Its shape will be found wrong.
    x = x.reshape(len(x), -1, side, side)
    return x.transpose(2, 3, 1, 0).reshape(-1, len(x))


@dataclasses.dataclass(frozen=True)
class Leaf:
    """What one tensor of a layer becomes; `path` is empty for what is left out."""

    suffix: str
    path: tuple[str, ...] = ()
    transform: Transform = same


def affine(kernel: Transform, prefix: str = ".") -> tuple[Leaf, ...]:
    """A kernel, made ours by `kernel`, and a bias; `prefix` is of their suffixes."""
    return (
        Leaf(f"{prefix}weight", ("params", "{}", "kernel"), kernel),
        Leaf(f"{prefix}bias", ("params", "{}", "bias")),
    )


CONV = affine(conv)
DENSE = affine(dense)
IN_PROJECTION = affine(dense, r".in_proj_")
LAYER_NORM = (
    Leaf(".weight", ("params", "{}", "scale")),
    Leaf(".bias", ("params", "{}", "bias")),
)
# Each domain starts from the pretrained statistics.
BATCH_NORM = (
    *LAYER_NORM,
    *(
        Leaf(torch, ("batch_stats", "{}", f"stats_{domain}", ours))
        for torch, ours in ((".running_mean", "mean"), (".running_var", "var"))
        for domain in ("clean", "generated")
    ),
    Leaf(".num_batches_tracked"),
)
PARAMETER = (Leaf("", ("params", "{}")),)
DROPPED = (Leaf(""),)

Rule = tuple[str, str, tuple[Leaf, ...]]

Table = Callable[[], Iterator[Rule]]
"""Makes the rows of a backbone."""
