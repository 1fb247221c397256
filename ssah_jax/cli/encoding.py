"""Image files into a file of codes: what `ssah encode` does."""

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from ssah_jax.cli.arguments import check_out
from ssah_jax.cli.fit import (
    check_model_path,
    keep_model,
    unfinished_path,
)
from ssah_jax.cli.images import images_as_in_training
from ssah_jax.cli.two_stages import features_path
from ssah_jax.cli.update import Earlier

# Cheap: it imports PyArrow when it uses it.
from ssah_jax.retrieval.code_writer import CodeWriter
from ssah_jax.retrieval.feature_files import KeptWriter
from ssah_jax.retrieval.files import alone, shard_path

# `ssah encode --help` should not wait for models and data: they are imported where
# they are used, and named in full in annotations.
if TYPE_CHECKING:
    import ssah_jax.data.changes
    import ssah_jax.data.reading
    import ssah_jax.run.frozen_encoder
    import ssah_jax.run.image_encoder

OnError = Literal["skip", "raise"]
"""What becomes of an image that cannot be read: left out and told, or an error."""

ON_ERROR: Final = ("skip", "raise")
"""The words of `OnError`."""

PART_ROWS: Final = 1024
"""Images that a killed process must encode again, at most."""


@dataclasses.dataclass(frozen=True)
class EncodeSummary:
    """What `encode_images` did.

    Attributes:
        path: the file of codes written; of several processes, this one's shard.
        num_encoded: images encoded by this call.
        num_resumed: images whose codes an interrupted call had left.
        unreadable: a line for each image left out: its name, and what is wrong.
        seconds: from the first image to the last.
        changes: of an update, since the file was written.
    """

    path: Path
    num_encoded: int
    num_resumed: int
    unreadable: tuple[str, ...]
    seconds: float
    changes: "ssah_jax.data.changes.Changes | None" = None


def encode_images(
    encoder: "ssah_jax.run.image_encoder.ImageEncoder",
    names: Sequence[str],
    out: str | os.PathLike[str],
    *,
    on_error: OnError = "skip",
    overwrite: bool = False,
    update: bool = False,
    labels: Mapping[str, Sequence[str]] | None = None,
    keep: str | None = None,
    progress: bool = False,
) -> EncodeSummary:
    """Encodes image files into a file of codes.

    Interrupted or killed, it leaves what it has beside `out`, and the same call goes
    on from there; `out` itself appears when it is complete. What another call left,
    one that was given images that this one is not, is discarded. Of several JAX
    processes each encodes an equal share of the images into a shard of its own, as
    `ssah_jax.retrieval.shard_path` calls it.

    Args:
        encoder: from `ssah_jax.run.encoder.load_encoder`.
        names: paths of the images, such as those of `find_names`; also their ids.
        out: the file to write, as `ssah_jax.retrieval.code_files` describes it.
        on_error: "skip" leaves out images that cannot be read; "raise" stops at one.
        overwrite: whether `out` may be replaced.
        update: whether `out`, if it is there, is to keep the codes of images that are
            still what they were; it becomes what encoding all of them would give. Of
            one process.
        labels: names of what an image shows, by its name; None where nothing is known,
            and of an update for those that are known.
        keep: type, of `ssah_jax.retrieval.feature_files.STORED`, in which features
            are kept beside `out`; None keeps none, and of an update those that are
            there.
        progress: whether to draw a progress bar on standard error.

    Returns:
        What was done, with a line for each image left out.

    Raises:
        DataError: an image cannot be read and `on_error` is "raise", or none can.
        ValueError: `out` is there already or cannot be written, or the encoder's
            images are not square; or of an update, `out` is of another model, or of
            none of the images, or there are several processes.
    """
    import jax
    from tqdm import tqdm

    from ssah_jax.data.changes import file_states
    from ssah_jax.data.reading import SkippedImages
    from ssah_jax.data.source import DataError
    from ssah_jax.run.frozen_encoder import FrozenEncoder

    if on_error not in ON_ERROR:
        raise ValueError(f"on_error: found {on_error!r}, expected skip or raise")
    processes = jax.process_count()
    path, names = _own_share(out, names)
    check_out(path, overwrite=overwrite, update=update)
    if update and processes > 1:
        raise ValueError(f"--update: found {processes} processes, accepted is one")
    if isinstance(encoder, FrozenEncoder):
        fingerprint = encoder.fingerprint
        check_model_path(out, fingerprint=fingerprint, overwrite=overwrite)
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.enter_context(alone(path))
        states = file_states(names)
        earlier = None
        if update and path.exists():
            earlier = Earlier.compare(path, encoder, names, states, keep=keep)
            keep = None if earlier.features is None else earlier.features.stored
            if earlier.stays(names, labels):
                seconds = time.monotonic() - started
                return EncodeSummary(path, 0, 0, (), seconds, earlier.changes)
        overwrite = overwrite or earlier is not None
        writer = stack.enter_context(
            _open_writer(encoder, path, names, states, overwrite=overwrite)
        )
        resumed = len(writer.done)
        kept = stack.enter_context(_open_kept(encoder, path, keep, rows=resumed))
        if earlier:
            resumed -= len(writer.done & earlier.changes.rows.keys())
            earlier.write_kept(writer, kept, labels=labels)
        pending = [name for name in names if name not in writer.done]
        skipped = SkippedImages(num_images=len(pending), max_share=1.0)
        bar = stack.enter_context(
            tqdm(
                total=len(names),
                initial=len(names) - len(pending),
                unit=" images",
                disable=not progress,
            )
        )
        encoded = _write_codes(
            encoder,
            pending,
            writer,
            kept,
            states=states,
            labels=labels,
            skipped=skipped,
            on_error=on_error,
            tell=bar.update,
        )
        # Of several processes, the share of one may be empty or all unreadable.
        if processes == 1 and not writer.done:
            raise DataError(
                f"found none of {len(names)} images readable"
                + (f" (the first: {skipped.reasons[0]})" if skipped.reasons else "")
            )
        if isinstance(encoder, FrozenEncoder) and jax.process_index() == 0:
            keep_model(encoder, out)
        if kept is not None:
            kept.finish([*writer.done])
        writer.finish(order=names if earlier else None)
        unfinished_path(out).unlink(missing_ok=True)
    return EncodeSummary(
        path=path,
        num_encoded=encoded,
        num_resumed=resumed,
        unreadable=tuple(skipped.reasons),
        seconds=time.monotonic() - started,
        changes=earlier.changes if earlier else None,
    )


def _own_share(
    out: str | os.PathLike[str], names: Sequence[str]
) -> tuple[Path, list[str]]:
    """The file and the images of this process, each image once."""
    import jax

    path, names = Path(out), list(dict.fromkeys(names))
    index, processes = jax.process_index(), jax.process_count()
    if processes == 1:
        return path, names
    return shard_path(path, index, processes), names[index::processes]


def _write_codes(
    encoder: "ssah_jax.run.image_encoder.ImageEncoder",
    pending: Sequence[str],
    writer: CodeWriter,
    kept: KeptWriter | None,
    *,
    states: "Mapping[str, ssah_jax.data.changes.FileState]",
    labels: Mapping[str, Sequence[str]] | None,
    skipped: "ssah_jax.data.reading.SkippedImages",
    on_error: OnError,
    tell: Callable[[int], object],
) -> int:
    """Encodes images and writes codes, and features where they are kept; how many."""
    from ssah_jax.data.changes import digest, stamp_of
    from ssah_jax.run.frozen_encoder import FrozenEncoder

    digests: dict[int, tuple[int, bytes]] = {}
    seen = encoder.features.stamps if isinstance(encoder, FrozenEncoder) else {}

    def note(index: int, content: bytes) -> None:
        digests[index] = len(content), digest(content)

    encode: Any = encoder.encode if kept is None else encoder.encode_both
    encoded = 0
    for indices, codes, *features in encode(
        images_as_in_training(encoder, pending).watched(note),
        skipped=skipped if on_error == "skip" else None,
    ):
        ids = [pending[index] for index in indices.tolist()]
        known = [labels.get(name) for name in ids] if labels else None
        # Of what was read to learn from, as it was then.
        stamps = [
            seen.get(pending[index])
            or stamp_of(states.get(pending[index]), *digests.pop(index))
            for index in indices.tolist()
        ]
        # Before the codes: what is written of these has its features.
        if kept is not None:
            kept.write(*features)
        writer.write(ids, codes, labels=known, stamps=stamps)
        encoded += len(ids)
        tell(len(ids))
    return encoded


def _open_writer(
    encoder: "ssah_jax.run.image_encoder.ImageEncoder",
    path: Path,
    names: Sequence[str],
    states: "Mapping[str, ssah_jax.data.changes.FileState]",
    *,
    overwrite: bool,
) -> CodeWriter:
    """A writer that goes on where a call with the same images was interrupted."""
    from ssah_jax.data.changes import is_other

    open_writer = functools.partial(
        CodeWriter,
        path,
        bits=encoder.bits,
        fingerprint=encoder.fingerprint,
        overwrite=overwrite,
        part_rows=PART_ROWS,
    )
    writer = open_writer()
    # The file would hold images that nobody asked for, or codes of what they were.
    outdated = any(is_other(n, s, states.get(n)) for n, s in writer.stamps.items())
    if outdated or not writer.done <= set(names):
        return open_writer(resume=False)
    return writer


def _open_kept(
    encoder: "ssah_jax.run.image_encoder.ImageEncoder",
    path: Path,
    keep: str | None,
    *,
    rows: int,
) -> contextlib.AbstractContextManager[KeptWriter | None]:
    """A writer of the features beside the codes, if they are kept, after `rows`."""
    if keep is None:
        return contextlib.nullcontext()
    return KeptWriter(
        features_path(path),
        stored=keep,
        width=encoder.feature_width,
        fingerprint=encoder.fingerprint,
        rows=rows,
    )
