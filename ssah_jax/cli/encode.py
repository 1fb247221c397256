"""`ssah encode`: codes of images, by a trained run."""

import argparse
import contextlib
import dataclasses
import functools
import glob
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from ssah_jax.cli.arguments import add_overwrite, as_images, as_path
from ssah_jax.cli.encoders import (
    add_encoder,
    check_encoder,
    load_encoder,
    model_path,
)
from ssah_jax.cli.fit import (
    check_model_path,
    keep_model,
    learn,
    make_encoder,
    unfinished_path,
)
from ssah_jax.cli.several import add_processes
from ssah_jax.cli.two_stages import features_path
from ssah_jax.cli.update import Earlier, describe_changes, labels_of

# Cheap: it imports PyArrow when it uses it.
from ssah_jax.retrieval.code_writer import CodeWriter
from ssah_jax.retrieval.feature_files import KeptWriter
from ssah_jax.retrieval.files import CodeFileError, shard_path, unusable

# `ssah encode --help` should not wait for models and data: they are imported where
# they are used, and named in full in annotations.
if TYPE_CHECKING:
    import ssah_jax.data.changes
    import ssah_jax.data.finding
    import ssah_jax.data.images
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah encode`."""
    parser.epilog = (
        "An image is called by its path as given: a relative one stays relative.\n"
        "Interrupted, the same command goes on where it was."
    )
    add_encoder(parser, backbone=True)
    parser.add_argument(
        "images",
        metavar="IMAGES",
        type=as_images,
        nargs="+",
        help="image files, folders (with all below them), quoted patterns such as "
        "'photos/**/*.jpg', or @FILE with a path a line",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=as_path,
        required=True,
        help="the file of codes to write, such as codes.parquet",
    )
    parser.add_argument(
        "--on-error",
        choices=ON_ERROR,
        default="skip",
        help="images that cannot be read: leave them out and list them at the end "
        "(default), or stop",
    )
    parser.add_argument(
        "--keep",
        choices=("float16", "int8"),
        help="also keep the backbone's features, in a file beside FILE, for `ssah "
        "search --rerank`",
    )
    parser.add_argument(
        "--labels",
        metavar="folders|TABLE",
        type=as_path,
        help="keep what images show: the names of class folders, or a table with the "
        "columns path and labels (.csv, .tsv, .parquet)",
    )
    there = parser.add_mutually_exclusive_group()
    there.add_argument(
        "--update",
        action="store_true",
        help="if FILE is there, encode only what is new or changed since, drop what "
        "is gone, and keep the rest",
    )
    add_overwrite(there)
    add_processes(parser)


def run(options: argparse.Namespace) -> int:
    """Runs `ssah encode`.

    Args:
        options: of the arguments above.

    Returns:
        0.

    Raises:
        UserError: arguments, run, images or file of codes do not fit; or there is no
            readable image.
        DataError: an image cannot be read, with `--on-error raise`.
    """
    from ssah_jax.cli.errors import UserError, setting_up
    from ssah_jax.data.images import printable

    with setting_up():
        check_encoder(options)
        # All that can be told before the seconds that loading a model takes.
        repeated: list[str] = []
        names = find_and_tell(options.images, repeated)
        check_out(Path(options.out), overwrite=options.overwrite, update=options.update)
        labels = None
        if options.labels:
            labels = labels_of(names, options.labels, arguments=options.images)
        if options.keep and options.workdir is not None:
            raise UserError(
                "--keep: found a run, whose network has no features to keep, accepted "
                "are --backbone, --like and --model"
            )
        if options.keep and options.update:
            raise UserError("--keep: found --update too, accepted is --overwrite")
        if options.keep:
            check_out(features_path(options.out), overwrite=options.overwrite)
        encoder, sample = _encoder(options, names)
        images_as_in_training(encoder, names)
    if sample:
        learn(
            cast("ssah_jax.run.frozen_encoder.FrozenEncoder", encoder),
            sample,
            out=options.out,
            seed=options.seed or 0,
            skip=options.on_error == "skip",
        )
        print(
            f"learnt {options.binarise or 'itq'} of {encoder.bits} bits from "
            f"{len(sample)} images: {printable(str(model_path(options.out)))}"
        )
    try:
        summary = encode_images(
            encoder,
            names,
            options.out,
            on_error=options.on_error,
            overwrite=options.overwrite,
            update=options.update,
            labels=labels,
            keep=options.keep,
            progress=sys.stderr.isatty(),
        )
    except CodeFileError as error:
        raise UserError(str(error)) from error
    for line in [*repeated, *summary.unreadable]:
        print(line, file=sys.stderr)
    count, left_out = summary.num_encoded, len(summary.unreadable)
    resumed = f" and {summary.num_resumed} before" if summary.num_resumed else ""
    rate = f" ({count / summary.seconds:.0f} a second)" if count else ""
    unread = f", {left_out} unreadable" if left_out else ""
    print(
        f"encoded {count} images{resumed} in {summary.seconds:.1f} s{rate}{unread}: "
        f"{printable(str(summary.path))}"
    )
    if summary.changes is not None:
        print(describe_changes(summary.changes))
    return 0


def _encoder(
    options: argparse.Namespace, names: Sequence[str]
) -> tuple["ssah_jax.run.image_encoder.ImageEncoder", list[str]]:
    """The encoder that options ask for, and images that it has yet to learn from."""
    from ssah_jax.run.frozen_encoder import FrozenEncoder

    if options.backbone is None:
        encoder = load_encoder(options)
        if isinstance(encoder, FrozenEncoder):
            check_model_path(
                options.out,
                fingerprint=encoder.fingerprint,
                overwrite=options.overwrite,
            )
        return encoder, []
    sample = None
    if options.fit is not None and not options.fit.isdecimal():
        sample = find_names([as_images(options.fit)])
    return make_encoder(options, names, sample)


def find_and_tell(arguments: Sequence[str], repeated: list[str]) -> list[str]:
    """`find_names`, with a line on standard error if anything was passed over."""
    from ssah_jax.data.finding import PassedOver, describe_passed_over

    passed_over = PassedOver()
    names = find_names(arguments, repeated=repeated, passed_over=passed_over)
    if aside := describe_passed_over(passed_over.counts):
        print(f"{len(names):,} images; passed over: {aside}", file=sys.stderr)
    return names


def find_names(
    arguments: Sequence[str],
    *,
    repeated: list[str] | None = None,
    passed_over: "ssah_jax.data.finding.PassedOver | None" = None,
) -> list[str]:
    """The images that arguments of a command mean.

    Args:
        arguments: each a file; a folder, for all images below it (by suffix, see
            `ssah_jax.data.finding.find_images`); a pattern as of `glob`, `**` included,
            where no file has that name; or `@FILE`, a text file with the path of an
            image a line (or with a null byte after each, as `find -print0` writes
            them), taken as they are. Relative paths are relative to the working
            directory. `./@x.jpg` means a file `@x.jpg`.
        repeated: takes a line for each name left out because an earlier one is of the
            same file, spelled otherwise.
        passed_over: counts what was left out of folders.

    Returns:
        Paths as given, those below a folder with the folder as given before them; in
        the order given, each file once, by its first name.

    Raises:
        DataError: there is nothing of such a name, or no image at all.
    """
    from ssah_jax.data.finding import PassedOver, describe_passed_over
    from ssah_jax.data.images import printable
    from ssah_jax.data.source import DataError
    from ssah_jax.data.spelling import file_identity

    aside = passed_over if passed_over is not None else PassedOver()
    names = list(dict.fromkeys(n for a in arguments for n in _expand(a, aside)))
    if not names:
        described = describe_passed_over(aside.counts)
        raise DataError(
            f"{printable(' '.join(arguments))}: found no images"
            f"{f' ({described})' if described else ''}, expected at least one"
        )
    first: dict[object, str] = {}
    for name in names:
        known = first.setdefault(file_identity(name) or name, name)
        if known != name and repeated is not None:
            repeated.append(f"{printable(name)}: is {printable(known)}, left out")
    return list(first.values())


def images_as_in_training(
    encoder: "ssah_jax.run.image_encoder.ImageEncoder", names: Sequence[str]
) -> "ssah_jax.data.encoded.EncodedImages":
    """Image files of any size and format, brought to what the encoder takes.

    Args:
        encoder: of a run on square images.
        names: N paths, relative to the working directory or absolute.

    Returns:
        Images `[N, H, W, ch]`, each cropped or squashed as the run's own were.

    Raises:
        ValueError: the run's images are not square, or are stored features.
    """
    return encoder.image_files(names)


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
            are kept beside `out`, of an encoder of a frozen backbone; None keeps none.
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

    from ssah_jax.data.changes import digest, file_states, stamp_of
    from ssah_jax.data.reading import SkippedImages
    from ssah_jax.data.source import DataError
    from ssah_jax.run.code_model import CodeModel
    from ssah_jax.run.frozen_encoder import FrozenEncoder

    if on_error not in ON_ERROR:
        raise ValueError(f"on_error: found {on_error!r}, expected skip or raise")
    path, names = Path(out), list(dict.fromkeys(names))
    processes = jax.process_count()
    if processes > 1:
        path = shard_path(path, jax.process_index(), processes)
        names = names[jax.process_index() :: processes]
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
            earlier = Earlier.compare(path, encoder, names, states)
            if earlier.stays(names, labels):
                seconds = time.monotonic() - started
                return EncodeSummary(path, 0, 0, (), seconds, earlier.changes)
        writer = stack.enter_context(
            _open_writer(
                encoder, path, names, states, overwrite=overwrite or bool(earlier)
            )
        )
        resumed = len(writer.done)
        if earlier:
            resumed -= len(writer.done & earlier.changes.rows.keys())
            earlier.write_kept(writer, labels)
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
        digests: dict[int, tuple[int, bytes]] = {}
        before = encoder.features.stamps if isinstance(encoder, FrozenEncoder) else {}

        def note(index: int, content: bytes) -> None:
            digests[index] = len(content), digest(content)

        kept = None
        encode: Any = encoder.encode
        if keep is not None:
            assert isinstance(encoder, FrozenEncoder) and not earlier
            encode = encoder.encode_both
            kept = stack.enter_context(
                KeptWriter(
                    features_path(path),
                    stored=keep,
                    width=len(cast(CodeModel, encoder.model).binariser.mean),
                    fingerprint=encoder.fingerprint,
                    rows=len(writer.done),
                )
            )
        encoded = 0
        for indices, codes, *features in encode(
            images_as_in_training(encoder, pending).watched(note),
            skipped=skipped if on_error == "skip" else None,
        ):
            ids = [pending[index] for index in indices.tolist()]
            known = [labels.get(name) for name in ids] if labels else None
            # Of what was read to learn from, as it was then.
            stamps = [
                before.get(pending[index])
                or stamp_of(states.get(pending[index]), *digests.pop(index))
                for index in indices.tolist()
            ]
            # Before the codes: what is written of these has its features.
            if kept is not None:
                kept.write(*features)
            writer.write(ids, codes, labels=known, stamps=stamps)
            encoded += len(ids)
            bar.update(len(ids))
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


def check_out(path: Path, *, overwrite: bool, update: bool | None = None) -> None:
    """Checks that a command may write a file, before it does anything else.

    Args:
        path: the file.
        overwrite: whether it may be replaced.
        update: whether it may be brought up to date; None for a command that cannot.

    Raises:
        ValueError: it is there already, is a folder, or there is no folder for it.
    """
    from ssah_jax.data.images import printable

    where = printable(str(path))
    if path.is_dir():
        raise ValueError(f"{where}: found a folder, expected the name of a file")
    if not path.parent.is_dir():
        raise ValueError(f"{where}: found no folder to write it in, expected one")
    if path.exists() and not overwrite and not update:
        instead = "bring it up to date with --update, or " if update is False else ""
        raise ValueError(
            f"{where}: is there already; {instead}replace it with --overwrite"
        )


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keeps other processes from writing the same file, which would mix their rows."""
    from filelock import FileLock, Timeout

    from ssah_jax.data.images import printable

    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise CodeFileError(
            f"{printable(str(path))}: another process is writing it, accepted is one "
            "at a time"
        ) from error
    except OSError as error:
        raise unusable(path, error, "a place to write to") from error
    try:
        yield
    finally:
        # While it is held: what others open from here on is a new one.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


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


def _expand(
    argument: str, passed_over: "ssah_jax.data.finding.PassedOver"
) -> Iterable[str]:
    from ssah_jax.data.finding import find_images
    from ssah_jax.data.images import printable
    from ssah_jax.data.listing import read_bytes
    from ssah_jax.data.source import DataError

    if argument.startswith("@"):
        return lines_of(read_bytes(Path(argument[1:])))
    if os.path.isdir(argument):
        return _below(argument, find_images(Path(argument), passed_over=passed_over))
    # A link that leads nowhere is an image that cannot be read, not a slip.
    if os.path.lexists(argument):
        return [argument]
    if glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True), key=os.fsencode)
        return [m for m in matches if not os.path.isdir(m)]
    raise DataError(
        f"{printable(argument)}: found no such file or folder, expected images"
    )


def lines_of(content: bytes) -> Iterator[str]:
    """Names of a list: one a line, or each with a null byte after it."""
    null = b"\0" in content
    for line in content.split(b"\0" if null else b"\n"):
        name = line if null else line.removesuffix(b"\r")
        if name:
            yield os.fsdecode(name)


def _below(folder: str, names: Iterable[str]) -> Iterator[str]:
    return (os.path.join(folder, name) for name in names)
