"""The page of `ssah search --html`: names as text, complete in itself."""

import base64
import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from html_page import Page
from PIL import Image
from search_cases import (
    RESULTS,
    call,
    image_file,
)

from ssah_jax.cli.result_page import render


@pytest.fixture
def page(tmp_path) -> str:
    """Two images are there, one is damaged, two are gone."""
    image_file(tmp_path / "q,\n<b>&\"'.jpg", (300, 200))
    image_file(tmp_path / "a.png", (3, 5), "L")
    (tmp_path / "日本.png").write_bytes(b"nothing")
    return render(RESULTS, about="3 images & more", root=tmp_path)


def test_the_page_shows_names_as_text(page):
    parsed = Page(page)
    alts = [image["alt"] for image in parsed.all("img")]
    assert alts == ["q,\\n<b>&\"'.jpg", "a.png"]
    labels = [a["aria-label"] for a in parsed.all("span") if a.get("role") == "img"]
    assert labels == ["日本.png", "x\\udcff\\n</section>.png", "none.jpg"]
    assert not parsed.all("i")
    for text in (*alts, *labels, "cat, black & <i>white", "3 images & more"):
        assert text in parsed.text
    assert parsed.text.count("cannot be read") == 1
    assert parsed.text.count("not there any more") == 2
    assert "Nothing found." in parsed.text


def test_the_page_is_complete_in_itself(page):
    parsed = Page(page)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in parsed.tags}
    assert "prefers-color-scheme: dark" in page
    policy = next(m["content"] for m in parsed.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")
    for image in parsed.all("img"):
        head, _, data = image["src"].partition(",")
        assert head == "data:image/jpeg;base64"
        content = base64.b64decode(data)
        assert len(content) < 10_000
        with Image.open(io.BytesIO(content)) as picture:
            assert (picture.format, *picture.size) == ("JPEG", 192, 192)
            red, green, blue = picture.convert("RGB").getpixel((96, 96))
            # Of red, and of red as grey.
            assert (red > 240 and green < 20) or red == green == blue


def test_search_writes_the_page(run, indexed, tmp_path, capsys):
    query = run.photos / run.names[0]
    out = tmp_path / "page.html"
    arguments = ["--workdir", run.workdir, "--index", indexed, query, "-k", "4"]
    assert call("search", *arguments, "--html", out) == 0
    assert capsys.readouterr().out.count("\n") == 6
    parsed = Page(out.read_text())
    assert len(parsed.all("img")) == 5
    assert "70 images, 20 bits, flat index" in parsed.text
    assert os.listdir(tmp_path) == ["page.html"]


@pytest.mark.slow
def test_thumbnails_of_relative_ids(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.photos)
    where = ["--workdir", run.workdir]
    assert call("encode", *where, "0", "1", "--out", tmp_path / "c.parquet") == 0
    assert call("index", tmp_path / "c.parquet", "--out", tmp_path / "i") == 0
    monkeypatch.chdir(tmp_path)
    query = run.photos / run.names[0]
    arguments = ["search", *where, "--index", "i", query, "-k", "3", "--html", "p"]
    assert call(*arguments) == 0
    assert Path("p").read_text().count("not there any more") == 3
    assert call(*arguments, "--root", run.photos) == 0
    assert Path("p").read_text().count("not there any more") == 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("size", ["1200,800", "500,900"])
def test_a_browser_has_no_complaint(page, tmp_path, size):
    path, shot = tmp_path / "page.html", tmp_path / "shot.png"
    path.write_text(page)
    done = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu"),
            *("--enable-logging=stderr", f"--window-size={size}"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={shot}"),
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr
    with Image.open(shot) as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 20
