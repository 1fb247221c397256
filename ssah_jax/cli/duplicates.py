"""`ssah duplicates`: groups of images whose codes are alike."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ssah_jax.cli.arguments import add_root, as_images, as_path, check_html, write_html
from ssah_jax.cli.encoders import add_encoder, check_encoder, load_encoder
from ssah_jax.cli.found import Hit, QueryResult, as_table
from ssah_jax.cli.images import find_and_tell, images_as_in_training
from ssah_jax.retrieval.code_files import CodeSet, pack_codes, read_codes
from ssah_jax.retrieval.duplicates import comparisons, distances_to, groups
from ssah_jax.retrieval.files import CodeFileError
from ssah_jax.retrieval.index import load_index

if TYPE_CHECKING:
    import ssah_jax.data.reading
    import ssah_jax.run.image_encoder

PAGE_GROUPS: Final = 200
"""Groups that the page shows; the table and JSON have all."""

PAGE_IMAGES: Final = 24
"""Images of a group that the page shows."""

_MANY: Final = 3 * 10**9
"""Comparisons that take about a minute."""

_BATCH: Final = 64


@dataclasses.dataclass(frozen=True)
class Group:
    """Images that are alike.

    Attributes:
        images: two or more; distances are to the first. With new images the first is
            one of them, and the others are indexed ones, nearest first.
    """

    images: tuple[Hit, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah duplicates`."""
    parser.epilog = (
        "Codes say what images show as their model was taught to see it: equal codes\n"
        "are candidates, and the page (--html) is for looking. Without --new, images\n"
        "are also in one group if others lie between them."
    )
    parser.add_argument(
        "codes",
        metavar="FILE",
        type=as_path,
        help="a file of codes, or an index",
    )
    parser.add_argument(
        "--distance",
        metavar="D",
        type=int,
        default=0,
        help="the greatest Hamming distance of two that are alike, in bits (default: "
        "0, equal codes)",
    )
    parser.add_argument(
        "--new",
        metavar="IMAGES",
        type=as_images,
        nargs="+",
        default=[],
        help="look for each of these images (files, folders, patterns, @LIST) among "
        "those of FILE instead; needs what encoded FILE",
    )
    add_encoder(parser, required=False)
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object a group"
    )
    parser.add_argument(
        "--html",
        metavar="PAGE",
        type=as_path,
        help=f"also write a page with thumbnails of the first {PAGE_GROUPS} groups",
    )
    add_root(parser)


def run(options: argparse.Namespace) -> int:
    """Runs `ssah duplicates`.

    Args:
        options: of the arguments above.

    Returns:
        0, or 1 if some new images could not be read.

    Raises:
        UserError: arguments, file, run, images or page do not fit.
    """
    from ssah_jax.cli.errors import UserError, setting_up
    from ssah_jax.data.reading import SkippedImages

    with setting_up():
        check_encoder(options)
        if bool(options.new) != bool(options.workdir or options.like or options.model):
            raise UserError(
                "--new: expected together with one of --workdir, --like and --model"
            )
        check_html(options.html)
        repeated: list[str] = []
        names = find_and_tell(options.new, repeated) if options.new else []
        codes = read_codes_or_index(options.codes)
        if not 0 <= options.distance < codes.bits:
            raise UserError(
                f"--distance: found {options.distance}, accepted is 0 to "
                f"{codes.bits - 1} of the code's {codes.bits} bits"
            )
        encoder = None
        if options.new:
            encoder = load_encoder(options)
            _check_model(encoder, codes, options.codes)
            images_as_in_training(encoder, names)
    skipped = SkippedImages(num_images=len(names), max_share=1.0)
    if encoder is None:
        _tell_if_long(codes, options.distance)
        found = duplicates(codes, distance=options.distance)
    else:
        found = find_new(encoder, codes, names, options.distance, skipped)
    if options.html:
        _write_page(options, found)
    for number, group in enumerate(found, start=1):
        if options.json:
            print(json.dumps(as_json(group)))
        else:
            print(as_text(group, number))
    images = sum(len(group.images) for group in found)
    among = f"{len(names)} new ones and {len(codes.ids)}" if names else len(codes.ids)
    # Not among the objects.
    print(
        f"{len(found)} groups of {images} images, among {among}, within distance "
        f"{options.distance}",
        file=sys.stderr if options.json else sys.stdout,
    )
    sys.stdout.flush()
    for line in [*repeated, *skipped.reasons]:
        print(line, file=sys.stderr)
    return 1 if skipped.reasons else 0


def read_codes_or_index(path: str) -> CodeSet:
    """The codes in a file of codes or in an index, told apart by content.

    Raises:
        CodeFileError: it is neither.
    """
    try:
        with open(path, "rb") as file:
            is_index = file.read(2) == b"PK"
    except OSError:
        is_index = False
    return load_index(path).code_set() if is_index else read_codes(path)


def duplicates(codes: CodeSet, *, distance: int = 0) -> list[Group]:
    """Groups of images whose codes are alike.

    Args:
        codes: N images.
        distance: the greatest Hamming distance of two that are alike, 0 .. K - 1.

    Returns:
        Groups of two or more, by their first image; images in the order of `codes`.

    Raises:
        ValueError: `distance` is none of these.
    """
    found = []
    for rows in groups(codes.packed, bits=codes.bits, radius=distance):
        away = distances_to(codes.packed[rows[0]], codes.packed[rows])
        found.append(Group(_hits(codes, rows.tolist(), away.tolist())))
    return found


def find_new(
    encoder: "ssah_jax.run.image_encoder.ImageEncoder",
    codes: CodeSet,
    names: Sequence[str],
    distance: int,
    skipped: "ssah_jax.data.reading.SkippedImages | None" = None,
) -> list[Group]:
    """New images that are like some that are there.

    Args:
        encoder: of the model of `codes`.
        codes: N images.
        names: paths of the new ones.
        distance: the greatest Hamming distance of two that are alike.
        skipped: takes new images that cannot be read; None makes them an error.

    Returns:
        A group for each new image that is like one or more.
    """
    images = images_as_in_training(encoder, names)
    size = max(1, min(_BATCH, len(names)))
    found = []
    for rows, real in encoder.encode(images, skipped=skipped, batch_size=size):
        packed = pack_codes(real, bits=codes.bits)
        for row, code in zip(rows.tolist(), packed, strict=True):
            away = distances_to(code, codes.packed)
            near = np.flatnonzero(away <= distance)
            near = near[np.argsort(away[near], kind="stable")]
            if len(near):
                hits = _hits(codes, near.tolist(), away[near].tolist(), first=2)
                found.append(Group((Hit(1, 0, names[row], ()), *hits)))
    return found


def as_json(group: Group) -> dict[str, Any]:
    """A group as an object for JSON: `images` with `id`, `distance` and `labels`."""
    return {
        "images": [
            {"id": hit.id, "distance": hit.distance, "labels": list(hit.labels)}
            for hit in group.images
        ]
    }


def as_text(group: Group, number: int) -> str:
    """A group for the terminal: an aligned line an image."""
    return as_table(QueryResult(f"group {number}", group.images))


def _hits(
    codes: CodeSet, rows: Sequence[int], away: Sequence[int], *, first: int = 1
) -> tuple[Hit, ...]:
    return tuple(
        Hit(rank, distance, codes.ids[row], codes.labels[row] if codes.labels else ())
        for rank, (row, distance) in enumerate(
            zip(rows, away, strict=True), start=first
        )
    )


def _check_model(
    encoder: "ssah_jax.run.image_encoder.ImageEncoder", codes: CodeSet, name: str
) -> None:
    if encoder.fingerprint != codes.fingerprint:
        raise CodeFileError(
            f"{name}: made by model {codes.fingerprint}, found the model "
            f"{encoder.fingerprint}, expected one model for both"
        )


def _tell_if_long(codes: CodeSet, distance: int) -> None:
    if not distance or len(codes.ids) < 50_000:
        return
    pairs = comparisons(codes.packed, bits=codes.bits, radius=distance)
    if pairs > _MANY:
        print(
            f"comparing {pairs:.1e} pairs, about {round(pairs / _MANY)} minutes; a "
            "smaller --distance takes less",
            file=sys.stderr,
        )


def _write_page(options: argparse.Namespace, found: Sequence[Group]) -> None:
    """`--html`."""
    from ssah_jax.cli.result_page import render_groups

    shown = [
        QueryResult(f"{len(group.images)} images", group.images[:PAGE_IMAGES])
        for group in found[:PAGE_GROUPS]
    ]
    sizes = [len(group.images) for group in found[:PAGE_GROUPS]]
    more = f"; the first {PAGE_GROUPS} are shown" if len(found) > PAGE_GROUPS else ""
    about = f"{len(found)} groups within distance {options.distance}{more}"
    root = None if options.root is None else Path(options.root)
    write_html(options.html, render_groups(shown, sizes=sizes, about=about, root=root))
