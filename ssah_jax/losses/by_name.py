"""Hash losses as a run selects them: one word, one function, its preset as defaults.

A hash loss says what H-Net minimises on labelled images: which losses of
`ssah_jax.losses`, on which activation of H-Net's output, reduced how, plus its
quantisation. The parts of SSAH around it (hard samples, consistent loss) are the same
for all, so that a published loss can stand alone or inside SSAH.

What a run must know of one stands beside it: its options are keyword-only parameters,
`Annotated` with an `Option`, and `hash_loss` takes the rest. Its word in a
configuration is the function's name.
"""

from typing import Annotated, NamedTuple, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ssah_jax import losses
from ssah_jax.losses.hash_loss import HASH_LOSSES as HASH_LOSSES
from ssah_jax.losses.hash_loss import Option, hash_loss
from ssah_jax.losses.reduce import masked_mean
from ssah_jax.types import Metrics


@no_type_check
class Labelled(NamedTuple):
    """Labelled codes, clean or of hard samples, and what they are compared with.

    Attributes:
        u: H-Net's outputs, `[B, K]`, any real.
        others: outputs that they are compared with: the batch of all devices, then
            the bank, `[M, K]`.
        label: multi-hot `[B, C]`.
        similar: whether two images share a label, `[B, M]`.
        where: pairs that count, `[B, M]`.
        weight: self-paced weight of each row, `[B]` in [0, 1].
        centres: class centres, `[C, K]`; of a method with a classifier, that.
        ties: bits of a centre on which an image's labels disagree, `[K]` in {-1, +1}.
        step: completed steps.
        axis_name: mapped axis; values are this device's shares.
    """

    u: Float[Array, "B K"]
    others: Float[Array, "M K"]
    label: Float[Array, "B C"]
    similar: Bool[Array, "B M"]
    where: Bool[Array, "B M"]
    weight: Float[Array, "B"]
    centres: Float[Array, "C K"]
    ties: Float[Array, "K"]
    step: Int[Array, ""]
    axis_name: str | None = None


QUANTISATION = "quantisation"
"""The term that is taken on clean codes only, never on hard samples."""


Quantisation = Annotated[float, Option("weight of the quantisation loss")]
Balanced = Annotated[
    bool, Option("whether similar pairs weigh as much as all others together")
]
Bins = Annotated[int, Option("bins of the histogram of distances; 0 for one a bit")]
CentreMargin = Annotated[float, Option("margin on the cosine to the true centre")]


def _mean_of_rows(x: Labelled, values: Float[Array, "B"]) -> Float[Array, ""]:
    return masked_mean(x.weight * values, axis_name=x.axis_name)


def _mean_of_anchors(
    x: Labelled, values: Float[Array, "B"], *, dissimilar: bool = True
) -> Float[Array, ""]:
    valid = losses.valid_anchors(x.similar, where=x.where, dissimilar=dissimilar)
    return masked_mean(x.weight * values, valid, axis_name=x.axis_name)


def _mean_of_pairs(x: Labelled, values: Float[Array, "B M"]) -> Float[Array, ""]:
    return masked_mean(x.weight[:, None] * values, x.where, axis_name=x.axis_name)


def _balanced(x: Labelled, values: Float[Array, "B M"]) -> Float[Array, ""]:
    weights = losses.pair_weights(x.similar, where=x.where, axis_name=x.axis_name)
    return _mean_of_pairs(x, weights * values)


def _mean_of_kinds(
    x: Labelled, values: Float[Array, "B M"], balanced: bool
) -> Float[Array, ""]:
    """The mean over pairs, with similar ones as important as the rest where asked."""
    return _balanced(x, values) if balanced else _mean_of_pairs(x, values)


@hash_loss(fixed_centres=True)
def ssah(
    x: Labelled,
    *,
    pair: Annotated[float, Option("weight of the balanced logistic pair loss")] = 0.5,
    pair_alpha: Annotated[float, Option("logit of two equal codes", above=True)] = 8.0,
    point: Annotated[
        float, Option("weight of the pointwise loss towards class centres")
    ] = 1.0,
    point_scale: Annotated[
        float, Option("inverse temperature of its softmax", above=True)
    ] = 10.0,
    point_margin: CentreMargin = 0.2,
    quantisation: Quantisation = 0.1,
) -> Metrics:
    """This project's own: logistic pairs on a cosine, plus class centres."""
    pairs = losses.logistic_pair_loss(x.u, x.others, x.similar, alpha=pair_alpha)
    points = losses.orthohash_loss(
        x.u, x.label, x.centres, scale=point_scale, margin=point_margin
    )
    return {
        "pair": pair
        * losses.balanced_pair_mean(
            x.weight[:, None] * pairs, x.similar, x.where, axis_name=x.axis_name
        ),
        "point": point * _mean_of_rows(x, points),
        QUANTISATION: quantisation * _mean_of_rows(x, losses.cosine_quantisation(x.u)),
    }


@hash_loss()
def dsh(
    x: Labelled,
    *,
    margin: Annotated[
        float, Option("squared distance that dissimilar codes keep, over K")
    ] = 2.0,
    quantisation: Quantisation = 0.1,
    balanced: Balanced = False,
) -> Metrics:
    """DSH."""
    values = losses.dsh_loss(x.u, x.others, x.similar, margin=margin * x.u.shape[-1])
    return {
        "pair": _mean_of_kinds(x, values, balanced),
        QUANTISATION: quantisation
        * _mean_of_rows(x, losses.absolute_quantisation(x.u)),
    }


@hash_loss()
def dpsh(
    x: Labelled, *, quantisation: Quantisation = 0.1, balanced: Balanced = False
) -> Metrics:
    """DPSH."""
    return {
        "pair": _mean_of_kinds(x, losses.dpsh_loss(x.u, x.others, x.similar), balanced),
        QUANTISATION: quantisation * _mean_of_rows(x, losses.squared_quantisation(x.u)),
    }


@hash_loss()
def dhn(
    x: Labelled,
    *,
    alpha: Annotated[float, Option("scale of the inner product")] = 0.5,
    quantisation: Quantisation = 0.1,
    balanced: Balanced = False,
) -> Metrics:
    """DHN."""
    values = losses.dhn_loss(x.u, x.others, x.similar, alpha=alpha)
    return {
        "pair": _mean_of_kinds(x, values, balanced),
        QUANTISATION: quantisation
        * _mean_of_rows(x, losses.log_cosh_quantisation(x.u)),
    }


@hash_loss()
def hashnet(
    x: Labelled,
    *,
    alpha: Annotated[float, Option("logit of two equal codes")] = 10.0,
    rate: Annotated[float, Option("growth of squared beta in a step")] = 0.005,
    every: Annotated[int, Option("steps between two such changes", least=1)] = 200,
) -> Metrics:
    """HashNet, with its continuation."""
    beta = losses.hashnet_beta(x.step, rate=rate, every=every)
    values = losses.hashnet_loss(
        jnp.tanh(beta * x.u),
        jnp.tanh(beta * x.others),
        x.similar,
        alpha=alpha / x.u.shape[-1],
    )
    return {"pair": _balanced(x, values)}


@hash_loss()
def dch(
    x: Labelled,
    *,
    gamma: Annotated[
        float, Option("scale of the Cauchy distribution, in bits", least=1e-3)
    ] = 20.0,
    quantisation: Quantisation = 0.1,
) -> Metrics:
    """DCH."""
    values = losses.dch_loss(x.u, x.others, x.similar, gamma=gamma)
    return {
        "pair": _balanced(x, values),
        QUANTISATION: quantisation
        * _mean_of_rows(x, losses.dch_quantisation(x.u, gamma=gamma)),
    }


@hash_loss()
def mihash(x: Labelled, *, bins: Bins = 16) -> Metrics:
    """MIHash."""
    values = losses.mihash_loss(
        jnp.tanh(x.u),
        jnp.tanh(x.others),
        x.similar,
        bins=bins or None,
        where=x.where,
    )
    return {"anchor": _mean_of_anchors(x, values)}


@hash_loss()
def talr(x: Labelled, *, bins: Bins = 0) -> Metrics:
    """TALR's simplified tie-aware AP."""
    values = losses.talr_loss(
        jnp.tanh(x.u),
        jnp.tanh(x.others),
        x.similar,
        bins=bins or None,
        where=x.where,
    )
    return {"anchor": _mean_of_anchors(x, values, dissimilar=False)}


@hash_loss()
def dtsh(
    x: Labelled,
    *,
    margin: Annotated[
        float, Option("by which similar products are to exceed others")
    ] = 5.0,
    scale: Annotated[float, Option("scale of the inner product")] = 1.0,
    quantisation: Quantisation = 1.0,
) -> Metrics:
    """DTSH."""
    values = losses.dtsh_loss(
        x.u, x.others, x.similar, margin=margin, scale=scale, where=x.where
    )
    return {
        "anchor": _mean_of_anchors(x, values),
        QUANTISATION: quantisation * _mean_of_rows(x, losses.squared_quantisation(x.u)),
    }


@hash_loss(classifier=True, pairs=False)
def greedyhash(x: Labelled, *, quantisation: Quantisation = 0.1) -> Metrics:
    """GreedyHash; the classifier is trained with H-Net."""
    return {
        "point": _mean_of_rows(x, losses.greedyhash_loss(x.u, x.label, x.centres)),
        QUANTISATION: quantisation * _mean_of_rows(x, losses.cubic_quantisation(x.u)),
    }


@hash_loss(fixed_centres=True, pairs=False)
def csq(x: Labelled, *, quantisation: Quantisation = 0.05) -> Metrics:
    """CSQ."""
    bits = jnp.tanh(x.u)
    return {
        "point": _mean_of_rows(x, losses.csq_loss(x.u, x.label, x.centres, x.ties)),
        QUANTISATION: quantisation
        * _mean_of_rows(x, losses.squared_quantisation(bits)),
    }


@hash_loss(fixed_centres=True, pairs=False)
def dpn(
    x: Labelled,
    *,
    margin: Annotated[float, Option("by which each bit is to be on its side")] = 1.0,
) -> Metrics:
    """DPN."""
    values = losses.dpn_loss(x.u, x.label, x.centres, margin=margin)
    return {"point": _mean_of_rows(x, values)}


@hash_loss(fixed_centres=True, pairs=False)
def orthohash(
    x: Labelled,
    *,
    scale: Annotated[float, Option("inverse temperature of the softmax")] = 8.0,
    margin: CentreMargin = 0.2,
    quantisation: Quantisation = 0.0,
) -> Metrics:
    """OrthoHash; its batch-normalised hash layer is H-Net's."""
    values = losses.orthohash_loss(x.u, x.label, x.centres, scale=scale, margin=margin)
    return {
        "point": _mean_of_rows(x, values),
        QUANTISATION: quantisation * _mean_of_rows(x, losses.cosine_quantisation(x.u)),
    }


@hash_loss()
def ssdph(
    x: Labelled,
    *,
    scale: Annotated[float, Option("logit of two equal codes")] = 19.2,
) -> Metrics:
    """SSDPH's labelled part: class-balanced likelihood."""
    values = losses.hashnet_loss(
        jnp.tanh(x.u), jnp.tanh(x.others), x.similar, alpha=scale / x.u.shape[-1]
    )
    return {"pair": _balanced(x, values)}


@hash_loss()
def ssdh(
    x: Labelled,
    *,
    margin: Annotated[float, Option("by which squared distances are to differ")] = 1.0,
) -> Metrics:
    """SSDH's labelled part: triplets of sigmoid codes."""
    values = losses.triplet_margin_loss(
        jax.nn.sigmoid(x.u),
        jax.nn.sigmoid(x.others),
        x.similar,
        margin=margin,
        where=x.where,
    )
    return {"anchor": _mean_of_anchors(x, values)}
