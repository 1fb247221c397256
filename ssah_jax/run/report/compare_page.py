"""Several runs beside each other on one page, complete in itself.

Reads only what lies in the workdirs, finished or under way.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssah_jax.run.report.page import render
from ssah_jax.run.report.plots import comparison_plots
from ssah_jax.run.report.run_page import MEASURED, RUN, read_object, read_rows, shown

_FACTS = ("steps", "num_labelled", "num_query", "num_database", "bits", "seed")
_SAME = ("protocol", "split_digest", "num_query", "num_database")
_MISSING = "none"


def comparison(workdirs: Sequence[Path]) -> str:
    """The page: curves, the final table, and where the configurations differ.

    Args:
        workdirs: of two runs or more; whatever is missing there is left out.

    Raises:
        ValueError: a directory is no run, or one of its files is not JSON.
    """
    for path in workdirs:
        if not (path / "config.json").is_file():
            raise ValueError(f"{path}: no config.json, so not the workdir of a run")
    names = short_names(workdirs)
    results = [read_object(path / "results.json") for path in workdirs]
    configs = [_flat(read_object(path / "config.json")) for path in workdirs]
    rows = [read_rows(path / "metrics.jsonl") for path in workdirs]
    differ = [
        key
        for key in _SAME
        if len({json.dumps(found[key]) for found in results if key in found}) > 1
    ]
    return render(
        "compare.html",
        title=f"{len(names)} runs",
        names=names,
        measured=_table(results, [*MEASURED, *_FACTS], RUN | MEASURED),
        unlike=differ,
        plots=comparison_plots(rows),
        config=_differences(configs),
    )


def short_names(workdirs: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [path.absolute().parts for path in workdirs]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    # One run, given twice.
    return [f"{'/'.join(each[-1:])} ({i})" for i, each in enumerate(parts, 1)]


def _table(
    found: Sequence[Mapping[str, Any]], keys: Sequence[str], titles: Mapping[str, str]
) -> list[tuple[str, list[str]]]:
    rows = []
    for key in keys:
        values = [shown(key, each[key]) if key in each else _MISSING for each in found]
        if any(value != _MISSING for value in values):
            rows.append((titles.get(key, key), values))
    return rows


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        found |= _flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return found


def _differences(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Fields that are not the same in all runs, with their values."""
    keys = dict.fromkeys(key for config in configs for key in config)
    rows = [
        (
            key,
            [
                json.dumps(c[key], ensure_ascii=False) if key in c else _MISSING
                for c in configs
            ],
        )
        for key in keys
    ]
    return [row for row in rows if len(set(row[1])) > 1]
