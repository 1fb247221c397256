"""Records of `study.py`: from cells to rows, back to cells, and as tables."""

import dataclasses
import itertools
import re
import statistics
from typing import Any

import records
from scipy import stats
from studies import STUDIES, Study

SETS = ("occluded", "rotated")
"""Of queries, beside the clean ones; see `robustness.py`."""

BESIDE = ("ndcg", *SETS, "validation")
"""Beside `map`, where a run has them."""

OLDER = (
    "earlier_parts",
    "earlier_bits",
    "earlier_peers",
    "earlier_digits_parts",
    "adversary_both",
    "adversary_cifar10_both",
    "adversary_easing",
    "adversary_cifar10_easing",
    "few_labels_cosine",
    "few_labels_cifar10_cosine",
    "adversary_own_loss",
    "adversary_cifar10_own_loss",
    "adversary_mosaics_own_loss",
    "length_cifar10_own_loss",
    "adversary_kept_draw",
    "length_cifar10_kept_draw",
)
"""Records of what the library no longer does: ranges by hand with entropies held, hard
samples occluded *and* turned, A-Net holding the mean hardness by a multiplier, a
consistent loss that asked for cosines, beside this project's own hash loss, and a pace
that followed the hardest of several draws."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study."""

    row: str
    column: str
    seed: int


def interval(differences: list[float]) -> float:
    """Half the 95 % confidence interval of a mean difference (Student's t)."""
    quantile = stats.t.ppf(0.975, len(differences) - 1)
    return quantile * statistics.stdev(differences) / len(differences) ** 0.5


def summarise(study: Study, found: dict[Cell, dict]) -> list[dict]:
    """Mean, sd and paired difference to the baseline, for each row and column.

    Each over the seeds that there are; differences over those of both.
    """
    table = []
    for row, column in itertools.product(study.rows, study.columns):
        here = {
            cell.seed: found[cell]
            for cell in sorted(found, key=lambda x: x.seed)
            if (cell.row, cell.column) == (row, column)
        }
        if not here:
            continue
        base = {
            x.seed: y["map"]
            for x, y in found.items()
            if (x.row, x.column) == (study.baseline, column)
        }
        values = [cell["map"] for cell in here.values()]
        differences = [here[seed]["map"] - base[seed] for seed in here if seed in base]
        sets = {
            name: [cell.get(name) for cell in here.values()]
            for name in BESIDE
            if any(name in cell for cell in here.values())
        }
        table.append(
            {
                "row": row,
                "column": column,
                "presets": study.rows[row],
                "seeds": list(here),
                "map": values,
                "mean": statistics.mean(values),
                "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
                "difference": statistics.mean(differences) if differences else None,
                "difference_ci95": interval(differences)
                if len(differences) > 1
                else None,
                **sets,
                "devices": sorted(
                    {x for cell in here.values() for x in cell["devices"]}
                ),
                "wall_seconds": statistics.mean(
                    cell["wall_seconds"] for cell in here.values()
                ),
            }
        )
    return table


def cells_of(name: str, study: Study) -> dict[Cell, dict[str, Any]]:
    """The cells that a study's record was made of; none where there is no record.

    Raises:
        SystemExit: the study has come to ask for something else.
    """
    path = records.RESULTS / f"{name}.json"
    if not path.exists():
        return {}
    record = records.read(name)
    for field in ("config", "presets"):
        if record[field] != getattr(study, field):
            raise SystemExit(
                f"{path}: {field}: found {record[field]!r}, the study has "
                f"{getattr(study, field)!r}; remove the record to begin anew"
            )
    found = {}
    for line in record["cells"]:
        if study.rows.get(line["row"]) != line["presets"]:
            raise SystemExit(
                f"{path}: row {line['row']!r}: found presets {line['presets']!r}, the "
                f"study has {study.rows.get(line['row'])!r}; remove the record to "
                "begin anew"
            )
        for place, seed in enumerate(line["seeds"]):
            each = {key: line[key][place] for key in ("map", *BESIDE) if key in line}
            each = {key: value for key, value in each.items() if value is not None}
            # Before records said of which devices, all were CPUs.
            each["devices"] = line.get("devices", ["cpu"])
            each["wall_seconds"] = line["wall_seconds"]
            found[Cell(line["row"], line["column"], seed)] = each
    return found


def spread(values: list[float | None]) -> str:
    """Mean and standard deviation of what was measured; of one value that alone."""
    values = [value for value in values if value is not None]
    if len(values) < 2:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def markdown(name: str) -> str:
    """The record's table."""
    record = records.read(name)
    sets = [name for name in BESIDE if name in record["cells"][0]]
    heads = [
        "",
        STUDIES.get(re.sub("_(own_loss|kept_draw)$", "", name), Study).heading,
        "`map`",
        f"minus {record['baseline']} (95 % CI)",
        *sets,
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads))]
    for line in record["cells"]:
        same = line["row"] == record["baseline"]
        difference = "" if line["difference"] is None else f"{line['difference']:+.3f}"
        if line["difference_ci95"] is not None:
            difference += f" ± {line['difference_ci95']:.3f}"
        cells = [line["row"], line["column"], spread(line["map"])]
        cells += ["" if same else difference]
        cells += [spread(line[name]) if name in line else "" for name in sets]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def minus(name: str, other: str) -> str:
    """Points of mAP by which rows differ from another, paired by seed, as a table.

    Raises:
        SystemExit: the record has no such row.
    """
    record = records.read(name)
    lines = record["cells"]
    if other not in {line["row"] for line in lines}:
        rows = ", ".join(repr(row) for row in {line["row"]: None for line in lines})
        raise SystemExit(f"--minus: found {other!r}, accepted is one of {rows}")
    sets = ["map"]
    sets += [key for key in (*SETS, "validation") if any(key in x for x in lines)]
    heads = ["", "", *(f"`{key}`" if key == "map" else key for key in sets)]
    table = ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads))]
    base = {line["column"]: line for line in lines if line["row"] == other}
    for line in lines:
        if line["row"] == other or line["column"] not in base:
            continue
        cells = [line["row"], line["column"]]
        for key in sets:
            differences = paired(line, base[line["column"]], key)
            seeds = len(differences)
            cells.append(f"{points(differences)} ({seeds})" if seeds else "")
        table.append("| " + " | ".join(cells) + " |")
    return "\n".join(table)


def paired(line: dict[str, Any], base: dict[str, Any], key: str) -> list[float]:
    """Points by which a row differs from another, for each seed that both have."""
    if key not in line or key not in base:
        return []
    both = [
        (line[key][line["seeds"].index(seed)], base[key][base["seeds"].index(seed)])
        for seed in line["seeds"]
        if seed in base["seeds"]
    ]
    return [100 * (a - b) for a, b in both if None not in (a, b)]


def points(differences: list[float]) -> str:
    """Their mean, and half the 95 % interval where there are several."""
    text = f"{statistics.mean(differences):+.1f}"
    if len(differences) > 1:
        text += f" ± {interval(differences):.1f}"
    return text
