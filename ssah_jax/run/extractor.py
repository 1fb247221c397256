"""A frozen backbone with weights of others, and the features that it computes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

from ssah_jax import transforms
from ssah_jax.method.views import to_float
from ssah_jax.networks import SMALLEST_IMAGE, pretrained
from ssah_jax.networks.backbones import SPECS, build_backbone
from ssah_jax.networks.weight_tables import CONVERTIBLE, WeightsError, convert
from ssah_jax.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
    """A frozen backbone with weights of others.

    Attributes:
        backbone: one of `weight_tables.CONVERTIBLE`.
        variables: its parameters and statistics.
        weights: where they came from.
        sha256: of the file that they came from.
        image_size: images are resized to so many pixels a side; 0 leaves them.
        crop_size: before that, the middle of so many pixels is cut out; 0 for all.
        dtype: of the computation.
    """

    backbone: str
    variables: Params
    weights: str
    sha256: str
    image_size: int = 0
    crop_size: int = 0
    dtype: str = "float32"

    def check_images(self, shape: tuple[int, ...]) -> None:
        """Check that the backbone takes images of a shape `(H, W, ch)`.

        Raises:
            ValueError: they are too small, or their sides or channels do not fit.
        """
        height, width, channels = shape
        if self.crop_size > min(height, width):
            raise ValueError(
                f"config.data.crop_size: found {self.crop_size}, accepted is at most "
                f"the {min(height, width)} pixels of the images"
            )
        if channels not in (1, 3):
            raise ValueError(f"images: found {channels} channels, accepted are 1 and 3")
        sides = (height, width)
        for size in (self.crop_size, self.image_size):
            sides = (size, size) if size else sides
        multiple, least = SPECS[self.backbone].multiple, SMALLEST_IMAGE[self.backbone]
        if min(sides) < least or any(side % multiple for side in sides):
            divisible = f", multiples of {multiple}" if multiple > 1 else ""
            raise ValueError(
                f"--image-size: found images of {sides[0]} x {sides[1]} pixels, "
                f"accepted for {self.backbone} are sides of at least {least}{divisible}"
            )

    def check_weights(self, spec: str, sha256: str, *, whose: str) -> None:
        """Check that its weights are those that features were computed with before.

        Raises:
            ValueError: they are others.
        """
        if self.sha256 != sha256:
            raise ValueError(
                f"--weights: found {spec} with sha256 {self.sha256[:16]}, "
                f"accepted is the file of the {whose}, {sha256[:16]}"
            )


def load_extractor(
    backbone: str,
    weights: str = "default",
    *,
    image_size: int = 0,
    crop_size: int = 0,
    dtype: str = "float32",
) -> Extractor:
    """A frozen backbone, its weights downloaded if need be.

    Args:
        backbone: one of `weight_tables.CONVERTIBLE`.
        weights: as for `ssah_jax.networks.pretrained.locate`, or "default".
        image_size: as of `Extractor`.
        crop_size: as of `Extractor`.
        dtype: as of `Extractor`, "float32" or "bfloat16".

    Raises:
        WeightsError: no weights are known for the backbone, or they cannot be had or
            do not fit it.
    """
    if backbone not in CONVERTIBLE:
        raise WeightsError(
            f"--backbone: found {backbone}, accepted are {', '.join(CONVERTIBLE)}, "
            "for which others' weights exist"
        )
    spec = SPECS[backbone].weights if weights == "default" else weights
    path = pretrained.locate(spec)
    variables = convert(backbone, pretrained.read_tensors(path))
    sha256 = pretrained.digest(path)
    return Extractor(backbone, variables, spec, sha256, image_size, crop_size, dtype)


def extract(
    variables: Params,
    image: UInt8[Array, "B H W ch"] | Float[Array, "B H W ch"],
    *,
    backbone: str,
    image_size: int = 0,
    crop_size: int = 0,
    dtype: str = "float32",
) -> Float32[Array, "B D"]:
    """Features of a batch, as a frozen H-Net computes them of the same images.

    Args:
        variables: the backbone's.
        image: uint8 `[B, H, W, ch]`, or float in [0, 1]; a single channel is repeated.
        backbone: one of `backbones.BACKBONES`.
        image_size: as of `Extractor`.
        crop_size: as of `Extractor`.
        dtype: as of `Extractor`.

    Returns:
        The backbone's features `[B, D]`, by running statistics.
    """
    x = to_float(image)
    if crop_size:
        x = jax.vmap(functools.partial(transforms.centre_crop, size=crop_size))(x)
    return extract_cropped(variables, x, backbone, image_size, dtype)


def extract_cropped(
    variables: Params,
    x: Float[Array, "B H W ch"],
    backbone: str,
    image_size: int,
    dtype: str,
) -> Float32[Array, "B D"]:
    """Features of images in [0, 1] that are cropped already."""
    spec = SPECS[backbone]
    if image_size:
        shape = (len(x), image_size, image_size, x.shape[-1])
        x = jax.image.resize(x, shape, "linear")
    if x.shape[-1] == 1:
        x = jnp.repeat(x, len(spec.mean), axis=-1)
    mean = jnp.asarray(spec.mean).reshape(1, 1, 1, -1)
    std = jnp.asarray(spec.std).reshape(1, 1, 1, -1)
    network = build_backbone(backbone, dtype=dtype)
    found = network.apply(variables, (x - mean) / std, domain="clean", train=False)
    return jnp.asarray(found, jnp.float32)


def feature_width(extractor: Extractor, shape: tuple[int, ...]) -> int:
    """D of the features of images of a shape `(H, W, ch)`.

    Raises:
        ValueError: the backbone does not take such images.
    """
    extractor.check_images(shape)
    found = jax.eval_shape(
        functools.partial(
            extract,
            backbone=extractor.backbone,
            image_size=extractor.image_size,
            crop_size=extractor.crop_size,
        ),
        extractor.variables,
        jax.ShapeDtypeStruct((1, *shape), np.uint8),
    )
    return int(found.shape[1])
