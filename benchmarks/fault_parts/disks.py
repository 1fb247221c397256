"""Disks that are full, fill up meanwhile, or are read-only. Needs root, to mount."""

import argparse
import contextlib
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fault_parts.children import call, ssah, train
from fault_parts.kills import _left
from fault_parts.outputs import run_of, state_of
from fault_parts.scenes import EVERY, STEPS, commands, photos, trained

_DISK = 24 << 20
_FREE = (0, 4, 16, 64, 200, 500, 900, 1300, 2000, 4000)
"""Kilobytes left when a command begins."""


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Every writer on disks of several sizes; training on one that fills meanwhile."""
    if os.geteuid():
        raise SystemExit("disk: found no root, expected it, to mount small disks")
    pieces: dict[str, Any] = {}
    whole = trained(folder / "run")
    wanted = run_of(whole, call(state_of, whole))
    sizes = _FREE[1::4] if options.quick else _FREE
    times = 2 if options.quick else 10

    def asked(name: str) -> bool:
        return not options.only or any(word in name for word in options.only)

    with _disk(folder / "disk") as disk:
        if asked("train, full before"):
            pieces["train, full before"] = _training(disk, sizes, wanted)
        if asked("train, full meanwhile"):
            pieces["train, full meanwhile"] = _filling(disk, times, wanted)
        print(pieces, flush=True)
        others = ("encode", "index", "search", "features", "prepare", "read-only")
        if not any(map(asked, others)):
            return pieces
        known = commands(folder, whole, photos(folder / "photos"))
        for name, words in known.items():
            if not asked(name):
                continue
            place = folder / f"{name} whole"
            place.mkdir()
            ssah(*words(place)).end()
            pieces[f"{name}, full before"] = _command(disk, sizes, name, words, place)
            print(name, pieces[f"{name}, full before"], flush=True)
    if asked("read-only"):
        with _disk(folder / "fixed") as disk:
            pieces["read-only"] = _read_only(folder, disk)
    return pieces


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    path.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", path)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def _mount(*words: Any) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


@contextlib.contextmanager
def _filled(disk: Path, free: int) -> Iterator[None]:
    """Leave so many bytes."""
    filler = disk / "filler"
    _fill(filler, free)
    try:
        yield
    finally:
        filler.unlink(missing_ok=True)


def _fill(filler: Path, free: int) -> None:
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        rest = os.statvfs(filler.parent)
        left = rest.f_bavail * rest.f_bsize - free
        while left > 0:
            left -= file.write(b"\0" * min(left, 1 << 20))


def _empty(disk: Path) -> None:
    subprocess.run(["find", str(disk), "-mindepth", "1", "-delete"], check=True)


def _training(disk: Path, sizes: Any, wanted: Any) -> dict[str, Any]:
    faults, told, most = [], 0, 0
    for kilobytes in sizes:
        with _filled(disk, kilobytes << 10):
            ended = train(disk / "run", *STEPS, EVERY).end()
        told += ended.status == 2
        most = max(most, ended.err.count("\n"))
        if fault := ended.fault(accepted=(0, 2), lines=16):
            faults.append(f"{kilobytes} kB: {fault}")
        faults += _goes_on(disk, wanted)
        _empty(disk)
    return {
        "sizes_in_kB": list(sizes),
        "told_in_one_line": told,
        "most_lines_on_standard_error": most,
        "identical_after_going_on": not faults,
        "faults": faults,
    }


def _goes_on(disk: Path, wanted: Any) -> list[str]:
    again = train(disk / "run", *STEPS, EVERY).end()
    if fault := again.fault(accepted=(0,)):
        return [f"then: {fault}"]
    found = run_of(disk / "run", call(state_of, disk / "run"))
    return [f"then: {key} differs" for key in wanted if found[key] != wanted[key]]


def _filling(disk: Path, times: int, wanted: Any) -> dict[str, Any]:
    """The disk fills at once, while checkpoints are written."""
    draw = random.Random(0)
    faults, told, most, kept = [], 0, 0, 0
    for _ in range(times):
        child = train(disk / "run", *STEPS, EVERY)
        saves, filler = disk / "run" / "checkpoints", disk / "filler"
        number = draw.randrange(1, 4)
        seen: set[str] = set()
        while (status := child.poll()) is None and len(seen) < number:
            seen |= {p.name for p in saves.glob("*tmp*")} if saves.is_dir() else set()
            time.sleep(0.001)
        _fill(filler, 0)
        ended = child.end(status=status)
        filler.unlink()
        told += ended.status == 2
        kept += any(p.name.isdecimal() for p in saves.glob("*"))
        most = max(most, ended.err.count("\n"))
        if fault := ended.fault(accepted=(0, 2), lines=16):
            faults.append(fault)
        faults += _goes_on(disk, wanted)
        _empty(disk)
    return {
        "times": times,
        "told_in_one_line": told,
        "with_a_checkpoint_kept": kept,
        "most_lines_on_standard_error": most,
        "identical_after_going_on": not faults,
        "faults": faults,
    }


def _command(
    disk: Path, sizes: Any, name: str, words: Any, whole: Path
) -> dict[str, Any]:
    faults, told, wanted = [], 0, _left(name, whole)
    place = disk / "place"
    for kilobytes in sizes:
        place.mkdir()
        with _filled(disk, kilobytes << 10):
            ended = ssah(*words(place)).end()
        told += ended.status == 2
        if fault := ended.fault(accepted=(0, 2), lines=4):
            faults.append(f"{kilobytes} kB: {fault}")
        if ended.status == 2:
            again = ssah(*words(place)).end()
            if fault := again.fault(accepted=(0,)):
                faults.append(f"then: {fault}")
        try:
            if _left(name, place) != wanted:
                faults.append(f"{kilobytes} kB: another result")
        except (OSError, RuntimeError, ValueError) as error:
            faults.append(f"{kilobytes} kB: {error!s:.200}")
        _empty(disk)
    return {"sizes_in_kB": list(sizes), "told_in_one_line": told, "faults": faults}


def _read_only(folder: Path, disk: Path) -> dict[str, Any]:
    """A workdir that nobody may write to is still read."""
    workdir, faults, said = trained(disk / "run"), [], {}
    _mount("-o", "remount,ro", disk)
    pictures, out = folder / "photos", folder / "from read-only"
    out.mkdir()
    index = folder / "photos.index"
    query = sorted(pictures.rglob("*.png"))[0]
    encode = ["encode", "--workdir", workdir]
    prepare = ["prepare", "cifar10", "--from", folder / "archive", "--no-verify"]
    for name, words, status in (
        ("encode", [*encode, pictures, "--out", out / "c.parquet"], 0),
        ("search", ["search", "--workdir", workdir, "--index", index, query], 2),
        ("eval", ["eval", "--workdir", workdir], 2),
        ("out", [*encode, query, "--out", disk / "c.parquet"], 2),
        ("prepare", [*prepare, "--data-dir", disk / "data"], 2),
    ):
        ended = ssah(*words).end()
        accepted = (status,) if name != "search" else (0, 2)
        if fault := ended.fault(accepted=accepted):
            faults.append(f"{name}: {fault}")
        said[name] = ended.err.strip().splitlines()[-1:] or ended.out.splitlines()[-1:]
    for more in (STEPS, (*STEPS[1:], "--config.steps=20")):
        ended = train(workdir, *more, EVERY).end()
        if fault := ended.fault(accepted=(0, 2)):
            faults.append(f"train: {fault}")
        said[f"train {more[-1]}"] = (ended.err or ended.out).strip().splitlines()[-1:]
    text = {k: " ".join(v).replace(str(folder), "DIR")[:200] for k, v in said.items()}
    return {"said": text, "faults": faults}
