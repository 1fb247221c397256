"""A run begun under one Python and gone on with under another, and the reverse."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fault_parts.scenes import photos

ROOT = Path(__file__).parents[2]
_WORDS = (
    *("--config.batch.labelled=8", "--config.batch.unlabelled=8", "--config.bits=16"),
    *("--config.hnet.widths=(4,8)", "--config.anet.width=4", "--config.anet.grid=3"),
    *("--config.data.num_queries=50", "--config.data.num_validation=50"),
    *("--config.log_every=2", "--config.checkpoint_every=3", "--config.eval.every=6"),
)
_FINGERPRINT = """
import sys
from ssah_jax.run.run_encoder import load_encoder
from ssah_jax.run.workdir import Workdir
print(load_encoder(Workdir(sys.argv[1])).fingerprint)
"""


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Both ways: the same numbers are read, evaluation agrees, training goes on."""
    pictures = photos(folder / "photos")
    pairs = ((sys.executable, options.python), (options.python, sys.executable))
    pieces = {}
    for first, second in pairs:
        names = [_ask(python, "import platform; print(platform.python_version())")
                 for python in (first, second)]  # fmt: skip
        faults: list[str] = []
        workdir = folder / f"of {names[0]}"
        train = ["-m", "ssah_jax", "train", "--config=digits", f"--workdir={workdir}"]
        _call(first, faults, *train, *_WORDS, "--config.steps=6")
        written, read = (_ask(p, _FINGERPRINT, workdir) for p in (first, second))
        if written != read:
            faults.append(f"another fingerprint: {written}, {read}")
        maps = []
        for python in (first, second):
            _call(python, faults, "-m", "ssah_jax", "eval", f"--workdir={workdir}")
            maps.append(json.loads((workdir / "results.json").read_text())["map"])
        if abs(maps[0] - maps[1]) > 1e-6:
            faults.append(f"another mAP: {maps}")
        codes, index = workdir / "codes.parquet", workdir / "photos.index"
        encode = ["-m", "ssah_jax", "encode", f"--workdir={workdir}", pictures]
        _call(first, faults, *encode, "--out", codes)
        _call(second, faults, "-m", "ssah_jax", "index", codes, "--out", index)
        query = sorted(pictures.rglob("*.png"))[0]
        search = ["-m", "ssah_jax", "search", f"--workdir={workdir}", query]
        _call(first, faults, *search, f"--index={index}")
        for each in (codes, index):
            each.unlink()
        _call(second, faults, *train, *_WORDS, "--config.steps=12")
        steps = json.loads((workdir / "results.json").read_text())["steps"]
        if steps != 12:
            faults.append(f"went on to step {steps}")
        pieces[f"{names[0]} then {names[1]}"] = {
            "same_fingerprint": written == read,
            "map": maps,
            "went_on_to_step": steps,
            "faults": faults,
        }
    return pieces


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}


def _ask(python: str, program: str, *words: Any) -> str:
    done = subprocess.run(
        [python, "-c", program, *map(str, words)],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def _call(python: str, faults: list[str], *words: Any) -> None:
    done = subprocess.run(
        [python, *map(str, words)],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or "Traceback" in done.stderr:
        faults.append(f"{words[2]}: status {done.returncode}: {done.stderr[-300:]}")
