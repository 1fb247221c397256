"""Runs on other data than their own: joined sets, moved data, more steps."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from ssah_jax.config import from_config_dict
from ssah_jax.data import DataError
from ssah_jax.run.experiment import prepare
from ssah_jax.run.other_sets import JoinedImages, find_data, other_sets, start_from
from ssah_jax.run.train_state import init_state
from ssah_jax.run.workdir import Workdir, WorkdirError


def draw(directory, classes, number, *, first=0):
    """PNG files of class folders, all different."""
    for index, name in enumerate(classes):
        (directory / name).mkdir(parents=True, exist_ok=True)
        for i in range(first, first + number):
            colour = (60 * index, 3 * i, 10)
            Image.new("RGB", (8, 8), colour).save(directory / name / f"{i}.png")
    return directory


def config_of(path, **fields):
    data = {"source": "folder", "path": str(path), "image_size": 8, "store": "memory"}
    data |= {"protocol": "pooled", "num_queries": 4, "num_validation": 0}
    values = {"data": data, "eval": {"every": 0}, "hnet": {"widths": (4, 4)}}
    values |= {"labels_per_class": 0, "steps": 5, **fields}
    return from_config_dict(values)


@pytest.fixture
def own(tmp_path):
    return prepare(config_of(draw(tmp_path / "own", ("cat", "dog"), 6)))


def test_joined_images(own):
    images = own.source.images
    joined = JoinedImages([images, images[:3]], [str(i) for i in range(15)])
    assert joined.shape == (15, 8, 8, 3)
    for index in range(15):
        np.testing.assert_array_equal(joined[index], images[index % 12])
    assert joined.encoded(13) == images[1].tobytes()


def test_other_queries_and_another_database(tmp_path, own):
    queries = draw(tmp_path / "q", ("dog", "emu"), 3, first=50)
    database = draw(tmp_path / "d", ("cat", "dog", "emu"), 4, first=70)
    # No emu in the run's own database: nothing could answer.
    with pytest.raises(DataError, match=r"3 queries of 1 classes .* shows \(emu\)"):
        other_sets(own.config, own.info, own=own, queries=str(queries), database=None)
    known = draw(tmp_path / "known", ("cat", "dog"), 3, first=50)
    found = other_sets(own.config, own.info, own=own, queries=str(known), database=None)
    source, split = found.source, found.split
    names = [source.names[i] for i in split.query]
    assert names == [f"{c}/{i}.png" for c in ("cat", "dog") for i in (50, 51, 52)]
    shown = [source.class_names[i] for i in source.labels[split.query].argmax(axis=1)]
    assert shown == ["cat"] * 3 + ["dog"] * 3
    theirs = {own.source.names[i] for i in own.split.database}
    assert {source.names[i] for i in split.database} == theirs
    for row in (*split.query.tolist(), *split.database.tolist()):
        assert source.images[row].shape == (8, 8, 3)
    assert found.understanding.num_unanswerable == 0

    both = other_sets(
        own.config, own.info, own=None, queries=str(queries), database=str(database)
    )
    assert both.source.class_names == ("cat", "dog", "emu")
    assert len(both.split.database) == 12
    assert both.understanding.num_unanswerable == 0
    assert both.info.data_digest != found.info.data_digest


def test_parts_say_who_is_query_and_database(tmp_path, own):
    given = tmp_path / "g"
    for part, first in (("train", 0), ("test", 20), ("gallery", 40)):
        draw(given / part, ("cat", "dog"), 2, first=first)
    found = other_sets(
        own.config, own.info, own=None, queries=str(given), database=str(given)
    )
    named = [
        {found.source.names[i].split("/")[0] for i in rows}
        for rows in (found.split.query, found.split.database)
    ]
    assert named == [{"test"}, {"gallery"}]


def test_images_of_another_shape(tmp_path, own):
    info = dataclasses.replace(own.info, image_shape=(9, 9, 3))
    with pytest.raises(DataError, match=r"found images of shape \(8, 8, 3\), expected"):
        other_sets(
            own.config, info, own=own, queries=str(tmp_path / "own"), database=None
        )


def test_where_data_lie_now(tmp_path, own, monkeypatch):
    config = own.config
    workdir = Workdir(tmp_path / "run")
    assert find_data(config, workdir, None) == ""
    assert find_data(config, workdir, f"{tmp_path}/x") == f"{tmp_path}/x"
    monkeypatch.chdir(tmp_path)
    relative = dataclasses.replace(
        config, data=dataclasses.replace(config.data, path="own")
    )
    assert find_data(relative, workdir, None) == ""
    workdir.path.mkdir()
    workdir.write_data({"said": []}, str(tmp_path / "own"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find_data(relative, workdir, None) == f"{tmp_path}/own"
    moved = prepare(relative, path=find_data(relative, workdir, None))
    assert moved.info.data_digest == own.info.data_digest
    assert moved.config == relative
    (tmp_path / "own").rename(tmp_path / "moved")
    with pytest.raises(WorkdirError, match="--data=PATH says where they were moved to"):
        find_data(relative, workdir, None)
    digits = from_config_dict({"data": {"source": "digits"}})
    with pytest.raises(WorkdirError, match="source digits, which has no path"):
        find_data(digits, workdir, "x")


def test_more_steps_and_nothing_else(tmp_path, own):
    workdir = Workdir(tmp_path / "run")
    workdir.create(own.config, "{}", own.info)
    workdir.results.write_text(json.dumps({"steps": 5}))
    longer = dataclasses.replace(own.config, steps=9)
    assert workdir.wants_more_steps(own.config) == 0
    assert workdir.wants_more_steps(dataclasses.replace(own.config, steps=4)) == 0
    assert workdir.wants_more_steps(dataclasses.replace(longer, bits=16)) == 0
    assert workdir.wants_more_steps(longer) == 5
    workdir.check_free_for(longer)
    with pytest.raises(WorkdirError, match="holds a run of another config: steps"):
        workdir.check_free_for(dataclasses.replace(own.config, steps=4))
    workdir.extend(longer)
    assert workdir.read_config() == longer
    assert not workdir.results.exists()
    kept = json.loads((workdir.path / "results_step_5.json").read_text())
    assert kept == {"steps": 5}


@pytest.mark.slow
def test_all_parameters_of_an_earlier_run(tmp_path, own, monkeypatch):
    state, other = (
        init_state(own),
        init_state(
            dataclasses.replace(own, config=dataclasses.replace(own.config, seed=3))
        ),
    )

    class Loaded:
        state = other

    monkeypatch.setattr("ssah_jax.run.other_sets.load_encoder", lambda workdir: Loaded)
    begun, digest = start_from(state, Workdir(tmp_path))
    assert len(digest) == 64
    for name in ("hnet", "anet", "batch_stats", "teacher", "teacher_stats"):
        for ours, theirs in zip(
            jax.tree.leaves(getattr(begun, name)),
            jax.tree.leaves(getattr(other, name)),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs)
    assert int(begun.step) == 0
    assert np.array_equal(
        jax.random.key_data(begun.key), jax.random.key_data(state.key)
    )
    Loaded.state = init_state(
        dataclasses.replace(own, config=dataclasses.replace(own.config, bits=16))
    )
    with pytest.raises(WorkdirError, match=r"--from-run: found hnet/.* of shape"):
        start_from(state, Workdir(tmp_path))
