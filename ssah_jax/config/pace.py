"""How hard samples may be."""

import dataclasses

from ssah_jax.config.constraints import at_least, between
from ssah_jax.config.fields import field


@dataclasses.dataclass(frozen=True)
class PaceConfig:
    """The self-paced policy; see `ssah_jax.pacing`."""

    start: float = field(
        0.1, "threshold at the first step, a share of bits", between(0, 0.5, "(]")
    )
    target: float = field(
        0.9,
        "the threshold rises while more than this share of hard samples is still "
        "recognised, and falls while fewer are",
        between(0, 1),
    )
    rate: float = field(0.02, "of the threshold's logarithm", at_least(0))
    reach: float = field(
        0.3,
        "largest window and angle at the first step, as a share of `anet.scales` and "
        "`anet.max_degrees`",
        between(0, 1, "(]"),
    )
    dual_rate: float = field(
        0.02,
        "of the reach's logarithm: it grows while samples are easier than the "
        "threshold, and shrinks while they are harder",
        at_least(0),
    )
