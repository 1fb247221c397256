"""`ssah serve`: what is answered, and to whom."""

import base64
import io
import socket
from collections.abc import Iterator

import pytest
from PIL import Image
from search_cases import UPLOAD_LIMIT, distances
from starlette.testclient import TestClient

from ssah_jax.retrieval.index import build_index
from ssah_jax.run.serve.app import make_app
from ssah_jax.run.serve.engine import Engine


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


def test_answers_are_as_openapi_says(run, client):
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
    assert (about["images"], about["bits"], about["max_upload"]) == (
        70,
        20,
        UPLOAD_LIMIT,
    )
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
        (
            413,
            "image/png",
            bytes(UPLOAD_LIMIT + 1),
            "accepted are images of up to 50000",
        ),
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


def test_duplicates(client):
    found = client.get("/duplicates").json()
    sizes = [group["size"] for group in found["shown"]]
    assert found["groups"] == len(sizes) and sizes == sorted(sizes, reverse=True)
    assert all(hit["distance"] == 0 for g in found["shown"] for hit in g["images"])
    for distance in ("20", "-1", "x", "9" * 30):
        answer = client.get("/duplicates", params={"distance": distance})
        assert answer.status_code == 422, distance
