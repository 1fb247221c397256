"""How hard samples may be."""

import dataclasses

from ssah_jax.config.constraints import at_least, between, one_of
from ssah_jax.config.fields import field, rule, wrong
from ssah_jax.pacing import WEIGHT_KINDS


@dataclasses.dataclass(frozen=True)
class PaceConfig:
    """The self-paced policy; see `ssah_jax.pacing`."""

    rule: str = field(
        "schedule",
        'how the threshold moves: "schedule" (linear over the run) or "feedback"',
        one_of("feedback", "schedule"),
    )
    weight: str = field("hard", "self-paced regulariser", one_of(*WEIGHT_KINDS))
    start: float = field(
        0.1, "threshold at the first step, a share of bits", between(0, 1, "()")
    )
    end: float = field(0.15, "largest threshold", between(0, 1, "()"))
    rate: float = field(5e-4, "feedback's change of a step", at_least(0))
    slack: float = field(
        5.0,
        "H-Net accepts samples up to (1 + slack) times the threshold",
        at_least(0),
    )
    target: float = field(
        0.6,
        "feedback aims at this share of samples no harder than the threshold",
        between(0, 1),
    )
    tolerance: float = field(
        0.1,
        "feedback raises the threshold while that share is within this of `target`, "
        "and lowers it when the share is larger",
        between(0, 1),
    )


@rule
def threshold_does_not_fall(pace: PaceConfig) -> None:
    """Raise ConfigError if the threshold starts above its largest value."""
    if pace.start > pace.end:
        raise wrong(
            "pace.start", pace.start, f"is at most config.pace.end = {pace.end}"
        )
