"""`ssah index`: an index of codes, to search them fast."""

import argparse
import os
import time
from pathlib import Path

from ssah_jax.cli.arguments import as_path
from ssah_jax.cli.encode import check_out

# Cheap: they import FAISS and PyArrow when they use them.
from ssah_jax.retrieval.code_files import read_codes
from ssah_jax.retrieval.index import KINDS, OPTIONS, Index, build_index


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah index`."""
    parser.add_argument(
        "codes",
        metavar="CODES",
        type=as_path,
        nargs="+",
        help="files of codes that `ssah encode` wrote with one model, or folders of "
        "them",
    )
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default="flat",
        help="flat compares with every code and is exact (default); hnsw (a graph) and "
        "ivf (cells) are for very many images and find most; multihash finds all "
        "within a radius",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=as_path,
        required=True,
        help="the index to write, such as photos.index",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace FILE if it is there"
    )
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
    from ssah_jax.cli.errors import setting_up
    from ssah_jax.data.images import printable

    names = [name for kind in OPTIONS.values() for name in kind]
    given = {name: getattr(options, name) for name in names}
    started = time.monotonic()
    with setting_up():
        index = index_codes(
            *options.codes,
            out=options.out,
            kind=options.kind,
            overwrite=options.overwrite,
            **{name: value for name, value in given.items() if value is not None},
        )
    settings = "".join(f", {name} {value}" for name, value in index.options.items())
    print(
        f"indexed {len(index.ids)} codes of {index.bits} bits ({index.kind}{settings}) "
        f"in {time.monotonic() - started:.1f} s: {printable(options.out)}"
    )
    return 0


def index_codes(
    *codes: str | os.PathLike[str],
    out: str | os.PathLike[str],
    kind: str = "flat",
    overwrite: bool = False,
    **options: int,
) -> Index:
    """Builds an index of files of codes, and writes it.

    Args:
        codes: files that `ssah_jax.cli.encode.encode_images` wrote with one
            model, such as the shards of several processes, or folders of them.
        out: the file to write, atomically.
        kind: of `ssah_jax.retrieval.index.KINDS`.
        overwrite: whether `out` may be replaced.
        **options: of the kind, see `ssah_jax.retrieval.index.OPTIONS`.

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
    index = build_index(read_codes(*codes), kind=kind, **options)
    index.save(path)
    return index
