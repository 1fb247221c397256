"""A run on other data than its own: moved, joined with other queries, begun anew."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Float32, Int64

from ssah_jax.config import Config
from ssah_jax.data import DataError, ImageSequence, SkippedImages, Source, Split
from ssah_jax.data.source import AnyImage
from ssah_jax.data.understanding import understand
from ssah_jax.run.experiment import Experiment, load_source
from ssah_jax.run.model_info import ModelInfo
from ssah_jax.run.run_encoder import load_encoder
from ssah_jax.run.workdir import Workdir, WorkdirError
from ssah_jax.types import TrainState

_LISTS = ("train.txt", "test.txt", "database.txt")
_PARAMETERS = ("hnet", "anet", "batch_stats", "teacher", "teacher_stats")


class JoinedImages:
    """The images of several sequences of one shape, one after another.

    Attributes:
        names: of all of them.
    """

    def __init__(
        self, sequences: Sequence[ImageSequence], names: Sequence[str]
    ) -> None:
        """Joins them; none is read."""
        self.names = names
        self._sequences = sequences
        self._ends = np.cumsum([len(images) for images in sequences])

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, H, W, ch)`."""
        return (len(self), *self._sequences[0].shape[1:])

    def __len__(self) -> int:
        """How many images, N."""
        return int(self._ends[-1])

    def __getitem__(self, index: int, /) -> AnyImage:
        """Image `index` of 0 .. N - 1."""
        images, place = self._find(index)
        return images[place]

    def encoded(self, index: int, /) -> bytes:
        """Its bytes as stored, or its pixels where nothing is stored."""
        images, place = self._find(index)
        stored = getattr(images, "encoded", None)
        return stored(place) if stored else np.asarray(images[place]).tobytes()

    def _find(self, index: int) -> tuple[ImageSequence, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        start = 0 if not number else int(self._ends[number - 1])
        return self._sequences[number], index - start


def other_sets(
    config: Config,
    info: ModelInfo,
    *,
    own: Experiment | None,
    queries: str | None,
    database: str | None,
) -> Experiment:
    """An experiment whose queries or database are not those of the run.

    Classes are matched by name. Of a data set with parts, queries are part `test`, and
    the database is part `database` or else `train`; of another, all its images.

    Args:
        config: of the run.
        info: of the run.
        own: on its own data; needed where one of the sets is theirs.
        queries: a folder, table or folder of lists; None for the run's own.
        database: likewise.

    Raises:
        ValueError: one line: a data set cannot be read or has images of another shape,
            or no query can be answered.
    """
    loaded: list[tuple[Source, Int64[np.ndarray, n]]] = []
    for given, role, parts in (
        (queries, "query", ("test",)),
        (database, "database", ("database", "train")),
    ):
        if given is None:
            assert own is not None
            if not own.source.num_classes:
                raise DataError(
                    f"--queries, --database: found {queries or database} alone and a "
                    "run on images without labels, accepted are both"
                )
            loaded.append((own.source, getattr(own.split, role)))
            continue
        source = _load(config, given)
        if not source.num_classes:
            raise DataError(
                f"{given}: found images without labels, expected CLASS/ folders, a "
                "table or lists: nothing can be measured without"
            )
        if source.image_shape != info.image_shape:
            raise DataError(
                f"{given}: found images of shape {source.image_shape}, expected "
                f"{info.image_shape} as in training"
            )
        known = [source.parts[p] for p in (*parts, "all") if p in source.parts]
        everything = np.arange(len(source), dtype=np.int64)
        unknown = source.part("unlabelled")
        rows = known[0] if known else np.setdiff1d(everything, unknown)
        loaded.append((source, rows))
    source, (query_rows, database_rows) = _join(loaded, info.class_names)
    nothing = np.zeros(0, np.int64)
    split = Split(
        protocol="other sets",
        seed=config.seed,
        query=query_rows,
        validation=nothing,
        labelled=nothing,
        unlabelled=nothing,
        database=database_rows,
    )
    split.check(source)
    skipped = None
    if config.data.on_error == "skip":
        skipped = SkippedImages(
            num_images=len(source), max_share=config.data.max_skipped
        )
    return Experiment(config, source, split, understand(source, split), skipped)


def _load(config: Config, given: str) -> Source:
    path = Path(given).expanduser()
    lists = path.is_dir() and any((path / name).is_file() for name in _LISTS)
    kind = "list" if lists else "folder"
    data = dataclasses.replace(
        config.data, source=kind, path=str(path), images="", labels="auto"
    )
    return load_source(dataclasses.replace(config, data=data))


def _join(
    loaded: Sequence[tuple[Source, Int64[np.ndarray, "_"]]], class_names: Sequence[str]
) -> tuple[Source, list[Int64[np.ndarray, "_"]]]:
    """One source of the rows of several, and where they are in it."""
    names = list(class_names)
    for source, _ in loaded:
        names += [name for name in source.class_names if name not in names]
    column = {name: index for index, name in enumerate(names)}
    labels: list[Float32[np.ndarray, "n C"]] = []
    files: list[str] = []
    rows, start = [], 0
    for source, members in loaded:
        joined = np.zeros((len(source), len(names)), np.float32)
        joined[:, [column[name] for name in source.class_names]] = source.labels
        labels.append(joined)
        files += source.names or [f"{source.name} {i}" for i in range(len(source))]
        rows.append(members + start)
        start += len(source)
    merged = Source(
        name=" and ".join(dict.fromkeys(source.name for source, _ in loaded)),
        images=JoinedImages([source.images for source, _ in loaded], files),
        labels=np.concatenate(labels),
        parts={"test": rows[0], "database": rows[1]},
        class_names=tuple(names),
        multi_label=any(source.multi_label for source, _ in loaded),
        missing=tuple(name for source, _ in loaded for name in source.missing),
    )
    return merged, rows


def start_from(state: TrainState, earlier: Workdir) -> tuple[TrainState, str]:
    """A first state with all parameters of an earlier run's last checkpoint.

    Optimisers, thresholds and the order of the images begin anew.

    Args:
        state: of a run before its first step.
        earlier: the workdir of another run.

    Returns:
        The state, and a digest of what it took.

    Raises:
        WorkdirError: networks are not of the same shapes, or there is no such run.
    """
    theirs = load_encoder(earlier).state
    taken = {name: jax.device_get(getattr(theirs, name)) for name in _PARAMETERS}
    digest = hashlib.sha256()
    for name in _PARAMETERS:
        here, there = (
            flatten_dict(tree, sep="/") for tree in (getattr(state, name), taken[name])
        )
        for leaf in sorted(here | there):
            ours, other = (
                str(tree[leaf].shape) if leaf in tree else "none"
                for tree in (here, there)
            )
            if ours != other:
                raise WorkdirError(
                    f"--from-run: found {name}/{leaf} of shape {other} in "
                    f"{earlier.path}, accepted is {ours} as in this configuration; "
                    "config.hnet.weights takes the backbone alone"
                )
            digest.update(f"{name}/{leaf}".encode() + np.asarray(there[leaf]).tobytes())
    return dataclasses.replace(state, **taken), digest.hexdigest()


def find_data(config: Config, workdir: Workdir, given: str | None) -> str:
    """Where a run's data lie now, if not where its configuration says.

    Args:
        config: of the run.
        workdir: of the run.
        given: where they have been moved to; None where nobody said so.

    Returns:
        An absolute path, or the empty string for the configuration's own.

    Raises:
        WorkdirError: the source has no path, or the data of a run that has begun are
            in neither place.
    """
    path = config.data.path
    if given is not None:
        if not path:
            raise WorkdirError(
                f"--data: found {given!r}, accepted is none for the source "
                f"{config.data.source}, which has no path"
            )
        return os.path.abspath(Path(given).expanduser())
    if not path or Path(path).expanduser().exists():
        return ""
    # A relative path, and another directory than the run began in.
    recorded = workdir.read_data_path()
    if recorded and Path(recorded).exists():
        return recorded
    if recorded:
        raise WorkdirError(
            f"config.data.path: found nothing at {path} (nor at {recorded}), accepted "
            "is where the data lie; --data=PATH says where they were moved to"
        )
    return ""
