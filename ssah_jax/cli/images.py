"""Which images the arguments of a command mean."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# `ssah encode --help` should not wait for models and data: they are imported where
# they are used, and named in full in annotations.
if TYPE_CHECKING:
    import ssah_jax.data.encoded
    import ssah_jax.data.finding
    import ssah_jax.run.image_encoder


_TOLD = 10
"""Repeated names that are told one by one."""


def find_and_tell(arguments: Sequence[str], repeated: list[str]) -> list[str]:
    """`find_names`, with a line on standard error if anything was passed over.

    Of many repeated names, as of a folder given twice, the first few are told.
    """
    from ssah_jax.data.finding import PassedOver, describe_passed_over

    passed_over = PassedOver()
    names = find_names(arguments, repeated=repeated, passed_over=passed_over)
    if more := repeated[_TOLD:]:
        repeated[_TOLD:] = [f"{len(more):,} more names of the same files left out"]
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
    from ssah_jax.data.source import DataError
    from ssah_jax.data.spelling import file_identity
    from ssah_jax.retrieval.files import one_line

    aside = passed_over if passed_over is not None else PassedOver()
    names = list(dict.fromkeys(n for a in arguments for n in _expand(a, aside)))
    if not names:
        described = describe_passed_over(aside.counts)
        raise DataError(
            f"{one_line(' '.join(arguments))}: found no images"
            f"{f' ({described})' if described else ''}, expected at least one"
        )
    first: dict[object, str] = {}
    for name in names:
        known = first.setdefault(file_identity(name) or name, name)
        if known != name and repeated is not None:
            repeated.append(f"{one_line(name)}: is {one_line(known)}, left out")
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


def _expand(
    argument: str, passed_over: "ssah_jax.data.finding.PassedOver"
) -> Iterable[str]:
    from ssah_jax.data.finding import find_images
    from ssah_jax.data.listing import read_bytes
    from ssah_jax.data.source import DataError
    from ssah_jax.retrieval.files import one_line

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
        f"{one_line(argument)}: found no such file or folder, expected images"
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
