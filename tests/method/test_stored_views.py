"""Views that are stored as features: drawn for a step, compared, and learnt from."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_cases import (
    CLASSES,
    gradients_of,
    relative_error,
    slow,
)

from ssah_jax.config import Config, ConfigError, from_config_dict
from ssah_jax.method import steps, stored_views
from ssah_jax.method.views import make_views
from ssah_jax.types import Batch

NOTHING = {"consistent": 0.0, "cross_view": 1.0}
VIEWS, WIDTH = 5, 6


def head(kind="stored", labelled=16, **loss) -> Config:
    return from_config_dict(
        {
            "bits": 8,
            "batch": {"labelled": labelled, "unlabelled": 24},
            "data": {"source": "features", "max_shift": 0},
            "hnet": {"backbone": "features"},
            "anet": {"kind": kind, "width": 2, "grid": 2},
            "loss": loss,
        }
    )


def batch_of(config: Config, seed: int = 0) -> Batch:
    """Features of views; every number tells the view that it is of by its sign."""
    rng = np.random.default_rng(seed)

    def features(number):
        return rng.normal(size=(number, VIEWS, 1, WIDTH)).astype(np.float16)

    labels = np.eye(CLASSES, dtype=np.float32)
    return Batch(
        image=features(config.batch.labelled),
        label=labels[rng.integers(0, CLASSES, config.batch.labelled)],
        unlabelled=features(config.batch.unlabelled),
    )


def state_of(config: Config):
    return jax.jit(
        partial(
            steps.init_state,
            config=config,
            image_shape=(1, 1, WIDTH),
            num_classes=CLASSES,
        )
    )(jax.random.key(0))


def test_each_view_is_drawn_from_its_kind_and_equally_often():
    views = jnp.arange(VIEWS, dtype=jnp.float32)[:, None, None]
    keys = jax.random.split(jax.random.key(0), 3000)
    drawn = jax.vmap(lambda key: stored_views.draw(key, views))(keys)
    weak, other, hard = (np.ravel(x).astype(int) for x in drawn)
    for found, wanted in ((weak, 3 * [1000] + [0, 0]), (hard, [0, 0, 0, 1500, 1500])):
        counts = np.bincount(found, minlength=VIEWS)
        assert np.array_equal(counts > 0, np.array(wanted) > 0)
        np.testing.assert_allclose(counts, wanted, atol=150)
    assert not np.any(weak == other)
    np.testing.assert_allclose(np.bincount(other), 3 * [1000], atol=150)
    # Which hard sample is drawn says nothing of which weak view is.
    together = np.bincount(hard[weak == 0] - 3)
    np.testing.assert_allclose(together / together.sum(), 0.5, atol=0.06)


def test_of_two_views_the_hard_one_is_the_other():
    views = jnp.arange(2.0)[:, None, None]
    drawn = stored_views.draw(jax.random.key(0), views)
    assert [float(jnp.squeeze(view)) for view in drawn] == [0, 1, 1]


def test_a_single_view_is_all_there_is():
    view = jnp.ones((1, 1, WIDTH))
    for found in stored_views.draw(jax.random.key(0), view):
        np.testing.assert_array_equal(found, view)


@pytest.mark.slow
def test_a_step_sees_the_views_that_it_asks_for():
    config = head(cross_view=1.0)
    batch = batch_of(config)
    given = jax.tree.map(jnp.asarray, batch)
    views = make_views(jax.random.key(1), given, config=config)
    assert views.labelled.shape == (16, 1, 1, WIDTH)
    assert views.other.shape == (24, 1, 1, WIDTH)
    rows = np.concatenate([batch.image, batch.unlabelled])[:, :, 0].astype(np.float32)
    stored, first = np.asarray(views.stored)[:, 0, 0], np.asarray(views.labelled)
    for image, found in zip(rows, stored, strict=True):
        assert any(np.array_equal(found, view) for view in image[3:])
    for image, found in zip(rows, first[:, 0, 0], strict=False):
        assert any(np.array_equal(found, view) for view in image[:3])
    without = make_views(jax.random.key(1), given, config=head("none"))
    assert without.other is None and without.stored is None


def test_evaluation_sees_the_image_itself_alone():
    config = head()
    state, batch = state_of(config), batch_of(config)
    encode = jax.jit(partial(steps.encode_step, config=config))
    wanted = encode(state.hnet, state.batch_stats, batch.image)
    other = batch.image.copy()
    other[:, 1:] = 7
    assert np.array_equal(encode(state.hnet, state.batch_stats, other), wanted)
    other[:, 0] = 7
    assert not np.array_equal(encode(state.hnet, state.batch_stats, other), wanted)


HEADS = {
    "hard and compared": head(cross_view=1.0),
    "no labels": head("none", 0, **NOTHING),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [slow("hard and compared"), "no labels"])
def test_eight_devices_equal_one(name):
    config = HEADS[name]
    state, batch = state_of(config), batch_of(config)
    one = gradients_of(config, state, batch, 1)
    found = gradients_of(config, state, batch, 8)
    for leaf in jax.tree.leaves(found):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
    first = jax.tree.map(lambda leaf: leaf[0], found)
    assert first.metrics.keys() == one.metrics.keys()
    assert {"loss/cross_view", "loss/coding_rate"} <= first.metrics.keys()
    assert relative_error(first.hnet, one.hnet) < 1e-4
    assert relative_error(first.carried, one.carried) < 1e-4
    for metric, value in one.metrics.items():
        np.testing.assert_allclose(
            first.metrics[metric], value, rtol=1e-4, atol=1e-7, err_msg=metric
        )


def test_without_labels_nothing_of_them_is_there_and_codes_spread():
    config = HEADS["no labels"]
    state, batch = state_of(config), batch_of(config)
    step = jax.jit(partial(steps.train_step, config=config))
    losses = []
    for _ in range(200):  # half of them warm up
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss/total"]))
    named = {name for name in metrics if name.startswith("loss/")}
    assert named == {"loss/cross_view", "loss/coding_rate", "loss/total"}
    assert np.mean(losses[-20:]) < np.mean(losses[:20]) - 0.1
    assert not any(name.startswith("pace/") for name in metrics)


MISTAKES = {
    "nothing to learn": (("none", 0, {"consistent": 0.0}), "cross_view: found 0.0"),
    "a teacher of labels": (("none", 0, {"cross_view": 1.0}), "consistent: found 0.5"),
    "hard samples": (("stored", 0, NOTHING), "anet.kind: found stored"),
    "one label": (("none", 1, {}), "batch.labelled: found 1"),
    "made of features": (("random", 16, {}), "anet.kind: found 'random'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_does_not_go_together_is_one_line(name):
    (kind, labelled, loss), said = MISTAKES[name]
    with pytest.raises(ConfigError, match=said) as error:
        head(kind, labelled, **loss)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"anet\.kind: found 'stored'"):
        from_config_dict({"anet": {"kind": "stored"}})
