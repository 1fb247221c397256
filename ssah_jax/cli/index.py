"""`ssah index`: an index of codes, to search them fast."""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from ssah_jax.cli.arguments import add_overwrite, as_images, as_path, check_out
from ssah_jax.cli.images import lines_of
from ssah_jax.cli.two_stages import features_path

# Cheap: they import FAISS and PyArrow when they use them.
from ssah_jax.retrieval.code_files import read_codes
from ssah_jax.retrieval.feature_files import (
    KeptFeatures,
    read_features,
    write_features,
)
from ssah_jax.retrieval.files import CodeFileError, alone, find_files, one_line
from ssah_jax.retrieval.index import (
    KINDS,
    OPTIONS,
    Index,
    build_index,
    check_fingerprint,
    load_index,
    with_rows,
)
from ssah_jax.retrieval.rows import added, without


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah index`."""
    parser.add_argument(
        "codes",
        metavar="CODES",
        type=as_path,
        nargs="*",
        help="files of codes that `ssah encode` wrote with one model, or folders of "
        "them",
    )
    parser.add_argument(
        "--add",
        metavar="CODES",
        type=as_path,
        nargs="+",
        default=[],
        help="instead of building an index: add these codes to FILE; an image that it "
        "has already gets its new code and labels",
    )
    parser.add_argument(
        "--remove",
        metavar="ID",
        type=as_images,
        nargs="+",
        default=[],
        help="remove images from FILE: their ids, which are the paths that they were "
        "encoded by, or @LIST with an id a line",
    )
    parser.add_argument(
        "--kind",
        choices=KINDS,
        help="flat compares with every code and is exact (default); hnsw (a graph) and "
        "ivf (cells) are for very many images and find most; multihash finds all "
        "within a radius",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=as_path,
        required=True,
        help="the index to write, such as photos.index; with --add or --remove, the "
        "one to change",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="also join the features that lie beside CODES into one file beside FILE; "
        "--add then joins those of more codes",
    )
    add_overwrite(parser)
    for kind, options in OPTIONS.items():
        if options:
            group = parser.add_argument_group(f"of --kind {kind}")
        for name, what in options.items():
            group.add_argument(
                f"--{name.replace('_', '-')}", metavar="N", type=int, help=what
            )


def run(options: argparse.Namespace) -> int:
    """Runs `ssah index`.

    Args:
        options: of the arguments above.

    Returns:
        0.

    Raises:
        UserError: arguments or files do not fit, or the index cannot be written.
    """
    from ssah_jax.cli.errors import UserError, setting_up
    from ssah_jax.retrieval.files import one_line

    names = [name for kind in OPTIONS.values() for name in kind]
    given = {name: getattr(options, name) for name in names}
    started = time.monotonic()
    if options.add or options.remove:
        with setting_up():
            for name, value in {"CODES": options.codes, **given}.items():
                if value:
                    raise UserError(f"{name}: not with --add or --remove")
            if options.kind or options.overwrite or options.keep:
                raise UserError(
                    "--kind, --overwrite, --keep: not with --add or --remove"
                )
            index, counts = change_index(
                options.out, add=options.add, remove=ids_of(options.remove)
            )
        print(
            f"{counts} in {time.monotonic() - started:.1f} s, {len(index.ids)} codes "
            f"now: {one_line(options.out)}"
        )
        return 0
    with setting_up():
        if not options.codes:
            raise UserError("CODES: found none, expected files of codes to index")
        index = index_codes(
            *options.codes,
            out=options.out,
            kind=options.kind or "flat",
            overwrite=options.overwrite,
            keep=options.keep,
            **{name: value for name, value in given.items() if value is not None},
        )
    settings = "".join(f", {name} {value}" for name, value in index.options.items())
    print(
        f"indexed {len(index.ids)} codes of {index.bits} bits ({index.kind}{settings}) "
        f"in {time.monotonic() - started:.1f} s: {one_line(options.out)}"
    )
    return 0


def index_codes(
    *codes: str | os.PathLike[str],
    out: str | os.PathLike[str],
    kind: str = "flat",
    overwrite: bool = False,
    keep: bool = False,
    **options: int,
) -> Index:
    """Builds an index of files of codes, and writes it.

    Args:
        codes: files that `ssah_jax.cli.encoding.encode_images` wrote with one
            model, such as the shards of several processes, or folders of them.
        out: the file to write, atomically.
        kind: of `ssah_jax.retrieval.index_kinds.KINDS`.
        overwrite: whether `out` may be replaced.
        keep: whether to join the features beside the codes in a file beside `out`.
        **options: of the kind, see `ssah_jax.retrieval.index_kinds.OPTIONS`.

    Returns:
        The index.

    Raises:
        ValueError: codes, kind or options do not fit; or `out` is there already or
            cannot be written.
    """
    path = Path(out)
    check_out(path, overwrite=overwrite)
    if path.exists() and any(Path(c).exists() and path.samefile(c) for c in codes):
        raise ValueError("--out: found one of the files of codes, accepted is another")
    kept, theirs = features_path(path), beside(codes)
    # Of codes and an index of one name they are the same file.
    keep = keep and kept not in theirs
    if keep:
        check_out(kept, overwrite=overwrite)
    elif kept.exists() and kept not in theirs:
        raise ValueError(
            f"{one_line(kept)}: found features where those of the index would lie, "
            "accepted is --keep, or another --out"
        )
    index = build_index(read_codes(*codes), kind=kind, **options)
    if keep:
        features = _read_beside(codes)
        if features.fingerprint != index.fingerprint:
            raise CodeFileError(
                f"{one_line(theirs[0])}: found features of model "
                f"{features.fingerprint}, expected {index.fingerprint} as of the codes"
            )
        write_features(kept, features.of(index.ids))
    index.save(path)
    return index


def beside(codes: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Where the features of files of codes lie, if there are any."""
    return [features_path(file) for path in codes for file in find_files(Path(path))]


def _read_beside(codes: Sequence[str | os.PathLike[str]]) -> KeptFeatures:
    """The features beside files of codes.

    Raises:
        CodeFileError: there are none beside one of them, or they do not fit.
    """
    paths = beside(codes)
    for path in paths:
        if not path.is_file():
            raise CodeFileError(
                f"--keep: found no {one_line(path)} beside the codes, expected what "
                "`ssah encode --keep` leaves"
            )
    return read_features(*paths)


def ids_of(arguments: Sequence[str]) -> list[str]:
    """Ids that arguments mean: each itself, or `@FILE` with an id a line.

    Raises:
        DataError: there is no such file.
    """
    from ssah_jax.data.listing import read_bytes

    found: list[str] = []
    for argument in arguments:
        if argument.startswith("@"):
            found += lines_of(read_bytes(Path(argument[1:])))
        else:
            found.append(argument)
    return found


def change_index(
    path: str | os.PathLike[str],
    *,
    add: Sequence[str | os.PathLike[str]] = (),
    remove: Sequence[str] = (),
) -> tuple[Index, str]:
    """Removes images from an index, adds others, and writes it, atomically.

    Args:
        path: of the index.
        add: files of codes of its model; images that it has get their new codes. If
            it has features beside it, so must they.
        remove: ids of images that it has.

    Returns:
        The index, and what was done in words.

    Raises:
        ValueError: codes are of another model, there is no such image, none would be
            left, or the index cannot be read or written.
    """
    with alone(Path(path)):
        index = load_index(path)
        codes, replaced = index.code_set(), 0
        if remove:
            codes = without(codes, remove, name=index.name)
        before = len(codes.ids)
        if add:
            new = read_codes(*add)
            check_fingerprint(index, new.fingerprint)
            codes = added(codes, new)
            replaced = before + len(new.ids) - len(codes.ids)
        changed, kept = with_rows(index, codes), features_path(Path(path))
        # First: rows that the index does not know yet, or no more, do no harm.
        if add and kept.is_file():
            write_features(kept, _read_beside(add).after(read_features(kept)))
        changed.save(path)
    counts = {
        "added": len(codes.ids) - before,
        "replaced": replaced,
        "removed": len(index.ids) - before,
    }
    return changed, ", ".join(f"{word} {count}" for word, count in counts.items())
