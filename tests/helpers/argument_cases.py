"""Every public function, with arguments that are right: what other forms are asked of.

To add a function, add a line to `CALLS`. What its other forms are is known from the
kinds that it is decorated with; functions of NumPy arrays, in `HOST`, are asked in
tests/retrieval/test_arguments.py.
"""

import functools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from ssah_jax import losses, pacing, retrieval, similarity, transforms
from ssah_jax.types import Deformation, DeformationLogits

B, M, K, C = 6, 7, 12, 5
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def signs(*shape):
    return np.where(RNG.random(shape) < 0.5, -1, 1).astype(np.float32)


NUMBERS, OTHER_NUMBERS = np.arange(B) % C, np.arange(M) % C
LABELS, OTHERS = np.eye(C, dtype="f4")[NUMBERS], np.eye(C, dtype="f4")[OTHER_NUMBERS]
SIMILAR = LABELS @ OTHERS.T > 0
U, V, CENTRES, TIES = normal(B, K), normal(M, K), signs(C, K), signs(K)
WHERE, ROWS = RNG.random((B, M)) < 0.8, RNG.random(B) < 0.8
PAIRS = dict(u=U, v=V, similar=SIMILAR, where=WHERE)
POINTS = dict(u=U, labels=LABELS, where=ROWS)
CODES = dict(u=U, where=ROWS)
POSTERIOR = np.asarray(jax.nn.softmax(normal(B, C)))
TEACHER = dict(u=U, anchors=V, target=SIMILAR.astype("f4"), where=WHERE)
KEY = jax.random.key(0)
IMAGE = RNG.random((9, 8, 3)).astype("f4")
LOGITS = DeformationLogits(normal(2), normal(2, 3, 3), normal(4, 5))
DEFORMATION = Deformation(
    np.eye(2, dtype="f4")[0],
    np.stack([np.eye(9, dtype="f4")[i].reshape(3, 3) for i in (4, 2)]),
    np.float32([0.1, -0.2, 0.3, 0.0]),
)
WINDOW = dict(scales=(0.3, 0.5), height=9, width=8)
SETS = dict(
    query_codes=U, query_labels=LABELS, database_codes=V, database_labels=OTHERS
)
WORST = np.argsort(U @ V.T, axis=1)
PACE = pacing.init_pace(0.2, 0.8, reach=0.5)
COUNT, RELEVANT = np.full((3, K + 1), 4), np.full((3, K + 1), 2)
HISTOGRAMS = dict(count=COUNT, relevant=RELEVANT)

CALLS = {
    similarity.cosine: dict(u=U, v=V, epsilon=1e-6),
    similarity.inner_product: dict(u=U, v=V),
    similarity.squared_distance: dict(u=U, v=V),
    similarity.unit_rows: dict(u=U, epsilon=1e-6),
    similarity.labels_overlap: dict(labels=LABELS, others=OTHERS),
    similarity.not_self: dict(first_row=2, rows=3, columns=9),
    similarity.class_logits: dict(u=U, centres=CENTRES, scale=2.0, offset=0.1),
    similarity.class_posterior: dict(logits=normal(B, C), multi_label=False),
    similarity.predicted_labels: dict(logits=normal(B, C), multi_label=False),
    similarity.align_posterior: dict(
        posterior=POSTERIOR,
        prior=POSTERIOR[0],
        predicted=POSTERIOR[1],
        multi_label=True,
        epsilon=1e-4,
    ),
    similarity.confident: dict(posterior=POSTERIOR, gate=0.6, multi_label=True),
    similarity.certainty: dict(posterior=POSTERIOR, multi_label=True),
    similarity.pair_probability: dict(
        posterior=POSTERIOR, others=OTHERS, multi_label=True
    ),
    losses.logistic_pair_loss: PAIRS | dict(alpha=8.0),
    losses.dpsh_loss: PAIRS,
    losses.dhn_loss: PAIRS | dict(alpha=0.5, limit=3.0),
    losses.hashnet_loss: PAIRS | dict(alpha=0.5),
    losses.hashnet_beta: dict(step=7, rate=0.1, every=2),
    losses.pair_weights: dict(similar=SIMILAR, positive=2.0, where=WHERE),
    losses.balanced_pair_mean: dict(values=normal(B, M), similar=SIMILAR, where=WHERE),
    losses.dsh_loss: PAIRS | dict(margin=24.0),
    losses.dch_loss: PAIRS | dict(gamma=20.0, limit=0.9),
    losses.graph_pairs: dict(u=U, v=V, neighbours=2, far=(0.5, 0.9), where=WHERE),
    losses.contrastive_loss: PAIRS | dict(margin=2.5),
    losses.triplet_margin_loss: PAIRS | dict(margin=1.0),
    losses.valid_anchors: dict(similar=SIMILAR, where=WHERE, dissimilar=True),
    losses.mihash_loss: PAIRS | dict(bins=8),
    losses.talr_loss: PAIRS | dict(bins=8),
    losses.dtsh_loss: PAIRS | dict(margin=5.0, scale=1.0),
    losses.dtsh_sampled_loss: PAIRS | dict(key=KEY, draws=2, margin=5.0, scale=1.0),
    losses.soft_histogram: dict(
        distance=np.abs(normal(B, M)), weight=normal(B, M), bins=4, limit=3.0
    ),
    losses.all_rows: dict(x=U, axis_name=None),
    losses.masked_mean: dict(values=normal(B, M), where=WHERE),
    losses.dch_quantisation: CODES | dict(gamma=20.0, limit=0.9),
    losses.orthohash_loss: POINTS | dict(centres=CENTRES, scale=8.0, margin=0.2),
    losses.straight_through_sign: dict(u=U),
    losses.greedyhash_loss: POINTS | dict(classifier=normal(C, K)),
    losses.csq_loss: POINTS | dict(centres=CENTRES, ties=TIES),
    losses.dpn_loss: POINTS | dict(centres=CENTRES, margin=1.0),
    losses.class_centres: dict(key=KEY, num_classes=3, bits=4, draws=2),
    losses.init_ties: dict(key=KEY, bits=4),
    losses.merged_centres: dict(labels=LABELS, centres=CENTRES, ties=TIES),
    losses.follow_class_means: dict(centres=CENTRES, u=U, labels=LABELS, decay=0.9),
    losses.minimum_distance: dict(centres=CENTRES),
    losses.init_bank: dict(size=4, bits=3, num_classes=2),
    losses.update_bank: dict(
        bank=losses.init_bank(size=9, bits=K, num_classes=C),
        codes=U,
        labels=LABELS,
        rows=np.arange(B),
        where=ROWS,
    ),
    losses.centre_consistency: dict(
        logits=normal(B, C),
        target=POSTERIOR,
        sure=POSTERIOR > 0.1,
        multi_label=True,
        where=ROWS,
    ),
    losses.pair_consistency: TEACHER | dict(alpha=8.0),
    losses.pair_posterior: dict(u=U, anchors=V, scale=0.4),
    losses.ssdph_loss: TEACHER | dict(scale=0.4),
    losses.code_agreement_loss: dict(u=U, other=-U, scale=4.0, where=ROWS),
    losses.coding_rate_gap: CODES | dict(distortion=0.5),
    losses.ramp_up: dict(step=3, length=10.0),
    losses.ramp_down: dict(step=3, length=10.0),
    transforms.shift: dict(image=IMAGE, offset=np.array([1, -1]), max_shift=2),
    transforms.random_shift: dict(key=KEY, image=IMAGE, max_shift=2),
    transforms.random_flip: dict(key=KEY, image=IMAGE),
    transforms.crop: dict(image=IMAGE, corner=np.array([1, 2]), size=4),
    transforms.random_crop: dict(key=KEY, image=IMAGE, size=4),
    transforms.centre_crop: dict(image=IMAGE, size=4),
    transforms.straight_through_gumbel: dict(
        key=KEY, logits=normal(2, 3), temperature=0.5
    ),
    transforms.draw_deformation: dict(
        key=KEY, logits=LOGITS, max_angle=0.4, temperature=0.5
    ),
    transforms.window_or_rotation: dict(key=KEY, deformation=DEFORMATION),
    transforms.deformation_log_probability: dict(
        logits=LOGITS, deformation=DEFORMATION, max_angle=0.4
    ),
    transforms.deform: dict(
        image=IMAGE,
        deformation=DEFORMATION,
        scales=(0.3, 0.5),
        fill=0.5,
        border="edge",
    ),
    transforms.window_profiles: dict(side=9, scales=(0.3, 0.5), grid=3),
    transforms.occlusion_mask: WINDOW
    | dict(scale=DEFORMATION.scale, position=DEFORMATION.position),
    transforms.occlude: dict(
        image=IMAGE, mask=RNG.random((9, 8)).astype("f4"), fill=IMAGE[0, 0]
    ),
    transforms.fill_value: dict(
        key=KEY, kind="noise", height=3, width=4, mean=IMAGE[0, 0]
    ),
    transforms.rotation_matrix: dict(angle=0.3),
    transforms.affine_grid: dict(matrix=normal(2, 3), height=4, width=5),
    transforms.bilinear_sample: dict(
        image=IMAGE, grid=3 * normal(4, 5, 2), border="edge"
    ),
    transforms.rotate: dict(image=IMAGE, angle=0.3, border="zeros"),
    transforms.rotate_blocks: dict(
        image=IMAGE, angles=DEFORMATION.angle, border="edge"
    ),
    losses.score_function_loss: dict(
        log_probability=U[:, 0], loss=U[:, 1], baseline=U[:, 2]
    ),
    losses.categorical_entropy: dict(logits=normal(2, 3)),
    pacing.bit_flips: dict(u_generated=U, u_clean=-U),
    pacing.pair_hardness: dict(
        u_generated=-U, u_clean=U, others=V, similar=SIMILAR, where=WHERE
    ),
    pacing.init_pace: dict(start=0.2, target=0.8, reach=0.5),
    pacing.follow_hardness: dict(
        pace=PACE,
        occluded=np.array(0.3, "f4"),
        rotated=np.array(0.1, "f4"),
        rate=0.5,
    ),
    pacing.follow_recognition: dict(
        pace=PACE,
        recognised=np.array(0.7, "f4"),
        evidence=np.array(0.5, "f4"),
        target=0.9,
        rate=0.1,
        decay=0.9,
    ),
    retrieval.binarise: dict(u=U),
    retrieval.pack: dict(codes=U),
    retrieval.unpack: dict(packed=np.asarray(retrieval.pack(U)), bits=K),
}
for name in ("absolute", "squared", "log_cosh", "cubic", "cosine"):
    CALLS[getattr(losses, f"{name}_quantisation")] = CODES
for name in ("code_balance", "bit_balance", "bit_independence"):
    CALLS[getattr(losses, name)] = CODES
FUNCTIONS = {f"{f.__module__.split('.')[1]}.{f.__name__}": f for f in CALLS}

# Functions of NumPy arrays, which are not decorated.
HOST = {
    retrieval.average_precision: SETS,
    retrieval.mean_average_precision: SETS,
    retrieval.stable_average_precision: SETS,
    retrieval.evaluate: SETS | dict(precision_at=(2,)),
    retrieval.distance_histograms: SETS,
    retrieval.graded_histograms: SETS,
    retrieval.code_statistics: dict(codes=U),
    retrieval.rerank: dict(queries=U, features=V, candidates=WORST, k=2),
    retrieval.nearest_by_cosine: dict(queries=U, features=V, k=2),
    retrieval.neighbour_recall: dict(found=WORST, wanted=WORST),
    retrieval.expected_average_precision: HISTOGRAMS,
    retrieval.average_precision_bounds: HISTOGRAMS,
    retrieval.precision_at: HISTOGRAMS | dict(n=3),
    retrieval.recall_at: HISTOGRAMS | dict(n=3),
    retrieval.precision_within_radius: HISTOGRAMS | dict(radius=2),
    retrieval.recall_within_radius: HISTOGRAMS | dict(radius=2),
    retrieval.precision_recall_curve: HISTOGRAMS,
    retrieval.expected_ndcg: dict(graded=np.stack([COUNT, RELEVANT], axis=1)),
    retrieval.mean_per_class: dict(values=RNG.random(B), query_labels=LABELS),
}
# What these take are files, or nothing.
ELSEWHERE = {"build_index", "database_mesh", "load_index", "read_codes", "shard_path"}
ELSEWHERE |= {"read_features"}


def kind_of(form):
    return form.__qualname__.split(".")[0]


def of_kinds(*kinds):
    """Every argument of these kinds, in every function."""
    return [
        (function, name)
        for function in FUNCTIONS.values()
        for name, form in function.takes.items()
        if kind_of(form) in kinds and name in CALLS[function]
    ]


def each(cases):
    """One test of many cases, which tells all that fail."""
    cases = list(cases)
    assert cases

    def decorate(test):
        def of_all():
            wrong = []
            for case in cases:
                try:
                    test(*case)
                except (Exception, pytest.fail.Exception) as error:
                    label = ", ".join(getattr(x, "__name__", str(x)) for x in case)
                    wrong.append(f"{label}: {type(error).__name__} {error}")
            assert not wrong, "\n".join(wrong)

        of_all.__name__ = test.__name__
        return of_all

    return decorate


def call(function, **changed):
    given = CALLS.get(function) or HOST[function]
    return function(**given | changed)


def traced(function, **changed):
    """Shapes of the results under jit, where arrays have no values."""
    given = CALLS[function] | changed
    arrays = {k: v for k, v in given.items() if isinstance(v, np.ndarray | jax.Array)}
    static = {k: v for k, v in given.items() if k not in arrays}
    return jax.eval_shape(functools.partial(function, **static), **arrays)


def same(found, wanted, atol=1e-5):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        if jnp.issubdtype(jnp.asarray(one).dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_allclose(
            np.asarray(one, np.float64), np.asarray(other, np.float64), atol=atol
        )


def refuses(function, name, value, jitted=False):
    """Asserts that one argument is refused in one line that says what is accepted."""
    # The checker of the tests stands before functions that are not decorated.
    kinds = (ValueError, jaxtyping.TypeCheckError) if function in HOST else ValueError
    with pytest.raises(kinds) as error:
        (traced if jitted else call)(function, **{name: value})
    if isinstance(error.value, jaxtyping.TypeCheckError):
        return
    text = str(error.value)
    assert text.startswith(name), text
    assert "found" in text and "accepted" in text and "\n" not in text, text
