"""SIGTERM, SIGUSR1 and Ctrl-C, once and twice: a checkpoint, one line, and on."""

import argparse
import os
import signal
import time
from pathlib import Path
from typing import Any

from fault_parts.children import call, ssah, train
from fault_parts.kills import _left
from fault_parts.outputs import run_of, state_of
from fault_parts.scenes import commands, photos, trained

_STEPS = ("--config.steps=200", "--config.log_every=10")
_SAVES = ("--config.checkpoint_every=10", "--config.eval.every=100")

SENT = {
    "SIGTERM": [signal.SIGTERM],
    "SIGUSR1": [signal.SIGUSR1],
    "SIGUSR1 then SIGTERM": [signal.SIGUSR1, signal.SIGTERM],
    "Ctrl-C": [signal.SIGINT],
    "Ctrl-C twice": [signal.SIGINT, signal.SIGINT],
}


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Training by each signal at several moments; the other commands by Ctrl-C."""
    pieces: dict[str, Any] = {}
    times = 1 if options.quick else 2
    whole = folder / "whole"
    done = train(whole, *_STEPS, *_SAVES).end()
    if done.status:
        raise RuntimeError(done.err)
    wanted = run_of(whole, call(state_of, whole))
    for name, numbers in SENT.items():
        faults, stopped, said = [], 0, []
        for attempt in range(times):
            workdir = folder / f"{name} {attempt}"
            child = train(workdir, *_STEPS, *_SAVES)
            log = workdir / "metrics.jsonl"
            while child.poll() is None and not (
                log.is_file() and log.read_text().count("\n") > 3 + 5 * attempt
            ):
                time.sleep(0.005)
            for number in numbers:
                os.kill(child.pid, number)
                time.sleep(0.002)
            ended = child.end(60)
            stopped += ended.status == 130
            said.append(ended.err.strip().splitlines()[-1])
            if fault := ended.fault(accepted=(130,)):
                faults.append(fault)
            # A second Ctrl-C does not wait for a checkpoint.
            if (
                len(set(numbers)) == len(numbers)
                and "; the same command" not in said[-1]
            ):
                faults.append(said[-1])
            again = train(workdir, *_STEPS, *_SAVES).end()
            if fault := again.fault(accepted=(0,)):
                faults.append(fault)
            else:
                found = run_of(workdir, call(state_of, workdir))
                # A stopped run logs the step that it stopped at, too.
                steps = {line["step"] for line in wanted["metrics"]}
                found["metrics"] = [x for x in found["metrics"] if x["step"] in steps]
                if found != wanted:
                    faults.append("another result after going on")
        pieces[f"train, {name}"] = {
            "times": times,
            "stopped_with_status_130": stopped,
            "said": said[-1].replace(str(folder), "DIR"),
            "identical_after_going_on": not faults,
            "faults": faults,
        }
        print(name, pieces[f"train, {name}"], flush=True)
    work = trained(folder / "run")
    known = commands(folder, work, photos(folder / "photos"))
    for name, words in known.items():
        pieces[f"{name}, Ctrl-C"] = _interrupted(folder / name, name, words, times)
        print(name, pieces[f"{name}, Ctrl-C"], flush=True)
    return pieces


def _interrupted(folder: Path, name: str, words: Any, times: int) -> dict[str, Any]:
    faults = []
    for each in ("first", "whole"):
        (folder / each).mkdir(parents=True)
        done = ssah(*words(folder / each)).end()
    wanted = _left(name, folder / "whole")
    interrupted = 0
    for attempt in range(times):
        place = folder / str(attempt)
        place.mkdir()
        child = ssah(*words(place))
        time.sleep(done.seconds * (attempt + 1) / (times + 1))
        status = child.poll()
        if status is None:
            os.kill(child.pid, signal.SIGINT)
        ended = child.end(60, status=status)
        interrupted += ended.status == 130
        if fault := ended.fault(accepted=(0, 130)):
            faults.append(fault)
        if ended.status == 130:
            again = ssah(*words(place)).end()
            if fault := again.fault(accepted=(0,)):
                faults.append(fault)
        if _left(name, place) != wanted:
            faults.append("another result")
    return {"times": times, "interrupted": interrupted, "faults": faults}
