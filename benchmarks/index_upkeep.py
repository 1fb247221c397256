"""An index that keeps up: a folder that changed, and a million codes that change.

    python index_upkeep.py --workdir RUN --images FOLDER     # 10,100 images or more
    python index_upkeep.py --codes-only

First 10,000 images of FOLDER are copied and encoded by RUN; then 100 are added, 100
removed and 100 renamed, and `ssah encode --update` brings the file up to date. Then a
flat index of a million random codes of 64 bits gets 10,000 more, loses 10,000 and
answers 1,000 queries, beside FAISS's own index of the same codes, which knows no ids;
and again with 100 candidates each, ordered by kept features of 256 numbers in int8.
Everything runs in this process, and times are of one run: of a folder the clock's, of
codes the processor's, which others' work on the machine changes little.
"""

import argparse
import contextlib
import gc
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import records

from ssah_jax import cli
from ssah_jax.data.finding import find_images
from ssah_jax.retrieval import CodeSet, build_index, load_index, read_codes, rerank
from ssah_jax.retrieval.duplicates import groups
from ssah_jax.retrieval.feature_files import KeptWriter, read_features
from ssah_jax.retrieval.index import Index, with_rows
from ssah_jax.retrieval.rows import added, without
from ssah_jax.run.encoder import Encoder

IMAGES, CHANGED = 10_000, 100
CODES, MOVED, QUERIES, BITS, NEAREST = 1_000_000, 10_000, 1_000, 64, 10
WIDTH, OVERSAMPLE = 256, 10


def folder(workdir: str, images: str) -> dict[str, Any]:
    """A folder of 10,000 images of which 300 change."""
    names = find_images(Path(images))
    step = len(names) // (IMAGES + CHANGED)
    if not step:
        raise SystemExit(f"--images: found {len(names)}, expected 10,100")
    chosen = names[::step][: IMAGES + CHANGED]
    encoded = count_encoded()
    record: dict[str, Any] = {"images": IMAGES, "changed": CHANGED}
    with tempfile.TemporaryDirectory() as temporary:
        photos, out = Path(temporary, "photos"), Path(temporary, "codes.parquet")
        photos.mkdir()
        for row, name in enumerate(chosen[:IMAGES]):
            # With the times of the originals, as of photographs that lie there.
            shutil.copy2(Path(images, name), photos / f"{row:05}.jpg")

        def encode(path: Path, *more: str) -> str:
            printed = io.StringIO()
            arguments = ["--workdir", workdir, str(photos), "--out", str(path), *more]
            with contextlib.redirect_stdout(printed):
                assert cli.main(["encode", *arguments]) == 0
            return printed.getvalue()

        encode(Path(temporary, "warm.parquet"))
        _, record["encode_all_seconds"] = timed(lambda: encode(out))
        _, record["update_unchanged_seconds"] = timed(lambda: encode(out, "--update"))
        for row, name in enumerate(chosen[IMAGES:]):
            shutil.copy2(Path(images, name), photos / f"new {row}.jpg")
        for row in range(CHANGED):
            (photos / f"{row * 90:05}.jpg").unlink()
            (photos / f"{row * 90 + 45:05}.jpg").rename(photos / f"renamed {row}.jpg")
        encoded.clear()
        said, record["update_seconds"] = timed(lambda: encode(out, "--update"))
        record["encoded"] = len(encoded)
        record["said"] = said.splitlines()[-1]
        encode(Path(temporary, "anew.parquet"))
        one, other = read_codes(out), read_codes(Path(temporary, "anew.parquet"))
        record["same_as_anew"] = one.ids == other.ids and bool(
            (one.packed == other.packed).all()
        )
    return record


def count_encoded() -> list[str]:
    """Takes the name of every image that is encoded from here on."""
    found: list[str] = []
    from_run = Encoder.from_run

    def counting(*arguments: Any, **options: Any) -> Any:
        encoder = from_run(*arguments, **options)
        original = encoder.encode

        def encode(images: Any, **more: Any) -> Any:
            for indices, codes in original(images, **more):
                found.extend(images.names[index] for index in indices.tolist())
                yield indices, codes

        object.__setattr__(encoder, "encode", encode)
        return encoder

    Encoder.from_run = staticmethod(counting)  # type: ignore[method-assign]
    return found


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """A result and its seconds."""
    gc.collect()
    started = time.perf_counter()
    found = function()
    return found, round(time.perf_counter() - started, 3)


def worked(function: Callable[[], Any]) -> tuple[Any, float]:
    """A result and the processor's seconds for it, of all threads."""
    gc.collect()
    started = time.process_time()
    found = function()
    return found, round(time.process_time() - started, 3)


def resident() -> float:
    """Megabytes that this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * 4096 / 1e6, 1)


def codes() -> dict[str, Any]:
    """A million codes that change, and FAISS's own index of them."""
    rng = np.random.default_rng(0)
    packed = rng.integers(0, 256, (CODES + MOVED, BITS // 8), np.uint8)
    queries = rng.integers(0, 256, (QUERIES, BITS // 8), np.uint8)
    gone = rng.choice(CODES, MOVED, replace=False)
    record: dict[str, Any] = {
        "codes": CODES,
        "bits": BITS,
        "added": MOVED,
        "removed": MOVED,
        "queries": QUERIES,
        "nearest": NEAREST,
        "threads": faiss.omp_get_max_threads(),
    }
    theirs: dict[str, Any] = {}
    before = resident()
    plain = faiss.IndexBinaryFlat(BITS)
    _, theirs["build_seconds"] = worked(lambda: plain.add(packed[:CODES]))
    _, theirs["add_seconds"] = worked(lambda: plain.add(packed[CODES:]))
    _, theirs["remove_seconds"] = worked(lambda: plain.remove_ids(gone))
    found, theirs["search_seconds"] = worked(lambda: plain.search(queries, NEAREST))
    theirs["megabytes"] = round(resident() - before, 1)
    _, theirs["search_candidates_seconds"] = worked(
        lambda: plain.search(queries, OVERSAMPLE * NEAREST)
    )
    record["faiss"] = theirs

    ours: dict[str, Any] = {}
    before = resident()
    ids = tuple(f"photos/{row // 1000:04}/{row:08}.jpg" for row in range(len(packed)))
    first = CodeSet(ids[:CODES], packed[:CODES], BITS, "f")
    more = CodeSet(ids[CODES:], packed[CODES:], BITS, "f")
    index, ours["build_seconds"] = worked(lambda: build_index(first))
    index, ours["add_seconds"] = worked(
        lambda: with_rows(index, added(index.code_set(), more))
    )
    names = [ids[row] for row in gone]
    index, ours["remove_seconds"] = worked(
        lambda: with_rows(index, without(index.code_set(), names))
    )
    near, ours["search_seconds"] = worked(lambda: index.search_packed(queries, NEAREST))
    ours["megabytes"] = round(resident() - before, 1)
    ours["same_distances_as_faiss"] = bool((np.asarray(found[0]) == near[0]).all())
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "photos.index")
        _, ours["save_seconds"] = worked(lambda: index.save(path))
        ours["file_megabytes"] = round(path.stat().st_size / 1e6, 1)
        _, ours["load_seconds"] = worked(lambda: load_index(path))
    for radius in (0, 2, 3):
        _, ours[f"duplicates_{radius}_seconds"] = worked(
            lambda radius=radius: groups(index.packed, bits=BITS, radius=radius)
        )
    record["ssah"] = ours
    record["rerank"] = rerank_all(index, ids, queries, rng)
    return record


def rerank_all(
    index: Index, ids: tuple[str, ...], queries: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    """The same queries, with candidates ordered by features on disk."""
    found: dict[str, Any] = {"width": WIDTH, "candidates": OVERSAMPLE * NEAREST}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "photos.features")
        with KeptWriter(
            path, stored="int8", width=WIDTH, fingerprint="f", rows=0
        ) as writer:
            for start in range(0, len(ids), MOVED):
                number = min(MOVED, len(ids) - start)
                rows = rng.integers(-127, 128, (number, WIDTH), np.int8)
                writer.write_stored(rows)
            writer.finish(ids)
        found["file_megabytes"] = round(path.stat().st_size / 1e6, 1)
        before = resident()
        kept, found["open_seconds"] = worked(lambda: read_features(path).of(index.ids))
        features = rng.normal(size=(len(queries), WIDTH)).astype(np.float32)

        def search() -> Any:
            _, rows = index.search_packed(queries, OVERSAMPLE * NEAREST)
            return rerank(features, kept, rows, k=NEAREST)

        _, found["search_seconds"] = worked(search)
        found["megabytes"] = round(resident() - before, 1)
    return found


def main() -> None:
    """Measures and writes benchmarks/results/index_upkeep.json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir")
    parser.add_argument("--images")
    parser.add_argument("--codes-only", action="store_true")
    parser.add_argument("--out", help="where the record goes")
    options = parser.parse_args()
    # Of one minute.
    record: dict[str, Any] = {"codes": {"load_average": os.getloadavg()[0]} | codes()}
    if options.codes_only:
        there = Path(options.out or records.RESULTS / "index_upkeep.json")
        record["folder"] = json.loads(there.read_text())["folder"]
    else:
        load = {"load_average": os.getloadavg()[0]}
        record["folder"] = load | folder(options.workdir, options.images)
    records.write("index_upkeep", record, options.out)


if __name__ == "__main__":
    main()
