"""Faults survived, in figures: kills, signals, full disks, damage, bad input.

Each part writes its own section of results/faults.json as it ends, so that they can be
run one by one, in any order:

    python benchmarks/faults.py kill preempt disk damage inputs hostile long
    python benchmarks/faults.py pythons --python PATH-OF-ANOTHER-PYTHON

`--quick` tries each kind a few times. A fault is a traceback, a wrong number, a hang, a
file that is half there: the exit status is 1 where one was found. `docs/faults.md` says
what is promised.
"""

import argparse
import datetime
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).parent / "results" / "faults.json"
PARTS = {
    "kill": "kills",
    "preempt": "signals",
    "disk": "disks",
    "damage": "damage",
    "inputs": "inputs",
    "hostile": "hostile",
    "long": "endurance",
    "pythons": "pythons",
}


def main() -> int:
    """Runs the parts asked for; 1 if one of them found a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--table", action="store_true", help="print the record")
    parser.add_argument("--quick", action="store_true", help="a few of each kind")
    parser.add_argument("--only", default="", help="pieces of a part, by commas")
    parser.add_argument(
        "--limit",
        type=float,
        default=1e9,
        metavar="SECONDS",
        help="no more kills after so long; the record has how many there were",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--python", default="", help="another Python, for pythons")
    parser.add_argument("--record", type=Path, default=RECORD)
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.record.read_text())))
        return 0
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"PART: found {unknown[0]}, accepted are {', '.join(PARTS)}")
    options.only = [word for word in options.only.split(",") if word]
    if "pythons" in options.parts and not options.python:
        parser.error("pythons: needs --python PATH of another Python with the package")
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]
    status = 0
    for name in options.parts:
        status |= run(name, options)
    return status


def run(name: str, options: argparse.Namespace) -> int:
    """One part, and its section of the record."""
    import importlib

    module = importlib.import_module(f"fault_parts.{PARTS[name]}")
    started, about = time.monotonic(), versions()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        pieces = module.run(Path(folder).resolve(), options)
    # Read now: another part may have ended meanwhile.
    record = json.loads(options.record.read_text()) if options.record.is_file() else {}
    before = record.get(name, {}).get("pieces", {}) if options.only else {}
    about |= {
        "seed": options.seed,
        "quick": options.quick,
        "seconds": round(time.monotonic() - started, 1),
    }
    for piece in pieces.values():
        piece["run"] = about
    record[name] = {"pieces": before | pieces}
    options.record.parent.mkdir(parents=True, exist_ok=True)
    options.record.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    print(json.dumps(pieces, indent=1))
    found = [piece for piece in pieces.values() if piece.get("faults")]
    print(f"{name}: {len(found)} of {len(pieces)} pieces with faults")
    return 1 if found else 0


def table(record: dict[str, Any]) -> str:
    """The record in Markdown, a line a piece."""
    lines = ["| part | piece | figures | faults | revision |", "|---|---|---|---|---|"]
    for part in PARTS:
        for piece, found in record.get(part, {}).get("pieces", {}).items():
            figures = {
                key.replace("_", " "): value
                for key, value in found.items()
                if key not in ("faults", "run", "said", "number_of_faults", "note")
            }
            text = "; ".join(f"{key} {_plain(value)}" for key, value in figures.items())
            faults = len(found["faults"])
            revision = found["run"]["revision"]
            lines.append(f"| {part} | {piece} | {text} | {faults} | {revision} |")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(each)}" for key, each in value.items())
    if isinstance(value, list):
        return " ".join(map(_plain, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def versions() -> dict[str, str]:
    """What the figures are of."""
    from importlib.metadata import version

    done = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = ("jax", "orbax-checkpoint", "pyarrow", "pillow")
    return {
        "revision": done.stdout.strip() or "unknown",
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


if __name__ == "__main__":
    sys.exit(main())
