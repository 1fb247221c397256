"""One page for people about a search: queries and what was found, complete in itself.

The page loads nothing and runs nothing, follows the reader's light or dark theme, and
fits a phone. Names of files are shown as `ssah_jax.data.images.printable` writes them.
"""

import base64
import functools
import html
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from ssah_jax.cli.found import Hit, QueryResult
from ssah_jax.data.images import decode, image_files, printable
from ssah_jax.data.source import DataError

THUMBNAIL: int = 192
"""Side in pixels of the squares that images are shown in."""

_QUALITY = 80
_THREADS = 4

# The policy keeps a page that shows names and pixels of strangers from loading or
# running anything, whatever they are called.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --back: #fff; --text: #1b1f24; --faint: #57606a; --line: #d5d9de;
  --card: #f6f7f9; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --back: #15181c; --text: #dfe3e8; --faint: #9aa4af; --line: #363c44;
    --card: #1c2026; }}
}}
body {{ margin: 0 auto; padding: 1rem; max-width: 80rem; background: var(--back);
  color: var(--text); font: 1rem/1.4 system-ui, sans-serif; }}
h1 {{ font-size: 1.5rem; margin: 0; }}
h2 {{ font-size: 1rem; margin: 0 0 .75rem; overflow-wrap: anywhere; }}
p {{ color: var(--faint); margin: .25rem 0 0; }}
section {{ border-top: 1px solid var(--line); margin-top: 1.25rem;
  padding-top: 1.25rem; }}
.both {{ display: grid; gap: 1rem; align-items: start; }}
@media (min-width: 40rem) {{ .both {{ grid-template-columns: 12rem minmax(0, 1fr); }} }}
.query {{ max-width: 12rem; height: auto; }}
ol {{ display: grid; gap: .75rem; list-style: none; margin: 0; padding: 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 8rem), 1fr)); }}
figure {{ margin: 0; background: var(--card); border-radius: .5rem; overflow: hidden;
  font-size: .8rem; height: 100%; }}
img, .none {{ display: block; width: 100%; aspect-ratio: 1; }}
.none {{ display: grid; place-items: center; text-align: center; padding: .5rem;
  box-sizing: border-box; color: var(--faint); border: 1px dashed var(--line);
  border-radius: .5rem; }}
figcaption {{ padding: .5rem; overflow-wrap: anywhere; }}
b {{ display: flex; justify-content: space-between; gap: .5rem;
  font-variant-numeric: tabular-nums; }}
small {{ color: var(--faint); font-size: inherit; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{about}</p>
{body}
</body>
</html>
"""


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
    names = {r.query for r in results} | {hit.id for r in results for hit in r.hits}
    show = functools.partial(_picture, root or Path())
    # Decoding leaves Python's lock.
    with ThreadPoolExecutor(_THREADS) as pool:
        pictures = dict(zip(names, pool.map(show, names), strict=True))
    number = len(results)
    title = "1 query" if number == 1 else f"{number} queries"
    return _PAGE.format(
        title=f"Search results: {title}",
        about=html.escape(printable(about)),
        body="\n".join(_section(result, pictures) for result in results),
    )


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


def _picture(root: Path, name: str) -> str:
    """The HTML of one image, or of the words in its place."""
    label = html.escape(printable(name))
    path = root / name
    try:
        content = base64.b64encode(thumbnail(path)).decode("ascii")
    except DataError:
        words = "cannot be read" if _is_there(path) else "not there any more"
        return f'<span class="none" role="img" aria-label="{label}">{words}</span>'
    return f'<img src="data:image/jpeg;base64,{content}" alt="{label}">'


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except ValueError:  # a name that no file system takes
        return False


def _section(result: QueryResult, pictures: dict[str, str]) -> str:
    name = html.escape(printable(result.query))
    found = "\n".join(_hit(hit, pictures[hit.id]) for hit in result.hits)
    return (
        f'<section>\n<h2>{name}</h2>\n<div class="both">\n'
        f'<figure class="query">{pictures[result.query]}'
        f"<figcaption><b>query</b></figcaption></figure>\n"
        + (f"<ol>\n{found}\n</ol>" if found else "<p>Nothing found.</p>")
        + "\n</div>\n</section>"
    )


def _hit(hit: Hit, picture: str) -> str:
    labels = ", ".join(printable(label) for label in hit.labels)
    return (
        f"<li><figure>{picture}<figcaption>"
        f"<b><span>{hit.rank}</span><span>distance {hit.distance}</span></b>"
        f"{html.escape(printable(hit.id))}"
        + (f"<br><small>{html.escape(labels)}</small>" if labels else "")
        + "</figcaption></figure></li>"
    )
