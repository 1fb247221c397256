"""Names of files, classes and tags end in pages: none of them may run there."""

import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ssah_jax.cli.found import Hit, QueryResult
from ssah_jax.cli.result_page import render
from ssah_jax.run.report.page import render as render_template
from ssah_jax.run.report.run_page import write_report

HOSTILE = (
    "<script>console.log('ran')</script>",
    "</title></style></span><script>console.log('ran')</script>",
    '"><img src=x onerror="console.log(\'ran\')">',
    "' onmouseover='console.log(1)' x='",
    "{{ 7 * 7 }}{% raw %}${7*7}",
    "&lt;script&gt;",
    "a\udcff\u202egpj.\nb",
)

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def search_page(name: str) -> str:
    hits = tuple(Hit(i + 1, i, other, (name, other)) for i, other in enumerate(HOSTILE))
    return render([QueryResult(name, hits)], about=name)


def run_page(folder: Path, name: str) -> str:
    about = {"id": name, "labels": [name], "picture": "1.png", "index": 0}
    near = about | {"distance": 1, "hit": True}
    query = about | {"group": "best", "average_precision": 1.0, "neighbours": [near]}
    files = {
        "gallery/gallery.json": {"queries": [query]},
        "model.json": {"class_names": [name]},
        "results.json": {
            "map_per_class": {"0": {"map": 0.5, "num_query": 1}},
            "protocol": name,
            "versions": {name: name},
            name: name,
        },
        "config.json": {name: name, "protocol": name},
    }
    (folder / "gallery").mkdir()
    (folder / "gallery" / "1.png").write_bytes(b"any")
    for path, content in files.items():
        (folder / path).write_text(json.dumps(content))
    row = {"step": 1, f"{name}/loss": 1.0, "loss/total": 1.0}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return write_report(folder).read_text()


@pytest.fixture(params=["run", "search"])
def pages(request, tmp_path) -> list[str]:
    if request.param == "search":
        return [search_page(name) for name in HOSTILE]
    folders = [tmp_path / str(i) for i in range(len(HOSTILE))]
    for folder in folders:
        folder.mkdir()
    return [run_page(*pair) for pair in zip(folders, HOSTILE, strict=True)]


class Tags(html.parser.HTMLParser):
    """Which tags and attributes a page has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen |= {tag, *(name for name, _ in attrs)}


def test_names_stay_text(pages):
    for page in pages:
        assert not {"script", "onerror", "onmouseover"} & Tags(page).seen
    assert "{{ 7 * 7 }}" in pages[4]
    # Neither what turns the direction of reading nor what UTF-8 cannot hold.
    shown = r"a\udcff\u202egpj.\nb"
    assert shown in pages[-1]
    assert ("Query: " in pages[-1]) == (f'alt="Query: {shown}' in pages[-1])


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_no_name_runs_in_a_browser(pages, tmp_path):
    frames = []
    for i, page in enumerate(pages):
        # Without its policy: the names alone must be harmless.
        page, found = re.subn(
            r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page
        )
        assert found == 1
        (tmp_path / f"{i}.html").write_text(page)
        frames.append(f'<iframe src="{i}.html" width="500" height="900"></iframe>')
    ready = "<script>console.log('scripts run here')</script>"
    (tmp_path / "all.html").write_text("".join(frames) + ready)
    done = subprocess.run(
        [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu"),
            *("--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--dump-dom", (tmp_path / "all.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    console = re.findall(r'CONSOLE.*?"(.*?)", source', done.stderr)
    assert console == ["scripts run here"], done.stderr


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(Exception, match="'results' is undefined"):
        render_template("search.html", title="", about="", pictures={}, absent={})
