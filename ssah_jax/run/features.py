"""Features of a whole data set by a frozen backbone: computed once, then trained on."""

import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float32, Int64
from tqdm import tqdm

from ssah_jax.data import ImageSequence, SkippedImages, Source, eval_batches
from ssah_jax.data.feature_writer import FeatureWriter
from ssah_jax.data.features import FeatureOrigin, source_digest
from ssah_jax.run import parallel
from ssah_jax.run.extractor import Extractor, extract, extract_cropped, feature_width
from ssah_jax.run.view_recipe import ViewRecipe, draw_views
from ssah_jax.types import Params


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
        return extract_cropped(variables, flat, backbone, image_size, dtype)

    return parallel.pmap_apply(several if recipe is not None else one_view)


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
    resize = str(config["data"]["resize"])
    origin = _origin(extractor, source, recipe, stored=stored, resize=resize)
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


def _origin(
    extractor: Extractor,
    source: Source,
    recipe: ViewRecipe | None,
    *,
    stored: str,
    resize: str,
) -> FeatureOrigin:
    """What the features depend on."""
    return FeatureOrigin(
        backbone=extractor.backbone,
        weights_sha256=extractor.sha256,
        image_size=extractor.image_size,
        dtype=extractor.dtype,
        stored=stored,
        source=source.name,
        source_digest=source_digest(source),
        crop_size=extractor.crop_size,
        resize=resize,
        views=recipe.number if recipe else 1,
        view_recipe=recipe.digest if recipe else "",
    )
