"""The consistent loss: the hash loss, under labels that somebody else is sure of."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_cases import CLASSES, make_batch, make_state, small_config

from ssah_jax.losses.by_name import Labelled
from ssah_jax.method.consistent import Opinion, Student, consistent_loss
from ssah_jax.method.views import make_views
from ssah_jax.similarity import labels_overlap, not_self

GATE = 0.9
SURE = [0.93, 0.03, 0.02, 0.01, 0.01]
DOUBTFUL = [0.6, 0.38, 0.01, 0.005, 0.005]
SEVERAL = [0.95, 0.92, 0.5, 0.05, 0.01]
"""Of several labels: two are there, the last two are not, one may be."""


KINDS = ["ssah", "hashnet", "dtsh", "talr", "dpn"]
"""Hash losses of pairs, triplets, ranks and centres."""


def config_of(name, multi_label=False, **loss):
    return small_config(
        batch={"labelled": 6, "unlabelled": 4},
        data={"multi_label": multi_label},
        loss={"name": name, "gate": GATE, "ramp": 0.0, "consistent": 0.7} | loss,
    )


def seen_by(config, rows):
    """What a step shows the consistent loss, where the teacher says `rows`."""
    # At step 0 the ramp has not begun, however short it is.
    state = make_state(config)
    state = state.replace(step=state.step + 1)
    multi_label = config.data.multi_label
    batch = make_batch(config, seed=3, multi_label=multi_label)
    views = make_views(jax.random.key(0), batch, config=config)
    rng = np.random.default_rng(4)
    clean, hard, others = (
        jnp.asarray(rng.normal(size=(n, config.bits)), jnp.float32) for n in (4, 4, 6)
    )
    labelled = Labelled(
        u=others,
        others=others,
        label=views.label,
        similar=labels_overlap(views.label, views.label),
        where=not_self(jnp.asarray(0), 6, 6),
        weight=jnp.ones(6),
        centres=state.centres,
        ties=state.ties,
        step=state.step,
    )
    posterior = jnp.asarray(rows, jnp.float32)
    opinion = Opinion(clean, posterior, posterior)
    return Student(hard, clean, labelled), opinion, state, views


def value_of(config, student, opinion, state, views, name="consistent"):
    total, metrics = consistent_loss(
        student, opinion, state, views, config=config, axis_name=None
    )
    return total, metrics[f"loss/{name}"]


def test_bits_are_asked_for_the_signs_of_the_centre_that_the_teacher_is_sure_of():
    rows = [SURE, DOUBTFUL, SURE[::-1], SURE]
    config = config_of("dpn")
    student, opinion, state, views = seen_by(config, rows)
    wanted = 0.0
    for code, said in zip(np.asarray(student.hard), rows, strict=True):
        for label in range(CLASSES):
            if said[label] >= GATE:
                for bit, sign in zip(
                    code, np.asarray(state.centres)[label], strict=True
                ):
                    wanted += max(0.0, 1.0 - bit * sign) / 4
    total, found = value_of(config, student, opinion, state, views)
    assert wanted > 1
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_allclose(total, 0.7 * wanted, rtol=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
def test_pairs_count_where_it_is_sure_whether_they_share_a_label(multi_label):
    rows = [SURE, DOUBTFUL, SEVERAL if multi_label else SURE[::-1], [0.2] * CLASSES]
    config = config_of("dpsh", multi_label=multi_label)
    student, opinion, state, views = seen_by(config, rows)
    label = np.asarray(views.label)
    values, kinds = [], set()
    for code, said in zip(np.asarray(student.hard, np.float64), rows, strict=True):
        present = {c for c in range(CLASSES) if said[c] >= GATE}
        possible = {c for c in range(CLASSES) if said[c] > 1 - GATE}
        for other, has in zip(
            np.asarray(student.labelled.others, np.float64), label, strict=True
        ):
            shared = {c for c in range(CLASSES) if has[c]}
            similar = bool(shared & present)
            if not similar and shared & possible:
                kinds.add("doubt")
                continue
            kinds.add(similar)
            half = code @ other / 2
            value = np.log1p(np.exp(half)) - similar * half
            # A row of which nothing is sure counts as 0, as in a mean over images.
            values.append(value if present else 0.0)
    assert kinds == {"doubt", True, False}
    _, found = value_of(config, student, opinion, state, views)
    np.testing.assert_allclose(found, np.mean(values), rtol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_nobody_who_is_asked_learns_from_the_answer(name):
    """No gradient on labelled codes or the teacher's; some on the hard samples."""
    config = config_of(name)
    student, opinion, state, views = seen_by(config, [SURE, SURE[::-1], SURE, DOUBTFUL])

    def loss(hard, clean, others, aligned):
        labelled = student.labelled._replace(others=others)
        asked = opinion._replace(aligned=aligned)
        seen = Student(hard, clean, labelled)
        return value_of(config, seen, asked, state, views)[0]

    slopes = jax.grad(loss, argnums=(0, 1, 2, 3))(
        student.hard, student.clean, student.labelled.others, opinion.aligned
    )
    assert np.any(slopes[0][0])
    assert not np.any(slopes[0][3])
    assert not any(np.any(slope) for slope in slopes[1:])


@pytest.mark.parametrize("name", KINDS)
def test_where_nothing_is_sure_nothing_is_asked(name):
    config = config_of(name)
    student, opinion, state, views = seen_by(config, [DOUBTFUL] * 4)
    total, found = value_of(config, student, opinion, state, views)
    assert total == found == 0


def test_spread_labels_are_asked_of_the_images_by_how_certain_they_are():
    config = config_of("dpn", consistent=0.0, consistent_spread=0.5, fade=0.5)
    student, opinion, state, views = seen_by(config, [SURE] * 4)
    # A tenth of the steps: a fifth of the weight is gone.
    state = state.replace(step=jnp.asarray(2))
    wanted = 0.0
    for code, said in zip(
        np.asarray(student.clean), np.asarray(views.spread), strict=True
    ):
        entropy = -sum(p * np.log(p) for p in said if p > 0)
        centre = np.asarray(state.centres)[np.argmax(said)]
        hinge = sum(max(0.0, 1.0 - b * c) for b, c in zip(code, centre, strict=True))
        wanted += (1 - entropy / np.log(CLASSES)) * hinge / 4
    total, found = value_of(
        config, student, opinion, state, views, name="consistent_spread"
    )
    np.testing.assert_allclose(found, 0.8 * wanted, rtol=1e-5)
    np.testing.assert_allclose(total, 0.5 * 0.8 * wanted, rtol=1e-5)


def test_labelled_images_of_earlier_steps_are_asked_too():
    config = config_of("dpsh", bank=8)
    student, opinion, state, views = seen_by(config, [SURE] * 4)
    others = jnp.concatenate([student.labelled.others, state.bank.codes + 1.0])
    student = student._replace(labelled=student.labelled._replace(others=others))
    score = partial(value_of, config)
    none = score(student, opinion, state, views)[1]
    valid = np.arange(8) < 3
    labels = np.eye(CLASSES, dtype=np.float32)[[0, 0, 1, 2, 2, 2, 2, 2]]
    bank = state.bank._replace(valid=jnp.asarray(valid), labels=jnp.asarray(labels))
    some = score(student, opinion, state.replace(bank=bank), views)[1]
    half = np.asarray(student.hard, np.float64).sum(-1) / 2
    both, apart = np.log1p(np.exp(half)) - half, np.log1p(np.exp(half))
    wanted = (np.sum(2 * both + apart) + 24 * none) / (24 + 12)
    np.testing.assert_allclose(some, wanted, rtol=1e-5)
