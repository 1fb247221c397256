"""What `ssah show` computes of a finished run: neighbours, a map, attention of bits."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, UInt8

from ssah_jax.data import ImageSequence
from ssah_jax.retrieval.files import one_line
from ssah_jax.run import parallel
from ssah_jax.run.code_batches import code_batches
from ssah_jax.run.experiment import Experiment
from ssah_jax.run.frozen_encoder import sample_of
from ssah_jax.run.report import attention, gallery, pictures
from ssah_jax.run.report.run_page import read_object
from ssah_jax.run.run_encoder import RunEncoder
from ssah_jax.run.workdir import Workdir, WorkdirError
from ssah_jax.transforms import fill_value

NUMBER = 3
"""Test queries that are shown where nobody names images."""


@dataclasses.dataclass(frozen=True, eq=False)
class Queries:
    """Images to look at.

    Attributes:
        names: of the n images, for people.
        images: `[n, H, W, ch]`, as in training before any crop.
        labels: multi-hot `[n, C]`; None of images that the run does not know.
    """

    names: Sequence[str]
    images: UInt8[np.ndarray, "n H W ch"]
    labels: Float32[np.ndarray, "n C"] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What is shown of a query.

    Attributes:
        id: its name.
        labels: names of its classes; None if they are not known.
        png: its picture.
        neighbours: of each `id`, `labels`, `png`, `distance` and `hit`, which is None
            where the query's classes are not known.
        view: what the network sees of the image, `[h, w, ch]`.
        flips: of `attention.flips_by_window`.
        places: of `attention.flips_by_place`.
    """

    id: str
    labels: tuple[str, ...] | None
    png: bytes
    neighbours: list[dict[str, Any]]
    view: UInt8[np.ndarray, "h w ch"]
    flips: Bool[np.ndarray, "S G G K"]
    places: Float[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """Everything on the page.

    Attributes:
        answers: of the queries.
        points: of the encoded database images on the plane in which codes vary most,
            `[n, 2]`.
        classes: the first class of each, `[n]`; -1 without any.
        query_points: of the queries on it, `[m, 2]`.
        shares: of the variance, `[2]`.
        num_database: images in the whole database.
    """

    answers: list[Answer]
    points: Float[np.ndarray, "n 2"]
    classes: Int64[np.ndarray, "n"]
    query_points: Float[np.ndarray, "m 2"]
    shares: Float[np.ndarray, "2"]
    num_database: int


def check_finished(workdir: Workdir) -> None:
    """Check that a directory holds a run on images that is finished.

    Raises:
        WorkdirError: it does not.
    """
    config = workdir.read_config()
    if not workdir.results.is_file():
        raise WorkdirError(
            f"{workdir.path}: found a run that is not finished (no results.json), "
            "accepted is a finished one"
        )
    if config.data.source == "features":
        raise WorkdirError(
            f"{workdir.path}: found a run on stored features, accepted is one on images"
        )


def given_queries(encoder: RunEncoder, names: Sequence[str]) -> Queries:
    """Image files, brought to what the encoder takes.

    Raises:
        DataError: one cannot be read.
        ValueError: the run's images are not square.
    """
    files = encoder.image_files(names)
    return Queries(
        [one_line(name) for name in names],
        np.stack([files[i] for i in range(len(names))]),
    )


def queries_of_run(experiment: Experiment, workdir: Workdir) -> Queries:
    """The first of the best, the typical and the worst test queries of the run.

    As its final evaluation found them; without a gallery of it, the first ones, which
    without labels are those of the database.

    Raises:
        DataError: an image cannot be read.
    """
    found = read_object(workdir.path / "gallery" / "gallery.json").get("queries", [])
    first = {query["group"]: query["index"] for query in reversed(found)}
    chosen = {first[group]: f"{group}: " for group in gallery.GROUPS if group in first}
    source, split = experiment.source, experiment.split
    first_ones = split.query if len(split.query) else split.database
    chosen = chosen or dict.fromkeys(first_ones[:NUMBER].tolist(), "")
    rows = np.asarray([*chosen], np.int64)
    return Queries(
        [why + _name(experiment, row) for row, why in chosen.items()],
        np.stack([source.images[row] for row in rows.tolist()]),
        source.labels[rows] if source.num_classes else None,
    )


def look(
    encoder: RunEncoder, experiment: Experiment, queries: Queries, *, sample: int
) -> Shown:
    """Encodes queries, their occlusions and a sample of the database.

    Args:
        encoder: of the run.
        experiment: of the run.
        queries: one or more.
        sample: images of the database at most, 1 or more.

    Raises:
        DataError: an image cannot be read.
    """
    config, source = experiment.config, experiment.source
    step = parallel.pmap_encode_step(config)

    def codes_of(
        images: ImageSequence, indices: Int64[np.ndarray, "n"]
    ) -> tuple[Int64[np.ndarray, "n"], Float32[np.ndarray, "n K"]]:
        batches = code_batches(
            *(step, encoder.state, images, indices),
            config=config,
            skipped=experiment.skipped if images is source.images else None,
        )
        rows, codes = zip(*batches, strict=True)
        return np.concatenate(rows), np.concatenate(codes)

    def codes_of_all(images: UInt8[np.ndarray, "n H W ch"]) -> np.ndarray:
        return codes_of(images, np.arange(len(images)))[1]

    database = experiment.split.database
    chosen = database[sample_of(len(database), sample, seed=config.seed)]
    query_codes = codes_of_all(queries.images)
    rows, codes = codes_of(source.images, chosen)
    distances, nearest = gallery.nearest(query_codes, codes)
    signs, query_signs = (
        np.where(x >= 0, 1.0, -1.0).astype(np.float64) for x in (codes, query_codes)
    )
    axes, shares = attention.principal_plane(signs)
    centre = signs.mean(axis=0, keepdims=True)
    labels = source.labels[rows]
    answers = []
    for i, name in enumerate(queries.names):
        own = None if queries.labels is None else queries.labels[i]
        near = [
            _neighbour(experiment, int(rows[row]), distance, own)
            for row, distance in zip(
                nearest[i].tolist(), distances[i].tolist(), strict=True
            )
        ]
        answers.append(
            Answer(
                name,
                None if own is None else _labels(experiment, own),
                pictures.draw_picture(queries.images[i]),
                near,
                *_attention(experiment, queries.images[i], codes_of_all),
            )
        )
    return Shown(
        answers,
        (signs - centre) @ axes,
        _first_class(labels),
        (query_signs - centre) @ axes,
        shares,
        len(database),
    )


def _attention(
    experiment: Experiment,
    image: UInt8[np.ndarray, "H W ch"],
    encode: attention.Encode,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """View, flips and flips by place of one image."""
    config = experiment.config
    height, width, channels = experiment.image_shape
    # As `transforms.centre_crop`; the step cuts the same square out again.
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    view = image[top : top + height, left : left + width]
    fill = fill_value(
        jax.random.key(config.seed),
        kind=config.anet.fill,
        height=height,
        width=width,
        mean=jnp.broadcast_to(jnp.asarray(config.data.mean), (channels,)),
    )

    def encode_views(views: np.ndarray) -> np.ndarray:
        whole = np.repeat(image[None], len(views), axis=0)
        whole[:, top : top + height, left : left + width] = views
        return encode(whole)

    scales, grid = config.anet.scales, config.anet.grid
    flips = attention.flips_by_window(
        view,
        encode_views,
        fill=np.rint(np.asarray(fill) * 255).astype(np.uint8),
        scales=scales,
        grid=grid,
    )
    masks = attention.window_masks(height, width, scales=scales, grid=grid)
    return view, flips, attention.flips_by_place(flips, masks)


def _neighbour(
    experiment: Experiment, row: int, distance: int, own: np.ndarray | None
) -> dict[str, Any]:
    labels = experiment.source.labels[row]
    return {
        "id": _name(experiment, row),
        "labels": ", ".join(_labels(experiment, labels)) or "no label",
        "png": pictures.draw_picture(experiment.source.images[row]),
        "distance": distance,
        "hit": None if own is None else bool(np.any(own * labels)),
    }


def _name(experiment: Experiment, row: int) -> str:
    names = experiment.source.names
    return one_line(names[row]) if names else str(row)


def _first_class(labels: Float32[np.ndarray, "n C"]) -> Int64[np.ndarray, "n"]:
    if not labels.shape[1]:
        return np.full(len(labels), -1)
    return np.where(labels.any(axis=1), labels.argmax(axis=1), -1)


def _labels(experiment: Experiment, labels: np.ndarray) -> tuple[str, ...]:
    names = experiment.source.class_names
    return tuple(one_line(names[c]) for c in np.flatnonzero(labels).tolist())
