"""Data sets by their words: each gets the fields of the configuration that it reads."""

import dataclasses

import numpy as np
import pytest

from ssah_jax.config import DataConfig, from_config_dict
from ssah_jax.data.by_name import SOURCES, Loader
from ssah_jax.run.experiment import load_source


@pytest.mark.parametrize("word", SOURCES)
def test_a_source_reads_fields_that_there_are(word):
    fields = {field.name for field in dataclasses.fields(DataConfig)}
    assert set(SOURCES[word].fields) <= fields | {"seed"}
    assert not SOURCES[word].path or "path" in SOURCES[word].fields


def test_a_source_gets_what_the_configuration_says(monkeypatch):
    given = {}

    def load(path, separator, image_size, seed):
        given.update(path=path, separator=separator, image_size=image_size, seed=seed)
        return SOURCES["digits"].load()

    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setitem(SOURCES, "folder", Loader(load, path="a place"))
    data = {"source": "folder", "path": "~/x", "separator": ";", "image_size": 7}
    found = load_source(from_config_dict({"seed": 3, "data": data}))
    assert given == {
        "path": "/home/somebody/x",
        "separator": ";",
        "image_size": 7,
        "seed": 3,
    }
    np.testing.assert_array_equal(found.images[0], SOURCES["digits"].load().images[0])
