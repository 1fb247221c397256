"""Every record that crosses a module border, and the letters of their shapes.

Letters, here and in every signature of the package:

| letter | meaning |
| --- | --- |
| `B` | images in a batch (`L` labelled, `U` unlabelled where both appear) |
| `K` | bits of a code |
| `C` | classes |
| `D` | width of the backbone's feature |
| `H W ch` | pixel rows, pixel columns, channels |
| `S` | occlusion window scales |
| `G` | cells a side of the grid of window positions |
| `A` | independently rotated blocks (1 whole image, 4 quadrants) |
| `N` | angle bins of one block, or rows of a database where no angle is near |
| `M` | columns of a pair matrix (the codes a batch is compared with) |
| `Q` | queries |

Images are uint8 `[H, W, ch]` on disk and on the wire, float in [0, 1] inside the
step. Labels are multi-hot float `[B, C]` in {0, 1}; a single label is a special
case. `u` is H-Net's real output `[B, K]`; the code is +1 where `u >= 0`, else -1.
"""

import dataclasses
from typing import Any, ClassVar, TypeVar, dataclass_transform, no_type_check

import jax
from jaxtyping import Array, Float, Int, Key, UInt8

Params = Any
"""A pytree of arrays: parameters, statistics or optimiser moments."""

R = TypeVar("R", bound="Record")


@dataclass_transform(frozen_default=True)
class Record:
    """Makes of its subclasses frozen dataclasses that are pytrees.

    All fields are leaves or trees of them, each under its own name in a key path.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __init_subclass__(cls) -> None:
        # JAX calls the constructor with whatever a transformation puts at the leaves:
        # shapes, shardings, axes, None. So the checker of the tests stays out of it;
        # functions that take records are checked.
        no_type_check(cls)
        jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))

    def replace(self: R, **changes: Any) -> R:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


class Batch(Record):
    """One training batch, global or one device's share of it.

    Labels of unlabelled images are absent by construction, not masked out.

    Attributes:
        image: labelled images, uint8 `[L, H, W, ch]`.
        label: their labels, multi-hot `[L, C]` in {0, 1}.
        unlabelled: unlabelled images, uint8 `[U, H, W, ch]`.
        spread: what labels that spread over the graph of images say of them, `[U, C]`
            in [0, 1]; None where nothing asks for it.
    """

    image: UInt8[Array, "L H W ch"]
    label: Float[Array, "L C"]
    unlabelled: UInt8[Array, "U H W ch"]
    spread: Float[Array, "U C"] | None = None


class BatchRows(Record):
    """The same batch where all images lie on the device: which of them it holds.

    Attributes:
        labelled: rows of the pool, `[L]`.
        unlabelled: rows of the pool, `[U]`.
    """

    labelled: Int[Array, "L"]
    unlabelled: Int[Array, "U"]


class ImagePool(Record):
    """All images of a data set, on the device.

    Attributes:
        images: uint8 `[N, H, W, ch]`.
        labels: multi-hot `[N, C]` in {0, 1}; those of unlabelled images are not read.
        spread: see `Batch`, `[N, C]`.
    """

    images: UInt8[Array, "N H W ch"]
    labels: Float[Array, "N C"]
    spread: Float[Array, "N C"] | None = None


class HashOutputs(Record):
    """What H-Net says of a batch.

    Attributes:
        code: real-valued codes u, `[B, K]`, any real; their sign is the code.
        feature: the backbone's feature, `[B, D]`.
    """

    code: Float[Array, "B K"]
    feature: Float[Array, "B D"]


class DeformationLogits(Record):
    """A-Net's output for a batch: unnormalised log-probabilities.

    Attributes:
        scale: over window scales, `[*B, S]`.
        position: over window positions, a grid for each scale, `[*B, S, G, G]`.
        angle: over angle bins, for each rotated block, `[*B, A, N]`.
    """

    scale: Float[Array, "*B S"]
    position: Float[Array, "*B S G G"]
    angle: Float[Array, "*B A N"]


class Deformation(Record):
    """One drawn deformation of one image (a leading `B` once vmapped).

    Attributes:
        scale: one-hot over window scales, `[*B, S]`; straight-through gradient. All 0
            for no window.
        position: one-hot over each scale's grid, `[*B, S, G, G]`; likewise.
        angle: rotation of each block in radians, counter-clockwise, `[*B, A]`.
    """

    scale: Float[Array, "*B S"]
    position: Float[Array, "*B S G G"]
    angle: Float[Array, "*B A"]


class PaceState(Record):
    """The self-paced threshold and what its update needs.

    Attributes:
        threshold: lambda, how hard samples are to be on average, a share of bits in
            (0, 0.5].
        window: how far occlusions reach for that, a share of the family's, (0, 1].
        angle: how far rotations do.
        recognised: running mean of the share of them that H-Net recognises, [0, 1];
            of several draws, of the first, the share that its teacher does.
    """

    threshold: Float[Array, ""]
    window: Float[Array, ""]
    angle: Float[Array, ""]
    recognised: Float[Array, ""]


class AlignmentState(Record):
    """Running class marginals, for distribution alignment of pseudo-labels.

    Attributes:
        prior: share of labelled images that carry each class, `[C]` in [0, 1].
        predicted: the teacher's mean posterior on unlabelled images, `[C]`.
    """

    prior: Float[Array, "C"]
    predicted: Float[Array, "C"]


class TrainState(Record):
    """All that training carries from step to step; all of it is checkpointed.

    Attributes:
        step: completed steps.
        key: the root key; never split, only folded with the step.
        hnet: H-Net's parameters; under "classifier" also those of a hash loss that
            trains one, `[C, K]`.
        anet: A-Net's parameters.
        batch_stats: H-Net's running normalisation statistics ({} without any).
        teacher: exponential moving average of `hnet`; what evaluation uses.
        teacher_stats: the same average of `batch_stats`.
        hnet_opt: H-Net's optimiser state.
        anet_opt: A-Net's optimiser state.
        centres: class centres, `[C, K]`: fixed in {-1, +1}, or running class means of
            a hash loss without centres.
        ties: bits of a centre on which an image's labels disagree, `[K]` in {-1, +1}.
        bank: a `losses.CodeBank` of earlier labelled codes ({} without one).
        pace: the self-paced threshold, and how far deformations reach.
        alignment: class marginals of the pseudo-labels.
    """

    step: Int[Array, ""]
    key: Key[Array, ""]
    hnet: Params
    anet: Params
    batch_stats: Params
    teacher: Params
    teacher_stats: Params
    hnet_opt: Params
    anet_opt: Params
    centres: Float[Array, "C K"]
    ties: Float[Array, "K"]
    bank: Params
    pace: PaceState
    alignment: AlignmentState


Metrics = dict[str, Float[Array, ""]]
"""Scalars that leave a step, each already reduced over the global batch."""
