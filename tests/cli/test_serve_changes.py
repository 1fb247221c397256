"""`ssah serve`: two stages, and an index that changes while it is served."""

import base64

import numpy as np
from search_cases import call, distances
from starlette.testclient import TestClient

from ssah_jax.retrieval.code_files import read_codes
from ssah_jax.retrieval.feature_files import read_features
from ssah_jax.retrieval.index import build_index, load_index, with_rows
from ssah_jax.retrieval.rows import without
from ssah_jax.run.serve import app as app_lib
from ssah_jax.run.serve.app import make_app
from ssah_jax.run.serve.engine import Engine
from ssah_jax.run.serve.watching import Watch


def test_what_is_found_is_ordered_by_features(run, tmp_path):
    codes = tmp_path / "codes.parquet"
    arguments = ["--workdir", run.workdir, run.photos, "--keep", "float16"]
    assert call("encode", *arguments, "--out", codes) == 0
    plain = build_index(read_codes(codes))
    features = read_features(tmp_path / "codes.features").of(plain.ids)
    engine = Engine(plain, features=features, oversample=70)
    content = (run.photos / run.names[5]).read_bytes()
    x = np.asarray(features[:], np.float32)
    row = plain.ids.index(str(run.photos / run.names[5]))
    wanted = np.sort(x @ x[row])[::-1]
    with TestClient(make_app(engine, run.encoder), base_url="http://localhost") as it:
        asked = {"image": base64.b64encode(content).decode(), "k": 6}
        hits = it.post("/search", json=asked).json()["results"]
        assert hits[0]["row"] == row
        found = [hit["similarity"] for hit in hits]
        np.testing.assert_allclose(found, wanted[:6], atol=2e-3)
        away = distances(run, 5)
        names = [str(run.photos / name) for name in run.names]
        assert [h["distance"] for h in hits] == [
            away[names.index(h["id"])] for h in hits
        ]
        others = it.post("/search", json={"row": row, "k": 5}).json()["results"]
        assert [hit["row"] for hit in others] == [hit["row"] for hit in hits[1:]]


def test_another_file_in_its_place_is_served(run, indexed, tmp_path, monkeypatch):
    monkeypatch.setattr(app_lib, "_LOOK_EVERY", -1.0)
    path, told = tmp_path / "photos.index", []
    index = load_index(indexed)
    index.save(path)
    watch = Watch(path, lambda: Engine(load_index(path)), told.append)
    first = Engine(load_index(path))
    app = make_app(first, run.encoder, watch=watch)
    with TestClient(app, base_url="http://localhost") as client:
        old = client.get("/about").json()
        assert (old["images"], told) == (70, [])
        fewer = without(index.code_set(), index.ids[:3], name="x")
        with_rows(index, fewer).save(path)
        about = client.get("/about").json()
        assert about["images"] == 67 and about["index"] != old["index"]
        assert told == ["the index has changed: 67 images now"]
        # A number of before means another image now.
        stale = {"row": 5, "index": old["index"]}
        assert client.post("/search", json=stale).status_code == 409
        picture = client.get("/images/5", params={"index": old["index"]})
        assert picture.status_code == 409 and "changed" in picture.json()["error"]
        fresh = {"row": 5, "index": about["index"]}
        assert client.post("/search", json=fresh).status_code == 200
        path.write_bytes(b"PK half an index")
        assert client.get("/about").json() == about
        assert client.get("/about").status_code == 200
        assert len(told) == 2 and "is served as it was" in told[1]
        path.unlink()
        assert client.get("/about").json() == about and len(told) == 2
