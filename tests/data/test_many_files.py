"""Whether many listed files are there, without asking the disk for each."""

import os

import numpy as np
import pytest

from ssah_jax.data import finding, spelling
from ssah_jax.data.splits import either, without


@pytest.fixture
def folder(tmp_path):
    """Two folders of 100 files, one of them reached by a link too, and a folder."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for index in range(100):
            (tmp_path / name / f"{index}.png").touch()
    (tmp_path / "linked").symlink_to(tmp_path / "one", target_is_directory=True)
    (tmp_path / "one" / "x.png").mkdir()
    (tmp_path / "one" / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "one" / "link.png").symlink_to(tmp_path / "two" / "3.png")
    return tmp_path


def test_the_answer_is_that_of_the_disk(folder):
    numbers = range(120)
    names = [f"{at}/{i}.png" for at in ("one", "two", "linked") for i in numbers]
    names += [f"{folder}/two/{index}.png" for index in numbers]
    names += ["one/x.png", "one/dangling.png", "one/link.png", "none/1.png", "a.png"]
    names += [f"one/../two/{index}.png" for index in numbers]
    names = list(np.random.default_rng(0).permutation(names))
    wanted = [os.path.isfile(folder / name) for name in names]
    found = spelling.find_files(folder, names)
    assert (found.first >= 0).tolist() == wanted
    files = [os.path.realpath(folder / name) for name in names]
    for index in np.flatnonzero(wanted):
        assert found.first[index] == files.index(files[index])
    assert list(found.missing) == [
        n for n, there in zip(names, wanted, strict=True) if not there
    ]


def test_a_folder_of_many_is_read_once(folder, monkeypatch):
    asked = []
    real = spelling.file_identity
    monkeypatch.setattr(
        spelling, "file_identity", lambda path: asked.append(path) or real(path)
    )
    names = [f"one/{index}.png" for index in range(101)]
    found = spelling.find_files(folder, names)
    assert found.missing == ("one/100.png",)
    assert asked == [os.path.join(folder, "one/100.png")]


def test_a_walk_asks_for_no_file_by_itself(folder, monkeypatch):
    """But for links, which the disk has to follow."""
    (folder / "two" / "circle.png").symlink_to("circle.png")
    asked = []
    for name in ("isdir", "isfile"):
        real = getattr(os.path, name)
        monkeypatch.setattr(
            os.path,
            name,
            lambda path, real=real: asked.append(os.path.basename(path)) or real(path),
        )
    found = finding.find_images(folder)
    assert len(found) == 3 * 100 + 2
    assert {"one/link.png", "linked/link.png", "linked/5.png"} <= set(found)
    assert list(finding.folders_in(folder, finding.PassedOver())) == [
        *("linked", "one", "two")
    ]
    assert list(finding.folders_in(folder / "two", finding.PassedOver())) == []
    assert set(asked) == {"linked", "dangling.png", "link.png", "circle.png"}


def test_sets_of_rows_are_those_of_numpy():
    rng = np.random.default_rng(0)
    for most in (1, 5, 40, 10**9):
        for _ in range(20):
            one, other = (
                np.unique(rng.integers(0, most, rng.integers(0, 30))) for _ in range(2)
            )
            for ours, theirs in ((without, np.setdiff1d), (either, np.union1d)):
                found = ours(one, other)
                np.testing.assert_array_equal(found, theirs(one, other))
                assert found.dtype == np.int64
