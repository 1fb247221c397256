"""Configurations and files mutated by hypothesis: one line or a result, in time.

What is no error that this package raises on purpose, takes longer than 10 seconds or
more memory than `MEMORY` beyond what the process had, is a fault.
"""

import argparse
import contextlib
import gzip
import io
import random
import resource
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fault_parts.children import Child, TooSlow, quick_time, ssah
from fault_parts.scenes import commands, photos, trained

MEMORY = 1 << 30
"""Bytes that a case may ask for, beyond what the process has before."""

_LIMIT = 10.0
_PUT = (
    *(b"\xff" * 4, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\xff" * 8, b"\n", b'"', b","),
    *(b"|", b"\t", b"\r\n", b"\xef\xbb\xbf", b"../", b"1e999", b"\0"),
)
Case = Callable[[Any], None]


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Each kind of input in a process of its own."""
    work = trained(folder / "run")
    commands(folder, work, photos(folder / "photos", 40))
    ssah(
        "index", folder / "codes.parquet", "--kind=hnsw", "--out", folder / "h.index"
    ).end()
    kinds = {
        "configurations": (_configurations, 2000),
        "images": (_images, 1000),
        **{
            name: (make, 500)
            for name, make in (
                *(
                    ("IDX", _idx),
                    ("CSV", _table),
                    ("Parquet", _codes),
                    ("list", _lists),
                ),
                *(("safetensors", _safetensors), ("pth", _pth), ("index", _index)),
            )
        },
    }
    pieces = {}
    for name, (make, number) in kinds.items():
        if options.only and name not in options.only:
            continue
        number = 30 if options.quick else number
        place = folder / name
        place.mkdir()
        child = Child(
            _try, make, place, folder, number, options.seed, memory=MEMORY + (2 << 30)
        )
        ended = child.end(number * 3 + 300)
        if ended.value is None:
            why = "hang" if ended.status is None else ended.err[-400:]
            pieces[name] = {"faults": [f"status {ended.status}: {why}"]}
        else:
            pieces[name] = ended.value
        print(name, pieces[name], flush=True)
    return pieces


def _try(
    make: Callable[..., tuple[Any, Case]],
    place: Path,
    folder: Path,
    number: int,
    seed: int,
) -> dict[str, Any]:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    warnings.simplefilter("ignore")
    strategy, case = make(place, folder)
    said: Counter[str] = Counter()
    faults: list[str] = []
    slowest, before = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @seeded(seed)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(value: Any) -> None:
        nonlocal slowest
        started, word = time.monotonic(), "taken"
        try:
            with quick_time(_LIMIT), contextlib.redirect_stderr(io.StringIO()):
                case(value)
        except ValueError as error:
            word = f"refused: {type(error).__name__}"
            if not _ours(error):
                faults.append(
                    f"{type(error).__name__}: {error!s:.160} of {value!r:.160}"
                )
            elif "\n" in str(error):
                faults.append(f"several lines: {error!s:.160}")
        except TooSlow:
            word = "too slow"
            faults.append(f"too slow: {value!r:.200}")
        except Exception as error:
            word = f"another error: {type(error).__name__}"
            faults.append(f"{type(error).__name__}: {error!s:.160} of {value!r:.160}")
        slowest = max(slowest, time.monotonic() - started)
        said[word] += 1

    each()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = (peak - before) / 1024
    if grown > MEMORY / 2**20:
        faults.append(f"memory grew by {grown:.0f} MB")
    return {
        "cases": sum(said.values()),
        "outcomes": dict(said),
        "slowest_seconds": round(slowest, 2),
        "memory_grew_by_MB": round(grown),
        "memory_bound_MB": MEMORY >> 20,
        "number_of_faults": len(faults),
        "faults": faults[:10],
    }


def _ours(error: ValueError) -> bool:
    """Whether this package raised it, and no library below it."""
    if type(error).__module__.startswith("ssah_jax."):
        return True
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return "ssah_jax" in Path(frame.f_code.co_filename).parts


def _mutations(bases: list[bytes]) -> Any:
    """Which of some files, and what befalls it."""
    from hypothesis import strategies as st

    place = st.integers(0, 2**20)
    one = st.one_of(
        st.tuples(st.just("flip"), place, st.integers(1, 255)),
        st.tuples(st.just("cut"), place, st.just(0)),
        st.tuples(st.just("drop"), place, st.integers(1, 64)),
        st.tuples(st.just("repeat"), place, st.integers(1, 200)),
        st.tuples(
            st.just("put"),
            place,
            st.sampled_from(_PUT),
        ),
    )
    return st.tuples(st.sampled_from(bases), st.lists(one, min_size=1, max_size=6))


def _mutated(value: tuple[bytes, list[Any]]) -> bytes:
    content = bytearray(value[0])
    for kind, place, what in value[1]:
        # Headers matter most.
        size = len(content) or 1
        at = place % size if place % 2 else place % min(size, 128)
        if kind == "flip" and content:
            content[at] ^= what
        elif kind == "cut":
            del content[at:]
        elif kind == "drop":
            del content[at : at + what]
        elif kind == "repeat":
            content[at:at] = content[at : at + what] * 3
        elif kind == "put":
            content[at : at + len(what)] = what
    return bytes(content)


def _file_case(path: Path, read: Callable[[Path], Any]) -> Case:
    def case(value: Any) -> None:
        path.write_bytes(_mutated(value))
        read(path)

    return case


def _configurations(place: Path, folder: Path) -> tuple[Any, Case]:
    import jax
    from hypothesis import strategies as st

    from ssah_jax.config import Config, from_config_dict
    from ssah_jax.config.fields import walk
    from ssah_jax.run import train_state
    from ssah_jax.run.experiment import check_devices, prepare

    fields = list(walk(Config))
    words = sorted({f.default for f in fields if isinstance(f.default, str)})
    words += [
        "features",
        "folder",
        "synthetic",
        "resnet18",
        "vit_s14",
        "random",
        "none",
    ]
    any_value = st.one_of(
        *(st.none(), st.booleans(), st.integers(-3, 40), st.integers()),
        *(st.floats(), st.floats(-1, 2), st.sampled_from(words), st.text(max_size=8)),
        *(st.lists(st.integers(-2, 70), max_size=4).map(tuple), st.just({})),
        st.sampled_from(
            [10**9, -1, 2**31, 2**63, 1e300, "nan", "inf", "~", "../..", ""]
        ),
    )
    names = st.sampled_from(
        [f.name for f in fields] * 8 + ["bitz", "data", "data.x", ""]
    )
    count = 0

    def case(value: dict[str, Any]) -> None:
        nonlocal count
        # So small that the digits are enough for it.
        tree: dict[str, Any] = {"data": {"num_queries": 50, "num_validation": 50}}
        for name, each in value.items():
            *groups, last = name.split(".")
            inner = tree
            for group in groups:
                inner = inner.setdefault(group, {})
                if not isinstance(inner, dict):
                    return
            inner[last] = each
        config = from_config_dict(tree)
        experiment = prepare(config)
        check_devices(config)
        count += 1
        if count % 20 == 0:
            jax.eval_shape(lambda: train_state.init_state(experiment))

    return st.dictionaries(names, any_value, min_size=1, max_size=3), case


def _images(place: Path, folder: Path) -> tuple[Any, Case]:
    import numpy as np
    from PIL import Image

    from ssah_jax.data.formats import image_suffixes
    from ssah_jax.data.images import decode

    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    bases, suffixes = [], image_suffixes()
    kinds = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "TGA", "ICO", "PCX")
    for kind in (*kinds, "JPEG2000", "AVIF", "SGI", "DDS"):
        file = io.BytesIO()
        with contextlib.suppress(Exception):
            Image.fromarray(pixels).save(file, kind)
            bases.append(file.getvalue())
    draw = random.Random(0)

    def case(value: Any) -> None:
        name = "image" + draw.choice(suffixes)
        size = draw.choice([0, 16, 64])
        decode(_mutated(value), name=name, size=size, channels=draw.choice([1, 3]))

    return _mutations(bases), case


def _idx(place: Path, folder: Path) -> tuple[Any, Case]:
    from ssah_jax.data import read_idx

    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (20, 8, 8))
    whole = header + bytes(range(256)) * 5
    plain, packed = place / "images-idx3-ubyte", place / "images-idx3-ubyte.gz"

    def case(value: Any) -> None:
        content = _mutated(value)
        (packed if value[0] != whole else plain).write_bytes(content)
        read_idx(packed if value[0] != whole else plain, dims=3)

    return _mutations([whole, gzip.compress(whole, mtime=0)]), case


def _pictures(place: Path) -> list[str]:
    root = photos(place / "im", 12)
    return [str(p.relative_to(place)) for p in sorted(root.rglob("*.png"))]


def _table(place: Path, folder: Path) -> tuple[Any, Case]:
    from ssah_jax.data import image_table

    names = _pictures(place)
    rows = [f"{name},{'a|b' if i % 3 else 'c'},train\n" for i, name in enumerate(names)]
    text = "path,labels,part\n" + "".join(rows)
    bases = [text.encode(), ("\ufeff" + text).encode("utf-16")]
    bases.append(("sep=;\n" + text.replace(",", ";")).encode("cp1252"))

    def read(path: Path) -> None:
        source = image_table(path, size=8)
        assert len(source) and source.labels.shape[0] == len(source)

    return _mutations(bases), _file_case(place / "tags.csv", read)


def _lists(place: Path, folder: Path) -> tuple[Any, Case]:
    from ssah_jax.data import image_lists

    names = _pictures(place)
    several = "".join(f"{n} {i % 2} {1 - i % 2} 1\n" for i, n in enumerate(names))
    numbers = "".join(f"{name} {i % 3}\n" for i, name in enumerate(names))
    (place / "test.txt").write_text(several)

    def read(path: Path) -> None:
        source = image_lists(place, size=8)
        assert len(source) and source.labels.shape[0] == len(source)

    bases = [several.encode(), numbers.encode(), several.encode("utf-16")]
    return _mutations(bases), _file_case(place / "train.txt", read)


def _codes(place: Path, folder: Path) -> tuple[Any, Case]:
    from ssah_jax.retrieval import read_codes

    whole = (folder / "codes.parquet").read_bytes()
    return _mutations([whole]), _file_case(place / "codes.parquet", read_codes)


def _index(place: Path, folder: Path) -> tuple[Any, Case]:
    import numpy as np

    from ssah_jax.retrieval.index import load_index

    bases = [(folder / name).read_bytes() for name in ("photos.index", "h.index")]

    def read(path: Path) -> None:
        index = load_index(path)
        index.search(np.random.default_rng(0).normal(size=(2, index.bits)), 5)

    return _mutations(bases), _file_case(place / "photos.index", read)


def _arrays() -> dict[str, Any]:
    import numpy as np

    draw = np.random.default_rng(0)
    return {
        "conv.weight": draw.normal(size=(4, 3, 3)).astype(np.float32),
        "conv.bias": np.arange(4, dtype=np.int64),
        "half": draw.normal(size=(5,)).astype(np.float16),
    }


def _safetensors(place: Path, folder: Path) -> tuple[Any, Case]:
    from ssah_jax.networks.pretrained import read_tensors, write_tensors

    path = place / "weights.safetensors"
    write_tensors(path, _arrays(), metadata={"from": "nowhere"})
    return _mutations([path.read_bytes()]), _file_case(path, read_tensors)


def _pth(place: Path, folder: Path) -> tuple[Any, Case]:
    import torch_writers

    from ssah_jax.networks.pretrained import read_tensors

    tree, raw = torch_writers.described(_arrays())
    bases = [torch_writers.zip_bytes(tree, raw), torch_writers.legacy_bytes(tree, raw)]
    return _mutations(bases), _file_case(place / "weights.pth", read_tensors)
