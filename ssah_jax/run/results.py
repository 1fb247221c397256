"""What a run leaves at its end: results.json, the pages about it, its gallery."""

import json
from typing import Any

from ssah_jax.data.sealed import sealed
from ssah_jax.retrieval.files import write_atomically
from ssah_jax.run import processes
from ssah_jax.run.report.card import write_card
from ssah_jax.run.report.gallery import Gallery, write_gallery
from ssah_jax.run.workdir import Workdir


def is_finished(workdir: Workdir) -> bool:
    """Whether the run has its results; makes up for pages that a kill prevented.

    Raises:
        WorkdirError: they are not what was written.
    """
    finished = workdir.results.exists()
    if finished:
        workdir.read_results()
    if finished and processes.is_first():
        for page, write in (
            (workdir.report, _write_report),
            (workdir.card, write_card),
        ):
            if not page.exists():
                write(workdir)
    return finished


def write_results(
    workdir: Workdir,
    results: dict[str, Any],
    *,
    name: str = "results.json",
    shown: Gallery | None = None,
) -> None:
    """Complete the results with the seconds of training; write them and the report.

    Queries `shown` in the report are written too; None leaves those that are there.
    """
    results["wall_seconds"] = workdir.seconds_at(results["steps"])
    if shown is not None:
        write_gallery(workdir.path / "gallery", shown)
    text = json.dumps(sealed(results), indent=2) + "\n"
    write_atomically(workdir.path / name, text)
    _write_report(workdir)
    if name == workdir.results.name:
        write_card(workdir)


def _write_report(workdir: Workdir) -> None:
    # Not at the top: Matplotlib is half a second before a first step.
    from ssah_jax.run.report.run_page import write_report

    write_report(workdir.path)
