"""Files cut short at 20 places, and 200 random bytes flipped, one after another."""

import argparse
import contextlib
import io
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fault_parts.children import Child, call, quick_time, ssah, train
from fault_parts.outputs import codes_of, run_of, state_of
from fault_parts.scenes import EVERY, STEPS, commands, photos, trained

_LIMIT = 10.0
"""Seconds that a damaged file may take."""


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All kinds of files, in processes of their own; a few by the commands."""
    cuts, flips = (4, 10) if options.quick else (20, 200)
    work = trained(folder / "run")
    known = commands(folder, work, photos(folder / "photos"))
    done = ssah(*known["features"](folder)).end()
    if done.status:
        raise RuntimeError(done.err)
    kinds: dict[str, tuple[Path, Callable[[Path], Any]]] = {
        "results": (work / "results.json", _results),
        "metrics": (work / "metrics.jsonl", _metrics),
        "codes (Parquet)": (folder / "codes.parquet", codes_of),
        "index": (folder / "photos.index", _index),
        "features": (folder / "features", _features),
        "checkpoint": (work / "checkpoints", _checkpoint),
    }
    pieces = {}
    for name, (path, read) in kinds.items():
        if options.only and name.split()[0] not in options.only:
            continue
        child = Child(_try_all, path, read, cuts, flips, options.seed, memory=4 << 30)
        ended = child.end(3000)
        if ended.value is None:
            why = "hang" if ended.status is None else ended.err[-300:]
            pieces[name] = {"faults": [why]}
        else:
            pieces[name] = ended.value
        print(name, pieces[name], flush=True)
    if not options.only or "commands" in options.only:
        pieces["commands"] = _by_commands(folder, work, 2 if options.quick else 6)
    return pieces


def _try_all(
    path: Path, read: Callable[[Path], Any], cuts: int, flips: int, seed: int
) -> dict[str, Any]:
    draw = random.Random(seed)
    content = path.is_file()
    root = path if not content else path.parent
    last = _last_checkpoint(root) if path.name == "checkpoints" else root
    files = [path] if content else [p for p in sorted(last.rglob("*")) if p.is_file()]
    wanted, before = read(path), None
    if path.name == "checkpoints":
        spare = path.with_name("spare")
        shutil.copytree(path, spare)
        shutil.rmtree(_last_checkpoint(path))
        before = read(path)
        _put_back(path, spare)
    sizes = [file.stat().st_size for file in files]
    said: Counter[str] = Counter()
    faults: list[str] = []
    for kind, number in (("cut", cuts), ("flip", flips)):
        for _ in range(number):
            file = draw.choices(files, sizes)[0]
            whole = file.read_bytes()
            at = draw.randrange(len(whole))
            changed = bytearray(whole)
            if kind == "cut":
                changed = changed[:at]
            else:
                changed[at] ^= draw.randrange(1, 256)
            file.write_bytes(changed)
            where = f"{kind} of {file.name} at {at}"
            what, fault = _outcome(path, read, wanted, before, root)
            said[f"{kind}: {what}"] += 1
            if fault:
                faults.append(f"{where}: {fault}")
            if path.name == "checkpoints":
                _put_back(path, spare)
            else:
                file.write_bytes(whole)
    return {"cuts": cuts, "flips": flips, "outcomes": dict(said), "faults": faults}


def _outcome(
    path: Path, read: Callable[[Path], Any], wanted: Any, before: Any, root: Path
) -> tuple[str, str]:
    """What a reader made of a damaged file, and what is wrong with that."""
    told = io.StringIO()
    try:
        with quick_time(_LIMIT), contextlib.redirect_stderr(told):
            found = read(path)
    except ValueError as error:
        if not type(error).__module__.startswith("ssah_jax."):
            return "another error", f"{type(error).__name__}: {error!s:.150}"
        named = path.name in str(error) or root.name in str(error)
        return "named", "" if named and "\n" not in str(
            error
        ) else f"not named: {error}"
    except BaseException as error:
        return "another error", f"{type(error).__name__}: {error!s:.150}"
    if found == wanted:
        return "nothing that is read had changed", ""
    if before is not None and found == before and "is damaged" in told.getvalue():
        return "named, the checkpoint before used", ""
    return "another result", "another result"


def _results(path: Path) -> Any:
    from ssah_jax.run.workdir import Workdir

    return Workdir(path.parent).read_results()


def _metrics(path: Path) -> Any:
    # The log of a run, which no number is computed from: it must be told or read.
    from ssah_jax.run.workdir import Workdir

    Workdir(path.parent).read_metrics()
    return "read"


def _index(path: Path) -> Any:
    import numpy as np

    from ssah_jax.retrieval.index import load_index

    index = load_index(path)
    queries = np.random.default_rng(0).normal(size=(5, index.bits))
    distances, rows = index.search(queries, 10)
    return (
        *(index.ids, index.labels, index.bits, index.fingerprint, index.kind),
        *(distances.tobytes(), rows.tobytes()),
    )


def _features(path: Path) -> Any:
    import numpy as np

    from ssah_jax.data import features_source

    found = features_source(path)
    return (
        *(np.asarray(found.images).tobytes(), found.labels.tobytes(), found.names),
        {name: rows.tolist() for name, rows in found.parts.items()},
    )


def _checkpoint(path: Path) -> Any:
    import jax
    import numpy as np

    from ssah_jax.run import train_state
    from ssah_jax.run.checkpointing import open_checkpoints
    from ssah_jax.run.experiment import iterate, prepare
    from ssah_jax.run.workdir import Workdir

    if path not in _SCENES:
        experiment = prepare(Workdir(path.parent).read_config())
        like = jax.eval_shape(lambda: train_state.init_state(experiment))
        _SCENES[path] = experiment, like
    experiment, like = _SCENES[path]
    streams = iterate(experiment).streams
    with open_checkpoints(path) as checkpoints:
        state = checkpoints.restore_latest(like, iterators=streams)
        best = checkpoints.best_step()
    state = state.replace(key=jax.random.key_data(state.key))
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]
    places = {name: each.get_state() for name, each in streams.items()}
    return leaves, places, best if best != _latest(path) else None


_SCENES: dict[Path, Any] = {}


def _latest(path: Path) -> int:
    return max(int(p.name) for p in path.iterdir() if p.name.isdecimal())


def _last_checkpoint(path: Path) -> Path:
    return path / str(_latest(path))


def _put_back(path: Path, spare: Path) -> None:
    shutil.rmtree(path)
    shutil.copytree(spare, path)


def _by_commands(folder: Path, work: Path, times: int) -> dict[str, Any]:
    """The same as a user meets it: a run whose last checkpoint is damaged goes on."""
    draw, faults, said = random.Random(1), [], ""
    wanted = run_of(work, call(state_of, work))
    for number in range(times):
        copy = folder / f"damaged {number}"
        shutil.copytree(work, copy)
        for name in ("results.json", "report.html"):
            (copy / name).unlink()
        last = _last_checkpoint(copy / "checkpoints")
        data = [p for p in last.rglob("*") if p.is_file() and "ocdbt" in str(p)]
        for file in data:
            content = bytearray(file.read_bytes())
            for _ in range(200):
                content[draw.randrange(len(content))] ^= draw.randrange(1, 256)
            file.write_bytes(content)
        ended = train(copy, *STEPS, EVERY).end()
        said = ended.err
        if fault := ended.fault(accepted=(0,)):
            faults.append(fault)
            continue
        found = run_of(copy, call(state_of, copy))
        faults += [f"{k} differs" for k in wanted if found[k] != wanted[k]]
        if "is damaged" not in said:
            faults.append("no warning")
    warning = [line for line in said.splitlines() if line.startswith("warning: ")]
    return {
        "runs_with_200_bytes_flipped_in_each_file_of_numbers": times,
        "said": " ".join(warning).replace(str(folder), "DIR")[:300],
        "identical_after_going_on": not faults,
        "faults": faults,
    }
