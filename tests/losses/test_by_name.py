"""Hash losses as a run selects them: each trains, alone and inside SSAH."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_cases import slow_but
from step_cases import (
    CLASSES,
    gradients_of,
    make_batch,
    make_state,
    relative_error,
    slow,
    small_config,
    train_step,
)

from ssah_jax import losses, similarity
from ssah_jax.config import ConfigError, default, from_config_dict
from ssah_jax.config import presets as presets_lib
from ssah_jax.losses import by_name as methods
from ssah_jax.method import codes as hnet_codes
from ssah_jax.method import objectives, steps
from ssah_jax.method.views import make_views

NAMES = list(methods.HASH_LOSSES)
ALONE = {"kind": "none"}
SUPERVISED = {"consistent": 0.0}


def alone(name: str, **loss):
    """A method on labelled images only."""
    return small_config(anet=ALONE, loss={"name": name, **SUPERVISED, **loss})


def nearer(codes, label) -> float:
    """By how much the cosine within classes is above that between them."""
    cosine = np.asarray(similarity.cosine(jnp.sign(codes), jnp.sign(codes)))
    same = label @ label.T > 0
    others = ~np.eye(len(codes), dtype=bool)
    return cosine[same & others].mean() - cosine[~same].mean()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dsh", slow("greedyhash")])
def test_a_network_learns_by_the_method_alone(name):
    config = dataclasses.replace(
        alone(name),
        steps=60,
        data=dataclasses.replace(alone(name).data, max_shift=0, flip=False),
        hnet=dataclasses.replace(alone(name).hnet, widths=(16, 32)),
    )
    step_fn = train_step(config)
    state, batch = make_state(config), make_batch(config)
    state, first = step_fn(state, batch)
    for _ in range(40):
        state, last = step_fn(state, batch)
    assert np.isfinite([float(x) for x in jax.tree.leaves(last)]).all()
    assert float(last["loss/total"]) < float(first["loss/total"])
    # What it is all for: images of a class have the nearer codes.
    encode = jax.jit(partial(steps.encode_step, config=config))
    codes = encode(state.hnet, state.batch_stats, jnp.asarray(batch.image))
    assert nearer(codes, batch.label) > 0.25


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but(NAMES, "dsh", "csq", "greedyhash"))
def test_each_method_draws_the_codes_of_a_class_together(name):
    """Codes that are free to move, as its terms in a step tell them to."""
    config = alone(name)
    state, batch = make_state(config), make_batch(config)
    label = jnp.asarray(batch.label)
    terms = partial(methods.HASH_LOSSES[name].terms, **config.loss.hash_options)

    @jax.jit
    def total(codes):
        labelled = objectives._compare(codes, state.hnet, state, label, None)
        return sum(terms(labelled).values())

    slope = jax.jit(jax.grad(total))
    # Those of a class begin somewhat nearer, as of real images: mutual information is
    # blind to which pairs are the nearer ones.
    own, class_ = (jax.random.normal(jax.random.key(i), (16, 16)) for i in range(2))
    codes = own + 0.5 * label @ class_[: label.shape[1]]
    first, before = total(codes), nearer(codes, batch.label)
    for _ in range(150):
        step = slope(codes)
        codes -= 0.1 * step / jnp.maximum(jnp.max(jnp.abs(step)), 1e-6)
    assert float(total(codes)) < float(first)
    assert nearer(codes, batch.label) > before + 0.15


# With a bank, and with a classifier; test_common.py has all losses on several devices.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["hashnet", "greedyhash"])
def test_methods_inside_ssah_are_the_same_on_eight_devices(name):
    pairs = methods.HASH_LOSSES[name].pairs
    config = small_config(
        loss={
            "name": name,
            "bank": 24 * pairs,
            "balance": 0.1,
            "independence": 0.1,
            "consistent_teacher": 0.5,
            "consistent_graph": 0.5,
        }
    )
    state, batch = make_state(config), make_batch(config, multi_label=True)
    filled = state
    if pairs:
        rng = np.random.default_rng(1)
        bank = state.bank._replace(
            codes=jnp.asarray(rng.normal(size=(24, 16)), jnp.float32),
            labels=jnp.asarray(rng.random((24, CLASSES)) < 0.4, jnp.float32),
            valid=jnp.arange(24) < 16,
            cursor=jnp.asarray(16, jnp.int32),
        )
        filled = state.replace(bank=bank)
    one = gradients_of(config, filled, batch, 1)
    found = gradients_of(config, filled, batch, 8)
    for leaf in jax.tree.leaves(found):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
    first = jax.tree.map(lambda leaf: leaf[0], found)
    assert relative_error(first.hnet, one.hnet) < 2e-5
    assert relative_error(first.carried, one.carried) < 2e-5
    for metric, value in one.metrics.items():
        np.testing.assert_allclose(
            first.metrics[metric], value, rtol=2e-5, atol=1e-6, err_msg=metric
        )
    assert float(one.metrics["loss/hard"]) != 0.0


@pytest.mark.slow
def test_terms_of_ssah_are_the_losses_it_names():
    config = alone("ssah")
    state, batch = make_state(config), make_batch(config)
    codes = jnp.asarray(np.random.default_rng(0).normal(size=(16, 16)), jnp.float32)
    label = jnp.asarray(batch.label)
    labelled = objectives._compare(codes, state.hnet, state, label, None)
    similar = similarity.labels_overlap(label, label)
    terms = methods.ssah(labelled, pair=0.5, point=2.0, quantisation=0.25)
    pairs = losses.logistic_pair_loss(codes, codes, similar)
    wanted = {
        "pair": 0.5
        * losses.balanced_pair_mean(pairs, similar, ~jnp.eye(16, dtype=bool)),
        "point": 2.0
        * losses.orthohash_loss(codes, label, state.centres, scale=10.0).mean(),
        "quantisation": 0.25 * losses.cosine_quantisation(codes).mean(),
    }
    assert terms.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-6)


@pytest.mark.slow
def test_the_bank_holds_the_last_codes_and_pairs_reach_it():
    config = alone("dpsh", bank=40)
    step_fn = train_step(config)
    state = make_state(config)
    assert not np.any(state.bank.valid)
    seen = []
    for seed in range(3):
        batch = make_batch(config, seed)
        state, _ = step_fn(state, batch)
        seen.append(batch.label)
        assert np.sum(state.bank.valid) == min(16 * (seed + 1), 40)
    newest = np.concatenate(seen)[8:]
    np.testing.assert_array_equal(
        np.sort(np.asarray(state.bank.labels), axis=0), np.sort(newest, axis=0)
    )
    # The same step with and without what the bank holds.
    batch = make_batch(config, 9)
    full = gradients_of(config, state, batch, 1)
    empty = state.replace(bank=state.bank._replace(valid=jnp.zeros(40, bool)))
    bare = gradients_of(config, empty, batch, 1)
    without = gradients_of(alone("dpsh"), state.replace(bank={}), batch, 1)
    assert relative_error(full.hnet, bare.hnet) > 1e-3
    assert relative_error(bare.hnet, without.hnet) < 1e-6


@pytest.mark.slow
def test_centres_of_a_method_without_any_are_class_means():
    config = alone("dsh")
    state, batch = make_state(config), make_batch(config)
    found, _ = train_step(config)(state, batch)

    @jax.jit
    def labelled_codes(key, batch):
        images = make_views(key, batch, config=config).labelled
        codes, _ = hnet_codes.hash_images(
            state.hnet,
            state.batch_stats,
            images,
            domain="clean",
            config=config,
            axis_name=None,
        )
        return codes

    codes = labelled_codes(jax.random.fold_in(state.key, 0), batch)
    codes = np.asarray(codes, np.float64)
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    for c in range(CLASSES):
        own = batch.label[:, c] > 0
        old = np.asarray(state.centres[c])
        mean = unit[own].mean(0) if own.any() else old
        wanted = 0.99 * old + 0.01 * mean if own.any() else old
        np.testing.assert_allclose(found.centres[c], wanted, atol=1e-5)
    fixed, _ = train_step(alone("csq"))(state, batch)
    np.testing.assert_array_equal(fixed.centres, state.centres)


@pytest.mark.slow
def test_the_classifier_of_greedyhash_is_trained_averaged_and_not_encoded_with():
    config = alone("greedyhash")
    state, batch = make_state(config), make_batch(config)
    assert state.hnet["classifier"].shape == (CLASSES, 16)
    step_fn = train_step(config)
    # The learning rate of the first step is 0.
    after, _ = step_fn(step_fn(state, batch)[0], batch)
    assert relative_error(after.hnet["classifier"], state.hnet["classifier"]) > 1e-4
    assert np.any(after.teacher["classifier"] != state.teacher["classifier"])
    encode = jax.jit(partial(steps.encode_step, config=config))
    images = jnp.asarray(batch.image)
    without = {k: v for k, v in after.teacher.items() if k != "classifier"}
    np.testing.assert_array_equal(
        encode(after.teacher, after.teacher_stats, images),
        encode(without, after.teacher_stats, images),
    )
    assert "classifier" not in make_state(alone("csq")).hnet


@pytest.mark.slow
def test_the_continuation_of_hashnet_follows_the_step():
    config = alone("hashnet")
    # The step decides views as well.
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, max_shift=0, flip=False)
    )
    state, batch = make_state(config), make_batch(config)
    early = gradients_of(config, state, batch, 1)
    late = gradients_of(config, state.replace(step=jnp.asarray(199)), batch, 1)
    assert relative_error(early.hnet, late.hnet) == 0.0
    late = gradients_of(config, state.replace(step=jnp.asarray(200)), batch, 1)
    assert relative_error(early.hnet, late.hnet) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("word", [x for x in presets_lib.VARIANTS if x != "features"])
def test_variants_run(word):
    values = presets_lib.with_presets(default(), word, smoke={})
    config = from_config_dict(values)
    groups = {
        "anet": {"kind": config.anet.kind},
        "loss": dataclasses.asdict(config.loss),
    }
    small = small_config(**groups)
    state, batch = make_state(small), make_batch(small)
    late = state.replace(step=jnp.asarray(20))
    metrics = gradients_of(small, late, batch, 1).metrics
    if word in ("ssdph", "ssdh"):
        term = {"ssdph": "teacher", "ssdh": "graph"}[word]
        assert float(metrics[f"loss/consistent_{term}"]) > 0
    made = ("random", "paced", "fine_tune")
    assert ("loss/hard" in metrics) == (word in made)


@pytest.mark.slow
def test_options_of_a_method():
    config = from_config_dict(
        {"loss": {"name": "orthohash", "options": "scale=12, margin=0.3"}}
    )
    assert config.loss.hash_options == {
        "scale": 12.0,
        "margin": 0.3,
        "quantisation": 0.0,
    }
    changed = alone("orthohash", options="margin=0.9")
    state, batch = make_state(changed), make_batch(changed)
    a = gradients_of(changed, state, batch, 1).metrics["loss/point"]
    b = gradients_of(alone("orthohash"), state, batch, 1).metrics["loss/point"]
    assert float(a) > float(b)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            {"name": "orthohash", "options": "marign=0.3"},
            "config.loss.options: found 'marign=0.3', accepted for orthohash are "
            "numbers of at least 0, by default scale=8, margin=0.2, quantisation=0",
        ),
        ({"name": "dsh", "options": "margin"}, "config.loss.options: found 'margin'"),
        ({"name": "dsh", "options": "margin=-1"}, "config.loss.options: found"),
        ({"name": "dsh", "options": "margin=nan"}, "config.loss.options: found"),
        ({"name": "dsh", "options": "margin=inf"}, "config.loss.options: found"),
        (
            {"options": "pair=1"},
            "config.loss.options: found 'pair=1', accepted for dpn",
        ),
        (
            {"name": "csq", "bank": 5},
            "config.loss.bank: found 5, accepted is 0 with csq",
        ),
    ],
)
def test_wrong_options_are_one_line(loss, message):
    with pytest.raises(ConfigError) as caught:
        from_config_dict({"loss": loss})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_each_hash_loss_and_each_option_says_what_it_is(name):
    hash_loss = methods.HASH_LOSSES[name]
    assert hash_loss.terms.__doc__
    assert hash_loss.terms.__name__ == name
    for option in hash_loss.options.values():
        assert option.sentence and not option.sentence.endswith(".")
        assert type(option.default) is option.kind
