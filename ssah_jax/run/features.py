"""Features of a whole data set by a frozen backbone: computed once, then trained on."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int64, Key, UInt8
from tqdm import tqdm

from ssah_jax import pacing, transforms
from ssah_jax.config import Config
from ssah_jax.data import ImageSequence, SkippedImages, Source, eval_batches
from ssah_jax.data.features import FeatureOrigin, FeatureWriter, source_digest
from ssah_jax.method.stored_views import number_weak
from ssah_jax.method.views import clean_view, draw_hard, to_float, weak_view
from ssah_jax.networks import SMALLEST_IMAGE, pretrained
from ssah_jax.networks.backbones import SPECS, build_backbone
from ssah_jax.networks.weight_tables import CONVERTIBLE, WeightsError, convert
from ssah_jax.run import parallel
from ssah_jax.types import DeformationLogits, Params


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
    return _features(variables, x, backbone, image_size, dtype)


def _features(
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


@dataclasses.dataclass(frozen=True)
class ViewRecipe:
    """Several views of each image, as `ssah_jax.method.stored_views` orders them.

    Attributes:
        number: V, at least 1.
        config: whose weak augmentation, family of deformations and seed they have.
    """

    number: int
    config: Config

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of all that the views after the first depend on."""
        if self.number == 1:
            return ""
        data, anet, config = self.config.data, self.config.anet, self.config
        windows = (anet.scales, anet.grid, anet.fill, data.mean)
        angles = (anet.blocks, anet.angle_bins, anet.max_degrees, anet.border)
        seen = (config.seed, data.crop_size, data.max_shift, data.flip, windows, angles)
        return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]

    def check(self) -> None:
        """Check that views differ from each other.

        Raises:
            ValueError: there is no weak augmentation to draw several by.
        """
        data = self.config.data
        weak = data.crop_size or data.max_shift or data.flip
        if number_weak(self.number) > 1 and not weak:
            raise ValueError(
                f"--views: found {self.number} without any weak augmentation, accepted "
                "is a configuration with data.crop_size, data.max_shift or data.flip"
            )


def draw_views(
    key: Key[Array, ""],
    image: UInt8[Array, "H W ch"] | Float[Array, "H W ch"],
    *,
    recipe: ViewRecipe,
) -> Float[Array, "V h w ch"]:
    """The views of one image, in [0, 1]: itself, weakly augmented ones, hard samples.

    Args:
        key: consumed.
        image: `[H, W, ch]`.
        recipe: how many, and how they are drawn.
    """
    config, anet = recipe.config, recipe.config.anet
    bins = anet.angle_bins if anet.max_degrees else 1
    uniform = DeformationLogits(
        scale=jnp.zeros(len(anet.scales)),
        position=jnp.zeros((len(anet.scales), anet.grid, anet.grid)),
        angle=jnp.zeros((anet.blocks, bins)),
    )
    number = number_weak(recipe.number)
    keys = jax.random.split(key, recipe.number)
    weak = [clean_view(image[None], config=config)[0]]
    for each in keys[1:number]:
        weak.append(weak_view(jax.random.split(each, 3)[:2], image, config=config))
    # No pace will follow them: the whole family.
    pace = pacing.init_pace(config.pace.start, config.pace.target, reach=1.0)
    hard = [
        draw_hard(each, view, uniform, pace=pace, config=config)[0]
        for each, view in zip(keys[number:], weak, strict=False)
    ]
    return jnp.stack(weak + hard)


def compute_features(
    extractor: Extractor,
    images: ImageSequence,
    indices: Int64[np.ndarray, "N"] | None = None,
    *,
    batch_size: int = 64,
    threads: int = 4,
    skipped: SkippedImages | None = None,
    recipe: ViewRecipe | None = None,
) -> Iterator[tuple[Float32[np.ndarray, "n D"], Bool[np.ndarray, "n"]]]:
    """Features of images, a batch at a time, on the devices of this process.

    Every batch has one shape, so there is one compilation.

    Args:
        extractor: the backbone.
        images: where they are.
        indices: which of them, `[N]`, in any order; all of them if None.
        batch_size: images at once, rounded up to a multiple of the devices.
        threads: that decode batches ahead, where images are not in memory.
        skipped: takes images that cannot be read; None makes them an error.
        recipe: of views, which depend on an image's index alone; None is one, the
            image itself.

    Yields:
        Features `[n, D]`, or `[n, V D]` of V views after each other, and which of the
        n images could be read; the features of others mean nothing.

    Raises:
        DataError: an image cannot be read, or too many cannot.
        ValueError: the backbone does not take images of this shape.
    """
    extractor.check_images(tuple(images.shape[1:]))
    devices = jax.local_device_count()
    batch_size = -(-batch_size // devices) * devices
    step = _extract_step(
        extractor.backbone,
        extractor.image_size,
        extractor.crop_size,
        extractor.dtype,
        recipe,
    )
    variables = parallel.replicate(extractor.variables)
    if indices is None:
        indices = np.arange(len(images))
    batches = eval_batches(
        images, indices, batch_size=batch_size, threads=threads, skipped=skipped
    )
    for number, (batch, readable) in enumerate(batches):
        start = number * batch_size
        # Of the last batch, without what it was filled up with.
        size = min(batch_size, len(indices) - start)
        which = np.zeros(batch_size, np.uint32)
        which[:size] = indices[start : start + size]
        found = np.asarray(step(variables, parallel.shard((batch, which))))
        yield found.reshape(len(batch), -1)[:size], readable[:size]


@functools.cache
def _extract_step(
    backbone: str,
    image_size: int,
    crop_size: int,
    dtype: str,
    recipe: ViewRecipe | None,
) -> parallel.ApplyStep:
    """The same function each time, so that it is compiled once."""

    def one_view(variables: Params, batch: tuple[Array, Array]) -> Array:
        return extract(
            variables,
            batch[0],
            backbone=backbone,
            image_size=image_size,
            crop_size=crop_size,
            dtype=dtype,
        )

    def several(variables: Params, batch: tuple[Array, Array]) -> Array:
        assert recipe is not None
        images, indices = batch
        root = jax.random.key(recipe.config.seed)
        keys = jax.vmap(functools.partial(jax.random.fold_in, root))(indices)
        views = jax.vmap(functools.partial(draw_views, recipe=recipe))(keys, images)
        flat = views.reshape(-1, *views.shape[2:])
        return _features(variables, flat, backbone, image_size, dtype)

    return parallel.pmap_apply(several if recipe is not None else one_view)


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


def write_features(
    extractor: Extractor,
    source: Source,
    out: str | os.PathLike[str],
    *,
    config: Mapping[str, Any],
    stored: str = "float16",
    batch_size: int = 64,
    threads: int = 4,
    max_skipped: float | None = None,
    versions: Mapping[str, str] | None = None,
    recipe: ViewRecipe | None = None,
    said: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> tuple[int, int]:
    """Computes the features of a data set into a directory; resumes where it stopped.

    Interrupted or killed, it leaves what it has beside `out`, and the same call goes
    on from there; `out` itself appears when it is complete.

    Args:
        extractor: the backbone.
        source: the N images.
        out: the directory to write, as `ssah_jax.data.features` describes it.
        config: of the images, nested; kept, for whoever wants to look at them again.
        stored: type that features are kept in, one of `ssah_jax.data.features.STORED`.
        batch_size: as of `compute_features`.
        threads: as of `compute_features`.
        max_skipped: share of images that may be unreadable; None makes one an error.
        versions: of what computes; kept.
        recipe: of views of each image; None keeps one, the image itself.
        said: what was understood of the data set; kept.
        progress: whether to draw a progress bar on standard error.

    Returns:
        How many images this call computed features of, and D.

    Raises:
        DataError: there are other features or other things, an image cannot be read,
            a feature is no number, or the directory cannot be written.
        ValueError: the backbone does not take such images.
    """
    width = feature_width(extractor, source.image_shape)
    origin = FeatureOrigin(
        backbone=extractor.backbone,
        weights_sha256=extractor.sha256,
        image_size=extractor.image_size,
        dtype=extractor.dtype,
        stored=stored,
        source=source.name,
        source_digest=source_digest(source),
        crop_size=extractor.crop_size,
        resize=str(config["data"]["resize"]),
        views=recipe.number if recipe else 1,
        view_recipe=recipe.digest if recipe else "",
    )
    with FeatureWriter(out, source, origin, width=width) as writer:
        first = writer.rows
        if writer.complete:
            return 0, width
        skipped = None
        if max_skipped is not None:
            skipped = SkippedImages(num_images=len(source), max_share=max_skipped)
            for index, reason in writer.unreadable.items():
                skipped.add(index, reason)
        bar = tqdm(
            total=len(source), initial=first, unit=" images", disable=not progress
        )
        batches = compute_features(
            extractor,
            source.images,
            np.arange(first, len(source)),
            batch_size=batch_size,
            threads=threads,
            skipped=skipped,
            recipe=recipe,
        )
        with bar:
            for features, readable in batches:
                bad = writer.rows + np.flatnonzero(~readable)
                if skipped is not None:
                    reasons = skipped.by_index
                    writer.unreadable |= {i: reasons[i] for i in bad.tolist()}
                writer.write(features, readable)
                bar.update(len(features))
        writer.finish(
            weights=extractor.weights,
            config=config,
            versions=dict(versions or {}),
            said=said or {},
        )
    return len(source) - first, width
