"""How long the tests take, from what pytest wrote of a run of all and one of the quick.

    pytest -n 2 --junitxml all.xml
    pytest -n 2 -m "not slow" --junitxml quick.xml
    python benchmarks/suite_time.py all.xml quick.xml

Writes benchmarks/results/suite_time.json and prints the line for README. Measure on a
machine that does nothing else, with an empty `JAX_COMPILATION_CACHE_DIR`, as CI has it.
Prints also what took longer than one second in the quick run: mark it `slow`.
"""

import argparse
import datetime
import platform
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import records

SLOW = 1.0
"""Seconds from which on a test is `slow`."""


def read(path: Path) -> dict[str, Any]:
    """A run: seconds by the clock, its end, seconds of tests by folder and the slowest.

    The seconds of tests are those of all workers together.
    """
    (suite,) = ElementTree.parse(path).getroot().iter("testsuite")
    folders: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    for case in suite.iter("testcase"):
        module = case.get("classname", "").split(".")
        folders["/".join(module[:2])] += float(case.get("time", 0))
        name = f"{'/'.join(module)}.py::{case.get('name')}"
        seconds[name] = float(case.get("time", 0))
    ended = datetime.datetime.fromisoformat(suite.get("timestamp", ""))
    return {
        "date": ended.date().isoformat(),
        "seconds": round(float(suite.get("time", 0))),
        **{k: int(suite.get(k, 0)) for k in ("tests", "failures", "errors", "skipped")},
        "seconds_by_folder": {k: round(v) for k, v in folders.most_common()},
        "slowest": dict(sorted(seconds.items(), key=lambda x: -x[1])[:40]),
    }


def main() -> None:
    """Write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("all", type=Path)
    parser.add_argument("quick", type=Path)
    given = parser.parse_args()
    whole, quick = read(given.all), read(given.quick)
    about = {"python": platform.python_version(), "all": whole, "quick": quick}
    records.write("suite_time", about)
    for name, seconds in quick["slowest"].items():
        if seconds > SLOW:
            print(f"{seconds:6.1f} s  {name}")
    print(
        f"On two CPU cores the tests take {whole['seconds'] / 60:.0f} minutes, those "
        f'of `-m "not slow"` {quick["seconds"] / 60:.0f} ({whole["date"]})'
    )


if __name__ == "__main__":
    main()
