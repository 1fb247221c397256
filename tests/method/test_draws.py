"""Of several deformations the hardest is kept, and A-Net learns from all."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_cases import make_batch, make_state, relative_error, small_config

from ssah_jax.config import ConfigError
from ssah_jax.method import adversary, consistent, draws, steps
from ssah_jax.method.codes import encode
from ssah_jax.method.draws import draw_hardest, pace_of_first
from ssah_jax.method.views import generate, make_views

CONFIG = small_config(anet={"draws": 3})


def drawn():
    state, batch = make_state(CONFIG), make_batch(CONFIG)
    # A teacher that is not H-Net, and statistics that are not the first.
    teacher = jax.tree.map(lambda leaf: 1.3 * leaf + 0.1, state.teacher)
    state = state.replace(teacher=teacher)
    views = make_views(jax.random.key(3), batch, config=CONFIG)
    return state, views, jax.jit(partial(draw_hardest, config=CONFIG))(state, views)


def test_of_each_image_the_draw_that_flips_most_bits_is_kept():
    state, views, found = drawn()
    look = jax.jit(partial(encode, config=CONFIG))
    clean = look(
        state.teacher,
        state.teacher_stats,
        jnp.concatenate([views.labelled, views.unlabelled]),
    )
    number = len(clean)
    picked = []
    hardness = np.zeros((3, number))
    for draw in range(3):
        rows = slice(draw * number, (draw + 1) * number)
        images = found.tried.images[rows]
        codes = look(state.teacher, state.teacher_stats, images)
        for row, (a, b) in enumerate(zip(codes, clean, strict=True)):
            lengths = np.linalg.norm(a) * np.linalg.norm(b)
            hardness[draw, row] = (1 - np.dot(a, b) / lengths) / 2
        np.testing.assert_allclose(found.hardness[rows], hardness[draw], atol=1e-5)
    for row in range(number):
        best = int(np.argmax(hardness[:, row]))
        picked.append(best)
        for kept, tried in zip(
            jax.tree.leaves(found.kept), jax.tree.leaves(found.tried), strict=True
        ):
            np.testing.assert_array_equal(kept[row], tried[best * number + row])
    assert set(picked) == {0, 1, 2}


def test_draws_are_of_one_policy_and_differ():
    state, views, found = drawn()
    number = len(views.keys)
    for logits in jax.tree.leaves(found.tried.logits):
        np.testing.assert_array_equal(logits[:number], logits[number : 2 * number])
    first, second = (found.tried.images[i * number : (i + 1) * number] for i in (0, 1))
    assert np.all(np.any(np.asarray(first != second), axis=(1, 2, 3)))
    # Draw by draw they are what a single one would be with that key.
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(views.keys)
    alone = generate(state.anet, views.replace(keys=keys), state.pace, config=CONFIG)
    np.testing.assert_allclose(second, alone.images, atol=1e-6)


def test_the_teacher_encodes_clean_images_as_for_its_opinion(monkeypatch):
    # Else XLA would not merge the two passes.
    state, batch = make_state(CONFIG), make_batch(CONFIG)
    views, seen = make_views(jax.random.key(3), batch, config=CONFIG), {}
    for module in (draws, consistent):
        arguments = seen[module] = []

        def look(*given, found=arguments, config):
            found.append(given)
            return encode(*given, config=config)

        monkeypatch.setattr(module, "encode", look)
    # One trace, so that what is the same is the same object.
    jax.eval_shape(
        lambda state, views: (
            draw_hardest(state, views, config=CONFIG),
            consistent.ask_teacher(state, views, config=CONFIG),
        ),
        state,
        views,
    )
    (opinion,) = seen[consistent]
    assert any(images is opinion[2] for *_, images in seen[draws])


@pytest.mark.slow
def test_anets_gradient_is_the_mean_over_its_draws(monkeypatch):
    # The baseline is of all draws together.
    monkeypatch.setattr(adversary, "_group_means", lambda hardness, *_: hardness * 0)
    state, views, found = drawn()
    number = len(views.keys)
    pursue = jax.jit(
        jax.grad(partial(adversary.anet_objective, config=CONFIG), has_aux=True)
    )
    together, _ = pursue(state.anet, state, views, found.tried, found.hardness)
    apart = []
    for draw in range(3):
        rows = slice(draw * number, (draw + 1) * number)
        tried = jax.tree.map(lambda leaf, rows=rows: leaf[rows], found.tried)
        apart.append(pursue(state.anet, state, views, tried, found.hardness[rows])[0])
    mean = jax.tree.map(lambda *leaves: sum(leaves) / 3, *apart)
    assert relative_error(together, mean) < 1e-4
    assert relative_error(apart[0], mean) > 1e-2


def test_hard_samples_of_the_step_are_those_that_were_kept(monkeypatch):
    state, batch = make_state(CONFIG), make_batch(CONFIG)
    seen = {}
    real = steps.hnet_objective

    def spy(params, state, views, images, **rest):
        seen["images"] = images
        return real(params, state, views, images, **rest)

    monkeypatch.setattr(steps, "hnet_objective", spy)
    draw = steps.draw_hardest

    def keep(*given, **rest):
        seen["drawn"] = draw(*given, **rest)
        return seen["drawn"]

    monkeypatch.setattr(steps, "draw_hardest", keep)
    pursued = {}
    objective = steps.anet_objective

    def watch(params, state, views, generated, hardness, **rest):
        pursued["rows"] = len(hardness), len(generated.images)
        return objective(params, state, views, generated, hardness, **rest)

    monkeypatch.setattr(steps, "anet_objective", watch)
    jax.eval_shape(partial(steps.gradients, config=CONFIG), state, batch)
    assert seen["images"].shape[0] == 40
    assert seen["images"] is seen["drawn"].kept.images
    assert pursued["rows"] == (120, 120)


@pytest.mark.slow
def test_the_pace_follows_the_first_draw_and_not_the_kept_one():
    state, views, found = drawn()
    # Every other one is the opposite of what it was, and not recognised.
    found = found._replace(codes=found.codes.at[::2].multiply(-1.0))
    number, labelled = len(views.keys), len(views.label)
    opinion = consistent.ask_teacher(state, views, config=CONFIG)
    sure = np.asarray(opinion.aligned) >= CONFIG.loss.gate
    seen, count = 0, 0
    for image in range(number - labelled):
        code = np.asarray(found.codes[labelled + image])
        cosine = state.centres @ code / np.linalg.norm(state.centres, axis=1)
        for label in np.flatnonzero(sure[image]):
            seen, count = seen + (label == np.argmax(cosine)), count + 1
    rotated = np.asarray(found.tried.deformations.scale[:number]).sum(axis=1) == 0
    hardness = np.asarray(found.hardness)
    paced = pace_of_first(found, state, views, config=CONFIG)
    for name, rows in (("occluded", ~rotated), ("rotated", rotated)):
        mean = hardness[:number][rows].mean()
        np.testing.assert_allclose(paced[f"pace/hardness_{name}"], mean, rtol=1e-5)
        assert mean < hardness.reshape(3, number).max(axis=0)[rows].mean()
    assert 0 < seen < count
    np.testing.assert_allclose(paced["pace/recognised"], seen / count, rtol=1e-6)
    # The step moves the pace by these.
    batch = make_batch(CONFIG)
    step = partial(steps.train_step, config=CONFIG)
    _, logged = jax.jit(step)(state, batch)
    views = make_views(jax.random.fold_in(state.key, state.step), batch, config=CONFIG)
    again = jax.jit(partial(draw_hardest, config=CONFIG))(state, views)
    for name, value in pace_of_first(again, state, views, config=CONFIG).items():
        np.testing.assert_allclose(logged[name], value, rtol=1e-4)


def test_nothing_is_drawn_again_that_is_not_made():
    with pytest.raises(ConfigError, match=r"anet.draws: found 3, accepted is 1 with"):
        small_config(anet={"kind": "none", "draws": 3})
