"""`ssah serve` as a command and a server: mistakes, many at once, a browser."""

import base64
import json
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvicorn
from browser import CHROMIUM, Browser
from search_cases import call, distances, mistake

from ssah_jax.cli import serve as serve_lib
from ssah_jax.run.serve import batching


@pytest.fixture(scope="module")
def served(app) -> Iterator[str]:
    listening = serve_lib._listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    listening.close()


def test_requests_at_once_get_their_own_answers(run, served):
    def ask(position):
        content = (run.photos / run.names[position]).read_bytes()
        headers = {"content-type": "image/png"}
        request = urllib.request.Request(f"{served}/search?k=70", content, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["results"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(24)))
    for position, hits in enumerate(answers):
        away = sorted(distances(run, position))
        assert [hit["distance"] for hit in hits] == away


def test_mistakes_of_serve(run, indexed, tmp_path, capsys, monkeypatch):
    arguments = ("serve", "--workdir", run.workdir, "--index", indexed, "--port")
    with serve_lib._listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        line = mistake(capsys, *arguments, port)
    assert line.startswith(f"--port: found {port} taken by another program")
    assert mistake(capsys, *arguments, 70000).startswith("--port: found 70000")
    assert mistake(capsys, *arguments, 0, "--host", "no host").startswith("--host")
    assert mistake(capsys, *arguments, 0, "--max-upload", 0).startswith("--max-upload")
    assert mistake(capsys, *arguments, 0, "--root", tmp_path / "no").startswith(
        "--root"
    )
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setattr(serve_lib.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'ssah-jax[serve]'" in mistake(capsys, *arguments, 0)


def test_serve_says_where_and_ends_on_interrupt(run, indexed, capsys, monkeypatch):
    def interrupted(app, listening):
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: interrupted(0, 0))
    monkeypatch.setattr(batching, "SIZES", (1,))
    arguments = ("serve", "--workdir", run.workdir, "--index", indexed)
    assert call(*arguments, "--port", 0) == 0
    out = capsys.readouterr().out
    assert out.startswith("70 images at http://127.0.0.1:") and out.endswith(
        "stopped\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_dropped_file_shows_what_is_near(run, index, served, tmp_path):
    content = (run.photos / run.names[5]).read_bytes()
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(served)
        browser.wait_for("document.querySelectorAll('#labels option').length === 7")
        drop = f"""(() => {{
          const bytes = Uint8Array.from(atob('{base64.b64encode(content).decode()}'),
            (c) => c.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], 'dropped <b>.png', {{type: 'image/png'}}));
          window.dispatchEvent(new DragEvent('drop',
            {{dataTransfer: data, bubbles: true, cancelable: true}}));
        }})()"""
        browser.run(drop)
        browser.wait_for("document.querySelectorAll('#results li').length === 24")
        shown = browser.run(
            "[...document.querySelectorAll('#results li b')].map((b) => b.textContent)"
        )
        wanted = sorted(distances(run, 5))[:24]
        assert shown == [f"distance {distance}" for distance in wanted]
        assert browser.run("document.querySelector('#name').textContent") == (
            "dropped <b>.png"
        )
        # From a result on, by its button; then back to where it was.
        browser.run("document.querySelector('#results button').click()")
        browser.wait_for("location.hash.startsWith('#row=')")
        row = int(browser.run("parseInt(location.hash.slice(5))"))
        browser.wait_for(
            f"document.querySelector('#name').textContent.startsWith({index.ids[row]!r})"
        )
        browser.run(
            "document.querySelector('#label').value = '3';"
            "document.querySelector('#label').dispatchEvent(new Event('change'))"
        )
        browser.wait_for("document.querySelectorAll('#results li').length === 10")
        browser.run("document.querySelector('#duplicates').click()")
        browser.wait_for("document.querySelector('#status').textContent.match(/group/)")
        assert browser.run("document.querySelectorAll('#results h2').length") >= 1
        drop = drop.replace(base64.b64encode(content).decode(), "AAAA")
        browser.run(drop)
        browser.wait_for("!!document.querySelector('#status.bad')")
        status = browser.run("document.querySelector('#status').textContent")
        assert "found no image" in status
        # The refusal itself, and the picture that is gone, are all that it minds.
        assert all(
            "422" in x or "404" in x or "/images/69" in x for x in (browser.complaints)
        ), browser.complaints
    finally:
        browser.close()
