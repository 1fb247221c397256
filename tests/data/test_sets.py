"""Each data set as users have it: original files, prepared, trained, evaluated.

Small trees in the exact original layouts, by the commands and the shipped configs.
"""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import tree_nus_wide
import tree_tfds
from commands import here, run
from PIL import Image
from sklearn.datasets import load_sample_images

pytestmark = pytest.mark.slow

SMALLER = (
    "--config.steps=4",
    "--config.log_every=2",
    "--config.checkpoint_every=2",
    "--config.eval.every=2",
    "--config.hnet.widths=(4,8)",
    "--config.anet.width=4",
    "--config.anet.grid=3",
)
"""Beside the preset `smoke`: what is tested is the way of the images."""


def train_and_evaluate(
    capsys, tmp_path: Path, config: str, *overrides: str
) -> tuple[dict, Path]:
    """Trains, then evaluates; returns the results and the workdir."""
    workdir = tmp_path / "run"
    status, out, err = here(
        capsys, "train", f"--config={config}", f"--workdir={workdir}", *overrides
    )
    assert status == 0, err
    assert "mAP" in out
    results = json.loads((workdir / "results.json").read_text())
    assert "<html" in (workdir / "report.html").read_text()
    status, _, err = here(capsys, "eval", f"--workdir={workdir}")
    assert status == 0, err
    again = json.loads((workdir / "results.json").read_text())
    assert again["map"] == pytest.approx(results["map"], abs=1e-6)
    split = json.loads((workdir / "split.json").read_text())
    assert split["digest"] == results["split_digest"]
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    assert all(0 <= json.loads(line)["data_wait"] < 1 for line in lines)
    return results, workdir


def sizes(results: dict) -> tuple[int, int, int]:
    """Queries, labelled images, database images."""
    return tuple(results[f"num_{name}"] for name in ("query", "labelled", "database"))


PREPARED: dict[str, tuple[str, Callable[..., None], tuple[int, ...], tuple]] = {
    # As shipped; the others smaller.
    "cifar10": (
        "cifar10",
        lambda path: tree_tfds.cifar10(path, num_train=150, num_test=50),
        (30, 50, 120),
        (),
    ),
    "cub200": ("caltech_birds2011", tree_tfds.cub200, (200, 200, 400), SMALLER),
    "stanford_dogs": (
        "stanford_dogs",
        tree_tfds.stanford_dogs,
        (120, 120, 240),
        SMALLER,
    ),
}


@pytest.mark.parametrize("name", PREPARED)
def test_prepared_by_tfds(capsys, tmp_path, name):
    prepared, draw, wanted, smaller = PREPARED[name]
    draw(tmp_path / "archives")
    arguments = [
        "prepare",
        prepared,
        f"--from={tmp_path / 'archives'}",
        f"--data-dir={tmp_path / 'tfds'}",
        "--no-verify",
    ]
    status, out, err = here(capsys, *arguments)
    assert status == 0, err
    # Again: it is recognised, not done twice.
    status, out, err = here(capsys, *arguments)
    assert status == 0, err
    assert "already prepared" in out + err
    results, _ = train_and_evaluate(
        capsys,
        tmp_path,
        f"configs/{name}.py:smoke",
        f"--config.data.path={tmp_path / 'tfds'}",
        *smaller,
    )
    assert sizes(results) == wanted
    assert results["num_missing"] == 0


def test_nus_wide(capsys, tmp_path):
    tree_nus_wide.draw(tmp_path / "nus", num_images=400, seed=0, missing=3)
    results, workdir = train_and_evaluate(
        capsys,
        tmp_path,
        "configs/nuswide.py:smoke",
        f"--config.data.path={tmp_path / 'nus'}",
        *SMALLER,
    )
    assert results["num_missing"] == 3
    assert len((workdir / "missing.txt").read_text().splitlines()) == 3
    queries, labelled, database = sizes(results)
    assert (queries, labelled) == (42, 42)
    # Eight in ten images show one of the 21 concepts; labelled ones stay.
    assert database == 320 - 3 - 42
    assert results["protocol"] == "nus_wide_21"
    assert results["top_k"] == 100


def test_nus_wide_through_tfds(capsys, tmp_path):
    tree_nus_wide.draw(tmp_path / "nus", num_images=400, seed=0)
    # In a process of its own: our builder's types are TFDS's, which we replace.
    status, _, err = run(
        *("-m", "ssah_jax", "prepare", "nus_wide"),
        *(f"--from={tmp_path / 'nus'}", f"--data-dir={tmp_path / 'tfds'}"),
    )
    assert status == 0, err
    results, _ = train_and_evaluate(
        capsys,
        tmp_path,
        "configs/nuswide.py:smoke",
        "--config.data.source=tfds",
        "--config.data.name=nus_wide",
        f"--config.data.path={tmp_path / 'tfds'}",
        *SMALLER,
    )
    assert sizes(results) == (42, 42, 278)


def write_photographs(directory: Path, number: int) -> list[tuple[str, str]]:
    """PNG files cut from scikit-learn's two photographs, and their tags.

    Tags are the photograph, and the halves of it that the square touches.
    """
    directory.mkdir()
    rows = []
    names = ("temple", "flower")
    for index in range(number):
        photograph = load_sample_images().images[index % 2]
        top, left = (index * 37) % 300, (index * 53) % 500
        square = photograph[top : top + 120, left : left + 140]
        name = f"{index:03d}.png"
        Image.fromarray(square).save(directory / name)
        tags = [names[index % 2]]
        tags += ["left"] if left < 320 else []
        tags += ["right"] if left + 140 > 320 else []
        rows.append((name, "|".join(tags)))
    return rows


def test_a_folder_of_photographs_with_a_table_of_tags(capsys, tmp_path):
    rows = write_photographs(tmp_path / "photos", 120)
    # Some without tags, one listed and not there, one damaged.
    rows[7:17] = [(name, "") for name, _ in rows[7:17]]
    rows.append(("gone.png", "temple"))
    damaged = tmp_path / "photos" / rows[30][0]
    damaged.write_bytes(damaged.read_bytes()[:500])
    table = tmp_path / "photos" / "tags.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "labels"), *rows])
    arguments = [
        "--config=configs/folder.py:smoke",
        f"--config.data.path={table}",
        "--config.data.multi_label=True",
    ]
    status, out, err = here(capsys, "train", *arguments, "--check")
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0].startswith(
        "table: 120 images (all 110, unlabelled 10) of 4 classes"
    )
    assert lines[1] == "1 listed images are not there"
    assert lines[2].startswith("protocol pooled: query 10, validation 10, labelled 8,")
    unreadable = lines.index("unreadable: 1")
    assert lines[unreadable - 1] == "missing on disk: 1"
    assert lines[unreadable + 1].startswith(f"  {rows[30][0]}: found ")
    assert lines[unreadable + 2] == "queries with a copy in labelled: 0"

    results, workdir = train_and_evaluate(
        capsys,
        tmp_path,
        "configs/folder.py:smoke",
        f"--config.data.path={table}",
        "--config.data.multi_label=True",
        *SMALLER,
    )
    assert results["num_missing"] == 1
    assert (workdir / "missing.txt").read_text() == "gone.png\n"
    assert results["num_skipped"] == 1
    assert rows[30][0] in (workdir / "skipped.txt").read_text()
    queries, labelled, database = sizes(results)
    assert (queries, labelled) == (10, 8)
    assert database == 110 - 10 - 1

    # The same with `raise` is one line that names the file.
    status, _, err = here(
        capsys,
        "train",
        "--config=configs/folder.py:smoke",
        f"--workdir={tmp_path / 'other'}",
        f"--config.data.path={table}",
        "--config.data.multi_label=True",
        "--config.data.on_error=raise",
    )
    assert status == 2
    assert len(err.strip().splitlines()[-1:]) == 1
    assert err.strip().splitlines()[-1].startswith("error: ")
    assert rows[30][0] in err
    assert "Traceback" not in err


def test_class_folders_in_too_great_disorder_end_the_run(capsys, tmp_path):
    for index, (name, _) in enumerate(write_photographs(tmp_path / "flat", 60)):
        folder = tmp_path / "photos" / ("temple", "flower")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        content = (tmp_path / "flat" / name).read_bytes()
        # A fifth is empty, five in a hundred are accepted.
        (folder / name).write_bytes(b"" if index % 5 == 0 else content)
    status, _, err = here(
        capsys,
        "train",
        "--config=configs/folder.py:smoke",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.path={tmp_path / 'photos'}",
    )
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    # Threads may have read one more.
    assert re.search("data.max_skipped: found [4-9] of 60 images unreadable", line)
    assert "accepted is a share of at most 0.05" in line
