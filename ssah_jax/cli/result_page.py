"""One page for people about a search: queries and what was found, complete in itself.

The page loads nothing and runs nothing, follows the reader's light or dark theme, and
fits a phone. Names are shown as `ssah_jax.retrieval.files.one_line` writes them.
"""

import functools
import io
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from ssah_jax.cli.found import QueryResult
from ssah_jax.data.encoded import image_files
from ssah_jax.data.images import decode
from ssah_jax.data.source import DataError
from ssah_jax.run.report import page

THUMBNAIL: int = 192
"""Side in pixels of the squares that images are shown in."""

_QUALITY = 80
_THREADS = 4


def render(
    results: Sequence[QueryResult], *, about: str = "", root: Path | None = None
) -> str:
    """The page of some results.

    Args:
        results: of the queries, in the order shown.
        about: a line below the title, as plain text.
        root: the folder that relative paths are relative to; None for the working
            directory.

    Returns:
        HTML. An image that is not there any more, or cannot be read, has words in its
        place.
    """
    number = len(results)
    return page.render(
        "search.html",
        title=f"Search results: {'1 query' if number == 1 else f'{number} queries'}",
        about=about,
        results=results,
        **_pictures({r.query for r in results} | _names(results), root or Path()),
    )


def render_groups(
    groups: Sequence[QueryResult],
    *,
    sizes: Sequence[int],
    about: str = "",
    root: Path | None = None,
) -> str:
    """The page of some groups of images.

    Args:
        groups: what is shown of each, its title in the place of a query.
        sizes: how many images there are in each.
        about: see `render`.
        root: see `render`.

    Returns:
        HTML, as of `render`.
    """
    return page.render(
        "duplicates.html",
        title="Images with like codes",
        about=about,
        results=groups,
        sizes=sizes,
        **_pictures(_names(groups), root or Path()),
    )


def _names(results: Sequence[QueryResult]) -> set[str]:
    return {hit.id for result in results for hit in result.hits}


def _pictures(names: Set[str], root: Path) -> dict[str, Any]:
    """Thumbnails by name, and why some have none."""
    # Decoding leaves Python's lock.
    with ThreadPoolExecutor(_THREADS) as pool:
        shown = pool.map(functools.partial(_picture, root), names)
        pictures = dict(zip(names, shown, strict=True))
    absent = {n: _why_absent(root / n) for n in names if pictures[n] is None}
    return {"pictures": pictures, "absent": absent}


def thumbnail(path: Path) -> bytes:
    """A small JPEG of an image file: its centre square, `THUMBNAIL` pixels a side.

    Raises:
        DataError: it cannot be read.
    """
    content = image_files(path.parent, [path.name]).encoded(0)
    pixels = decode(content, name=str(path), size=THUMBNAIL)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _picture(root: Path, name: str) -> bytes | None:
    try:
        return thumbnail(root / name)
    except DataError:
        return None


def _why_absent(path: Path) -> str:
    try:
        there = path.exists()
    except ValueError:  # a name that no file system takes
        there = False
    return "cannot be read" if there else "not there any more"
