"""A run away from the place and the words it began with."""

import json

import numpy as np
import pytest
from commands import here
from PIL import Image

pytestmark = pytest.mark.slow

RUN = (
    "--config=configs/folder.py:smoke",
    "--config.steps=4",
    "--config.hnet.widths=(4,8)",
    "--config.anet.kind=none",
)


def draw(directory, number, *, first=0):
    for kind, colour in (("cat", (200, 90, 40)), ("dog", (30, 90, 200))):
        (directory / kind).mkdir(parents=True)
        for index in range(first, first + number):
            rng = np.random.default_rng(index)
            noise = rng.integers(-30, 30, (40, 40, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(directory / kind / f"{index}.png")
    return directory


def results_of(workdir, name="results.json"):
    return json.loads((workdir / name).read_text())


def test_moved_joined_and_longer(capsys, tmp_path):
    photos, workdir = draw(tmp_path / "photos", 24), tmp_path / "run"
    (photos / "@eaDir").mkdir()
    begin = (*RUN, f"--workdir={workdir}", f"--config.data.path={photos}")
    status, _, err = here(capsys, "train", *begin)
    assert status == 0, err
    assert "folder: 48 images (all 48) of 2 classes: cat 24, dog 24" in err
    assert "passed over: 1 @eaDir" in err
    first = results_of(workdir)
    assert first["num_unanswerable"] == 0
    assert first["map_answerable"] == first["map"]
    kept = results_of(workdir, "data.json")
    assert kept["passed_over"] == {"@eaDir": 1}
    assert "passed over: 1 @eaDir" in (workdir / "report.html").read_text()

    moved = photos.rename(tmp_path / "moved")
    status, _, err = here(capsys, "eval", f"--workdir={workdir}")
    assert status == 2 and "--data=PATH says where they were moved to" in err
    status, _, err = here(capsys, "eval", f"--workdir={workdir}", f"--data={moved}")
    assert status == 0, err
    again = results_of(workdir)
    assert again["map"] == pytest.approx(first["map"], abs=1e-6)
    assert again["changed"] == {"data.path": str(moved)}

    queries = draw(tmp_path / "queries", 3, first=50)
    database = draw(tmp_path / "database", 5, first=70)
    moved.rename(tmp_path / "gone")
    status, _, err = here(
        capsys,
        "eval",
        f"--workdir={workdir}",
        f"--queries={queries}",
        f"--database={database}",
    )
    assert status == 0, err
    (name,) = (path.name for path in workdir.glob("results_step_4_other_*.json"))
    found = results_of(workdir, name)
    assert (found["num_query"], found["num_database"]) == (6, 10)
    assert found["changed"] == {"queries": str(queries), "database": str(database)}
    assert found["num_query_copies"] == 0
    assert results_of(workdir)["map"] == again["map"]

    status, _, err = here(
        capsys,
        "train",
        *begin,
        "--config.steps=6",
        f"--data={tmp_path / 'gone'}",
    )
    assert status == 0, err
    assert "goes on from 4 to 6 steps; the learning rate" in err
    assert results_of(workdir)["steps"] == 6
    assert results_of(workdir, "results_step_4.json")["steps"] == 4
    assert results_of(workdir, "config.json")["steps"] == 6

    status, _, err = here(
        capsys,
        "train",
        *RUN,
        f"--workdir={tmp_path / 'next'}",
        f"--config.data.path={tmp_path / 'gone'}",
        f"--from-run={workdir}",
    )
    assert status == 0, err
    assert results_of(tmp_path / "next", "model.json")["weights"] == str(workdir)


def test_check_names_near_copies(capsys, tmp_path):
    photos = tmp_path / "photos"
    for kind in ("cat", "dog"):
        (photos / "train" / kind).mkdir(parents=True)
        (photos / "test" / kind).mkdir(parents=True)
        for index in range(12):
            rng = np.random.default_rng((index, kind == "dog"))
            small = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
            part = "test" if index < 2 else "train"
            large = small.resize((60, 60), Image.Resampling.BICUBIC)
            large.save(photos / part / kind / f"{index}.png")
    copied = Image.open(photos / "test/cat/1.png")
    copied.resize((48, 48)).save(photos / "train/cat/again.jpg", quality=80)
    status, out, err = here(
        capsys,
        "train",
        *RUN,
        f"--config.data.path={photos}",
        "--config.data.protocol=official",
        "--config.data.num_queries=0",
        "--config.data.num_validation=2",
        "--check",
    )
    assert status == 0, err
    assert "queries with a copy in database: 0" in out
    assert "queries with a near copy in database: 1" in out
    (line,) = {line for line in out.splitlines() if "is like" in line}
    assert "'test/cat/1.png' is like image" in line and "'train/cat/again.jpg'" in line
