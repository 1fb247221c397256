"""Hash losses as a run selects them: one word, one function, its preset as defaults.

A method says what H-Net minimises on labelled images: which losses of
`ssah_jax.losses`, on which activation of H-Net's output, reduced how, plus its
quantisation. The parts of SSAH around it (hard samples, consistent loss) are the same
for all, so that a published loss can stand alone or inside SSAH.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ssah_jax import losses
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
    x: Labelled, values: Float[Array, "B M"], balanced: float
) -> Float[Array, ""]:
    """The mean over pairs, with similar ones as important as the rest where asked."""
    return _balanced(x, values) if balanced else _mean_of_pairs(x, values)


def ssah(
    x: Labelled,
    *,
    pair: float = 0.5,
    pair_alpha: float = 8.0,
    point: float = 1.0,
    point_scale: float = 10.0,
    point_margin: float = 0.2,
    quantisation: float = 0.1,
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


def dsh(
    x: Labelled,
    *,
    margin: float = 2.0,
    quantisation: float = 0.1,
    balanced: float = 0.0,
) -> Metrics:
    """DSH; `margin` is a multiple of K."""
    values = losses.dsh_loss(x.u, x.others, x.similar, margin=margin * x.u.shape[-1])
    return {
        "pair": _mean_of_kinds(x, values, balanced),
        QUANTISATION: quantisation
        * _mean_of_rows(x, losses.absolute_quantisation(x.u)),
    }


def dpsh(x: Labelled, *, quantisation: float = 0.1, balanced: float = 0.0) -> Metrics:
    """DPSH."""
    return {
        "pair": _mean_of_kinds(x, losses.dpsh_loss(x.u, x.others, x.similar), balanced),
        QUANTISATION: quantisation * _mean_of_rows(x, losses.squared_quantisation(x.u)),
    }


def dhn(
    x: Labelled,
    *,
    alpha: float = 0.5,
    quantisation: float = 0.1,
    balanced: float = 0.0,
) -> Metrics:
    """DHN."""
    values = losses.dhn_loss(x.u, x.others, x.similar, alpha=alpha)
    return {
        "pair": _mean_of_kinds(x, values, balanced),
        QUANTISATION: quantisation
        * _mean_of_rows(x, losses.log_cosh_quantisation(x.u)),
    }


def hashnet(
    x: Labelled, *, alpha: float = 10.0, rate: float = 0.005, every: float = 200.0
) -> Metrics:
    """HashNet, with its continuation; `alpha` is divided by K."""
    beta = losses.hashnet_beta(x.step, rate=rate, every=int(every))
    values = losses.hashnet_loss(
        jnp.tanh(beta * x.u),
        jnp.tanh(beta * x.others),
        x.similar,
        alpha=alpha / x.u.shape[-1],
    )
    return {"pair": _balanced(x, values)}


def dch(x: Labelled, *, gamma: float = 20.0, quantisation: float = 0.1) -> Metrics:
    """DCH."""
    values = losses.dch_loss(x.u, x.others, x.similar, gamma=gamma)
    return {
        "pair": _balanced(x, values),
        QUANTISATION: quantisation
        * _mean_of_rows(x, losses.dch_quantisation(x.u, gamma=gamma)),
    }


def mihash(x: Labelled, *, bins: float = 16.0) -> Metrics:
    """MIHash; as many bins as bits where `bins` is 0."""
    values = losses.mihash_loss(
        jnp.tanh(x.u),
        jnp.tanh(x.others),
        x.similar,
        bins=int(bins) or None,
        where=x.where,
    )
    return {"anchor": _mean_of_anchors(x, values)}


def talr(x: Labelled, *, bins: float = 0.0) -> Metrics:
    """TALR's simplified tie-aware AP; as many bins as bits where `bins` is 0."""
    values = losses.talr_loss(
        jnp.tanh(x.u),
        jnp.tanh(x.others),
        x.similar,
        bins=int(bins) or None,
        where=x.where,
    )
    return {"anchor": _mean_of_anchors(x, values, dissimilar=False)}


def dtsh(
    x: Labelled,
    *,
    margin: float = 5.0,
    scale: float = 1.0,
    quantisation: float = 1.0,
) -> Metrics:
    """DTSH."""
    values = losses.dtsh_loss(
        x.u, x.others, x.similar, margin=margin, scale=scale, where=x.where
    )
    return {
        "anchor": _mean_of_anchors(x, values),
        QUANTISATION: quantisation * _mean_of_rows(x, losses.squared_quantisation(x.u)),
    }


def greedyhash(x: Labelled, *, quantisation: float = 0.1) -> Metrics:
    """GreedyHash; the classifier is trained with H-Net."""
    return {
        "point": _mean_of_rows(x, losses.greedyhash_loss(x.u, x.label, x.centres)),
        QUANTISATION: quantisation * _mean_of_rows(x, losses.cubic_quantisation(x.u)),
    }


def csq(x: Labelled, *, quantisation: float = 0.05) -> Metrics:
    """CSQ."""
    bits = jnp.tanh(x.u)
    return {
        "point": _mean_of_rows(x, losses.csq_loss(x.u, x.label, x.centres, x.ties)),
        QUANTISATION: quantisation
        * _mean_of_rows(x, losses.squared_quantisation(bits)),
    }


def dpn(x: Labelled, *, margin: float = 1.0) -> Metrics:
    """DPN."""
    values = losses.dpn_loss(x.u, x.label, x.centres, margin=margin)
    return {"point": _mean_of_rows(x, values)}


def orthohash(
    x: Labelled, *, scale: float = 8.0, margin: float = 0.2, quantisation: float = 0.0
) -> Metrics:
    """OrthoHash; its batch-normalised hash layer is H-Net's."""
    values = losses.orthohash_loss(x.u, x.label, x.centres, scale=scale, margin=margin)
    return {
        "point": _mean_of_rows(x, values),
        QUANTISATION: quantisation * _mean_of_rows(x, losses.cosine_quantisation(x.u)),
    }


def ssdph(x: Labelled, *, scale: float = 19.2) -> Metrics:
    """SSDPH's labelled part: class-balanced likelihood; `scale` is divided by K."""
    values = losses.hashnet_loss(
        jnp.tanh(x.u), jnp.tanh(x.others), x.similar, alpha=scale / x.u.shape[-1]
    )
    return {"pair": _balanced(x, values)}


def ssdh(x: Labelled, *, margin: float = 1.0) -> Metrics:
    """SSDH's labelled part: triplets of sigmoid codes."""
    values = losses.triplet_margin_loss(
        jax.nn.sigmoid(x.u),
        jax.nn.sigmoid(x.others),
        x.similar,
        margin=margin,
        where=x.where,
    )
    return {"anchor": _mean_of_anchors(x, values)}


Method = Callable[..., Metrics]

METHODS: dict[str, Method] = {
    method.__name__: method
    for method in (
        ssah,
        dsh,
        dpsh,
        dhn,
        hashnet,
        dch,
        mihash,
        talr,
        dtsh,
        greedyhash,
        csq,
        dpn,
        orthohash,
        ssdph,
        ssdh,
    )
}
"""Accepted words of `config.loss.name`."""

FIXED_CENTRES = ("ssah", "csq", "dpn", "orthohash")
"""Methods that draw codes to fixed centres; for the others centres are class means."""

CLASSIFIERS = ("greedyhash",)
"""Methods that train a classifier of codes."""

POINTWISE = ("greedyhash", "csq", "dpn", "orthohash")
"""Methods that compare no codes with each other."""


LEAST = {"gamma": 1e-3, "every": 1.0}
"""Least values of options that may not be 0."""


def options(name: str) -> dict[str, float]:
    """Options of a method with their presets."""
    return {
        parameter.name: parameter.default
        for parameter in inspect.signature(METHODS[name]).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def parse_options(name: str, text: str) -> dict[str, float]:
    """Options of a method from `"margin=0.3,scale=10"`.

    Raises:
        ValueError: if an option does not exist, or is no number of at least 0, or of
            what `LEAST` asks for.
    """
    known = options(name)
    found: dict[str, float] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        option, _, value = item.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        least = LEAST.get(option, 0.0)
        if option not in known or not least <= number < float("inf"):
            accepted = ", ".join(f"{k}={v:g}" for k, v in known.items())
            raise ValueError(
                f"found {item!r}, accepted for {name} are numbers of at least "
                f"{least:g}, by default {accepted}"
            )
        found[option] = number
    return found


def build_method(name: str, changed: dict[str, float]) -> Method:
    """The method of a config word, with these of its options changed."""
    return partial(METHODS[name], **changed)
