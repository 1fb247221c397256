"""Accumulation and rematerialisation: less memory, the same gradients."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from small_runs import config as small
from step_cases import make_batch, make_state, relative_error

from ssah_jax.config import ConfigError
from ssah_jax.method import steps
from ssah_jax.run import opening
from ssah_jax.run.experiment import prepare
from ssah_jax.run.workdir import Workdir


def with_(config, **changes):
    for name, value in changes.items():
        group, _, field = name.partition("__")
        new = dataclasses.replace(getattr(config, group), **{field: value})
        config = dataclasses.replace(config, **{group: new})
    return config


def gradients(config):
    state, batch = make_state(config), make_batch(config)
    return jax.jit(lambda s, b: steps.gradients(s, b, config=config))(state, batch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "changes"),
    [
        ("group", {"optim__accumulate": 4, "hnet__remat": True}),
        pytest.param("batch", {"hnet__remat": True}, marks=pytest.mark.slow),
    ],
)
def test_gradients_of_the_global_losses_are_the_same(norm, changes):
    plain = with_(small(batch={"labelled": 16, "unlabelled": 16}), hnet__norm=norm)
    one, found = gradients(plain), gradients(with_(plain, **changes))
    for part in ("hnet", "anet", "carried"):
        assert relative_error(getattr(found, part), getattr(one, part)) < 1e-4, part
    for name, value in one.metrics.items():
        np.testing.assert_allclose(
            found.metrics[name], value, rtol=1e-4, atol=1e-6, err_msg=name
        )


def temporaries(config) -> int:
    state, batch = make_state(config), make_batch(config)
    step = jax.jit(lambda s, b: steps.gradients(s, b, config=config))
    analysis = step.lower(state, batch).compile().memory_analysis()
    return int(analysis.temp_size_in_bytes)


@pytest.mark.slow
def test_parts_need_less_memory():
    plain = small(
        batch={"labelled": 64, "unlabelled": 64},
        hnet={"widths": (16, 16), "norm": "none"},
        anet={"kind": "none"},
    )
    parts = temporaries(with_(plain, optim__accumulate=8))
    assert parts < 0.7 * temporaries(plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim__accumulate": 3, "hnet__norm": "none"}, "a divisor of the 2 labelled"),
        ({"optim__accumulate": 2}, "accepted is 1 with batch normalisation"),
    ],
)
def test_what_would_not_be_equal_is_refused(changes, message, tmp_path: Path):
    asked = with_(small(batch={"labelled": 16, "unlabelled": 16}), **changes)
    workdir = Workdir(tmp_path / "run")
    with (
        pytest.raises(ConfigError, match=message),
        opening.open_run(prepare(asked), workdir),
    ):
        pass
    assert not workdir.path.exists()
