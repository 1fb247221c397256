"""`ssah serve`: what is answered, to whom, and what a browser shows."""

import base64
import io
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import uvicorn
from browser import CHROMIUM, Browser
from PIL import Image
from search_cases import call, distances, mistake
from starlette.testclient import TestClient

from ssah_jax.cli import serve as serve_lib
from ssah_jax.retrieval.code_files import read_codes
from ssah_jax.retrieval.index import build_index
from ssah_jax.run import parallel
from ssah_jax.run.serve import batching
from ssah_jax.run.serve.app import make_app
from ssah_jax.run.serve.engine import Engine

LIMIT = 50_000


@pytest.fixture(scope="module")
def index(run, encoded):
    """Of all photos, labelled by their folder, and of one that is gone."""
    codes = read_codes(encoded)
    labels = tuple((name.split("/")[-2],) for name in codes.ids)
    ids = (*codes.ids[:-1], "gone.png")
    made = type(codes)(ids, codes.packed, codes.bits, codes.fingerprint, labels)
    return build_index(made)


@pytest.fixture(scope="module")
def app(run, index):
    return make_app(Engine(index), run.encoder, max_upload=LIMIT)


@pytest.fixture(scope="module")
def client(app) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://localhost") as made:
        yield made


def upload(client, content, *, kind="image/png", **query):
    return client.post(
        "/search", content=content, headers={"content-type": kind}, params=query
    )


def row_of(run, index, position: int) -> int:
    return index.ids.index(str(run.photos / run.names[position]))


def conforms(value, schema, schemas) -> None:
    """Asserts that JSON is as the part of OpenAPI that we use says."""
    if "oneOf" in schema:
        schema = schema["oneOf"][value is None]
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    kind = schema.get("type")
    python = {"object": dict, "array": list, "string": str, "integer": int}
    assert isinstance(value, python.get(kind, type(None))), (value, schema)
    if kind == "object":
        assert value.keys() == schema["properties"].keys()
        for name, part in schema["properties"].items():
            conforms(value[name], part, schemas)
    for item in value if kind == "array" else ():
        conforms(item, schema["items"], schemas)


def test_an_image_finds_what_search_finds(run, index, client):
    content = (run.photos / run.names[5]).read_bytes()
    found = upload(client, content, k=7).json()
    away = distances(run, 5)
    assert [hit["distance"] for hit in found["results"]] == sorted(away)[:7]
    assert [hit["rank"] for hit in found["results"]] == [*range(1, 8)]
    first = found["results"][0]
    assert first["distance"] == 0 and first["id"] == index.ids[first["row"]]
    body = {"image": base64.b64encode(content).decode(), "k": 7}
    assert client.post("/search", json=body).json() == found
    only = upload(client, content, k=99, label="3", path="*.png").json()["results"]
    assert len(only) == 10 and {hit["labels"][0] for hit in only} == {"3"}


def test_an_indexed_image_finds_others(run, index, client):
    row = row_of(run, index, 5)
    found = client.post("/search", json={"row": row, "k": 100}).json()
    assert found["query"] == {"row": row, "id": index.ids[row], "labels": ["5"]}
    assert len(found["results"]) == 69
    assert row not in [hit["row"] for hit in found["results"]]
    among = client.post("/search", json={"row": row, "k": 99, "labels": ["5", "6"]})
    assert len(among.json()["results"]) == 19


def test_answers_are_as_openapi_says(run, index, client):
    described = client.get("/openapi.json").json()
    assert described["openapi"].startswith("3.")
    schemas = described["components"]["schemas"]
    paths = {route.path.partition(":")[0] for route in client.app.routes}
    assert {path.partition("}")[0] for path in described["paths"]} <= paths
    for found, name in (
        (client.post("/search", json={"row": 3}), "Found"),
        (upload(client, (run.photos / run.names[0]).read_bytes()), "Found"),
        (client.get("/duplicates", params={"distance": 2}), "Groups"),
        (client.get("/about"), "About"),
        (client.get("/images/999"), "Error"),
        (upload(client, b"x"), "Error"),
        (client.get("/no"), "Error"),
    ):
        conforms(found.json(), schemas[name], schemas)
    about = client.get("/about").json()
    assert (about["images"], about["bits"], about["max_upload"]) == (70, 20, LIMIT)
    assert {"name": "4", "images": 10} in about["labels"]


def test_pictures_are_made_anew_and_only_of_the_index(run, index, client):
    row = row_of(run, index, 4)
    small = client.get(f"/images/{row}")
    assert small.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(small.content)) as picture:
        assert picture.size == (192, 192)
    with Image.open(
        io.BytesIO(client.get(f"/images/{row}?side=large").content)
    ) as picture:
        assert picture.size == (8, 8)
    gone = client.get("/images/69")
    assert gone.status_code == 404 and "gone.png" in gone.json()["error"]
    for path in ("/images/70", "/images/-1", "/images/..%2f..%2fetc%2fpasswd"):
        assert client.get(path).status_code == 404
    assert client.get(f"/images/{row}?side=huge").status_code == 422


def test_no_image_lies_outside_the_root(run, index):
    (run.photos / "leads out.png").symlink_to("/etc/hostname")
    ids = ("0/000.png", "../run/config.json", "/etc/hostname", "leads out.png")
    codes = index.code_set()
    part = type(codes)(ids, codes.packed[:4], codes.bits, codes.fingerprint)
    engine = Engine(build_index(part), root=run.photos)
    app = make_app(engine, run.encoder)
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/images/0").status_code == 200
        for row in (1, 2, 3):
            answer = client.get(f"/images/{row}")
            assert answer.status_code == 404
            assert "outside" in answer.json()["error"]
    (run.photos / "leads out.png").unlink()


@pytest.mark.parametrize(
    ("status", "kind", "body", "message"),
    [
        (422, "image/png", b"", "an empty file"),
        (422, "image/png", b"<html>no image</html>", "found no image"),
        (413, "image/png", bytes(LIMIT + 1), "accepted are images of up to 50000"),
        (415, "text/plain", b"x", "content-type: found 'text/plain'"),
        (415, "multipart/form-data; boundary=x", b"x", "multipart"),
        (422, "application/json", b"{", "found no JSON"),
        (422, "application/json", b"[" * 100_000, "found no JSON"),
        (422, "application/json", b"{}", "either row"),
        (422, "application/json", b'{"row": 1, "image": ""}', "either row"),
        (422, "application/json", b'{"row": 70}', "accepted is 0 to 69"),
        (422, "application/json", b'{"row": true}', "row: found True"),
        (422, "application/json", b'{"row": 1, "file": "/etc"}', "found 'file'"),
        (422, "application/json", b'{"image": "%%"}', "no base64"),
        (422, "application/json", b'{"image": 7}', "no base64"),
        (422, "application/json", b'{"row": 1, "k": 0}', "k: found 0"),
        (422, "application/json", b'{"row": 1, "labels": ["x"]}', "label 'x'"),
        (422, "application/json", b'{"row": 1, "labels": "x"}', "list of strings"),
        (422, "application/json", b'{"row": 1, "paths": ["z*"]}', "no image like"),
    ],
)
def test_what_is_no_search(client, status, kind, body, message):
    answer = upload(client, body, kind=kind)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_a_body_without_a_length_is_cut_off(client):
    chunks = (bytes(10_000) for _ in range(20))
    assert upload(client, chunks).status_code == 413


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:8765", 200),
        ("[::1]:8765", 200),
        ("192.168.1.7:80", 200),
        (socket.gethostname(), 200),
        ("evil.example", 403),
        ("evil.example:8765", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ],
)
def test_only_its_own_names_are_answered(client, host, status):
    answer = client.get("/about", headers={"host": host})
    assert answer.status_code == status
    assert ("error" in answer.json()) == (status == 403)


def test_pages_of_others_are_refused_and_ours_load_nothing(client):
    for origin, status in (("http://localhost", 200), ("https://evil.example", 403)):
        headers = {"origin": origin}
        answer = client.post("/search", json={"row": 1}, headers=headers)
        assert answer.status_code == status
        assert "access-control-allow-origin" not in answer.headers
    for path in ("/", "/docs", "/page.js", "/page.css", "/docs.js"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "//" not in answer.text.replace("// ", "").replace("://", "", 0) or (
            "https:" not in answer.text and "http:" not in answer.text
        )


def test_duplicates(run, client):
    found = client.get("/duplicates").json()
    sizes = [group["size"] for group in found["shown"]]
    assert found["groups"] == len(sizes) and sizes == sorted(sizes, reverse=True)
    assert all(hit["distance"] == 0 for g in found["shown"] for hit in g["images"])
    for distance in ("20", "-1", "x", "9" * 30):
        answer = client.get("/duplicates", params={"distance": distance})
        assert answer.status_code == 422, distance


# Batches.


def test_requests_that_wait_share_one_call(run):
    import asyncio

    sizes: list[int] = []

    def encode(images):
        sizes.append(len(images))
        time.sleep(0.05)
        return [(image[0, 0], None) for image in images]

    async def ask():
        batcher = batching.Batcher(encode)
        images = [np.full((2, 2, 1), n, np.uint8) for n in range(20)]
        return await asyncio.gather(*map(batcher, images))

    codes = asyncio.run(ask())
    assert [int(code[0]) for code, _ in codes] == [*range(20)]
    assert sum(sizes) == 20 and len(sizes) <= 3


def test_a_failure_reaches_all_who_wait_and_ends_nothing():
    import asyncio

    def encode(images):
        if images[0, 0, 0, 0] == 9:
            raise RuntimeError("failed")
        return [(image[0, 0], None) for image in images]

    async def ask():
        batcher = batching.Batcher(encode)
        bad, good = np.full((1, 1, 1), 9, np.uint8), np.zeros((1, 1, 1), np.uint8)
        first = await asyncio.gather(batcher(bad), return_exceptions=True)
        return first, await batcher(good)

    failed, (code, _) = asyncio.run(ask())
    assert isinstance(failed[0], RuntimeError) and code.tolist() == [0]


def test_every_call_takes_the_same_compiled_step(run, monkeypatch):
    made = []
    original = parallel.pmap_encode_step
    monkeypatch.setattr(
        parallel, "pmap_encode_step", lambda c: made.append(c) or original(c)
    )
    encode = batching.batch_encoder(run.encoder)
    for count in (1, 1, 3, 2):
        encode(np.zeros((count, 8, 8, 1), np.uint8))
    assert len(made) == 1


def test_a_batch_gives_the_codes_of_its_images(run):
    images = [
        np.asarray(Image.open(run.photos / name))[..., None] for name in run.names[:6]
    ]
    encode = batching.batch_encoder(run.encoder)
    packed = np.stack([code for code, _ in encode(np.stack(images))])
    found = np.unpackbits(packed, axis=1)[:, :20]
    np.testing.assert_array_equal(found, run.codes[:6] >= 0)


# As a process, and in a browser.


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


def test_requests_at_once_get_their_own_answers(run, index, served):
    import urllib.request

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
