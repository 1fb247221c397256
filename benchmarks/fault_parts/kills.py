"""SIGKILL at random moments, restarted until done: nothing may differ."""

import argparse
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fault_parts.children import Child, call, ssah, train
from fault_parts.outputs import codes_of, run_of, state_of, tree_of
from fault_parts.scenes import commands, photos, trained

_STEPS = ("--config.steps=20", "--config.log_every=2", "--config.checkpoint_every=2")
_EVERY = "--config.eval.every=10"


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All pieces, or those of `--only`."""
    pieces = {}
    wanted = options.only or [
        "train",
        "train8",
        "encode",
        "index",
        "features",
        "prepare",
    ]
    for name, devices in (("train", 1), ("train8", 8)):
        if name in wanted:
            kills = 3 if options.quick else 50
            pieces[name] = _training(
                folder / name, kills, devices, options.seed, options.limit
            )
            print(name, pieces[name], flush=True)
    others = [n for n in wanted if not n.startswith("train")]
    if others:
        work = trained(folder / "run")
        known = commands(folder, work, photos(folder / "photos"))
        for name in others:
            kills = 2 if options.quick else 20
            piece = _command(folder / name, name, known[name], kills, options)
            pieces[name] = piece
            print(name, piece, flush=True)
    return pieces


def _training(
    folder: Path, kills: int, devices: int, seed: int, limit: float
) -> dict[str, Any]:
    """Half of the kills at any moment, half once a checkpoint is being written."""
    draw = random.Random(seed)
    words = (*_STEPS, _EVERY)
    # Twice: the first compiles.
    for name in ("first", "whole"):
        done = train(folder / name, *words, devices=devices).end()
        if done.status:
            raise RuntimeError(done.err)
    seconds, whole = done.seconds, folder / "whole"
    wanted = run_of(whole, call(state_of, whole, devices=devices))
    found = {"kills": 0, "inside_checkpoint_writes": 0, "runs": 0, "restarts": 0}
    deadline = time.monotonic() + limit
    faults: list[str] = []
    number = 0
    while found["kills"] < kills and time.monotonic() < deadline:
        workdir = folder / f"run{number}"
        number += 1
        found["runs"] += 1
        while True:
            child = train(workdir, *words, devices=devices)
            killed, inside = False, False
            if found["kills"] < kills and time.monotonic() < deadline:
                aimed = draw.random() < 0.5
                moment = draw.uniform(0, 1.05 * seconds)
                killed, inside = _kill(child, workdir, aimed, moment, draw)
            found["kills"] += killed
            found["inside_checkpoint_writes"] += inside
            if killed:
                found["restarts"] += 1
                continue
            ended = child.end() if child.pid else _ENDED[child]
            if fault := ended.fault(accepted=(0,)):
                faults.append(fault)
            break
        if not faults:
            got = run_of(workdir, call(state_of, workdir, devices=devices))
            faults += [f"{key} differs" for key in wanted if got[key] != wanted[key]]
        shutil.rmtree(workdir, ignore_errors=True)
        if faults:
            break
    return found | {
        "devices": devices,
        "seconds_of_an_uninterrupted_run": round(seconds, 1),
        "identical": not faults and found["kills"] > 0,
        "faults": faults,
    }


_ENDED: dict[Child, Any] = {}


def _kill(
    child: Child, workdir: Path, aimed: bool, moment: float, draw: random.Random
) -> tuple[bool, bool]:
    """Kills a training; whether it lived still, and whether it was at a checkpoint."""
    begun = time.monotonic()
    saves = workdir / "checkpoints"
    writing = draw.randrange(1, 5)  # of the next saves, the one that is hit
    seen: set[str] = set()
    while True:
        status = child.poll()
        if status is not None:
            _ENDED[child] = child.end(status=status)
            child.pid = 0
            return False, False
        if aimed:
            seen |= {p.name for p in saves.glob("*tmp*")} if saves.is_dir() else set()
            if len(seen) >= writing:
                time.sleep(draw.uniform(0, 0.05))
                break
        elif time.monotonic() - begun > moment:
            break
        time.sleep(0.001)
    ended = child.kill()
    inside = saves.is_dir() and any(saves.glob("*tmp*"))
    return ended.status == -9, bool(inside and ended.status == -9)


def _command(
    folder: Path,
    name: str,
    words: Callable[[Path], list[Any]],
    kills: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    draw = random.Random(options.seed)
    deadline = time.monotonic() + options.limit
    for each in ("first", "whole"):
        (folder / each).mkdir(parents=True)
        done = ssah(*words(folder / each)).end()
        if done.status:
            raise RuntimeError(done.err)
    wanted = _left(name, folder / "whole")
    found = {"kills": 0, "runs": 0, "with_something_left_behind": 0}
    faults: list[str] = []
    while found["kills"] < kills and time.monotonic() < deadline and not faults:
        place = folder / f"run{found['runs']}"
        place.mkdir()
        found["runs"] += 1
        for _ in range(4):
            child = ssah(*words(place))
            if found["kills"] >= kills:
                break
            time.sleep(draw.uniform(0, done.seconds))
            status = child.poll()
            if status is not None:
                break
            found["kills"] += 1
            child.kill()
            found["with_something_left_behind"] += any(place.iterdir())
        else:
            child, status = ssah(*words(place)), None
        ended = child.end(status=status if found["kills"] < kills else None)
        # What is there already, complete, is told, and is no fault.
        again = ended.status == 2 and "is there already" in ended.err
        if not again and (fault := ended.fault(accepted=(0,))):
            faults.append(fault)
        elif _left(name, place) != wanted:
            faults.append("another result")
        shutil.rmtree(place)
    return found | {
        "seconds_of_an_uninterrupted_command": round(done.seconds, 1),
        "identical": not faults,
        "faults": faults,
    }


def _left(name: str, place: Path) -> Any:
    """What a command left, all of it."""
    if name == "encode":
        return sorted(p.name for p in place.iterdir()), call(
            codes_of, place / "codes.parquet"
        )
    found = {key.split("/", 1)[1]: value for key, value in tree_of(place).items()}
    # It names versions and a moment.
    return {k: v for k, v in found.items() if not k.endswith("dataset_info.json")}
