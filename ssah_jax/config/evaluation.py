"""When and how a run is evaluated."""

import dataclasses

from ssah_jax.config.constraints import at_least
from ssah_jax.config.data import DataConfig
from ssah_jax.config.fields import field, rule, wrong


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Validation in training, and the final evaluation."""

    every: int = field(
        500,
        "steps between evaluations on validation queries; 0 for never",
        at_least(0),
    )
    batch: int = field(512, "images encoded at once, over all devices", at_least(1))
    top_k: int = field(0, "cut-off of mAP; 0 ranks the whole database", at_least(0))
    precision_at: tuple[int, ...] = field(
        (100, 500, 1000), "ranks at which precision is reported", at_least(1)
    )
    max_database: int = field(
        10_000,
        "validation ranks at most so many database images; the final evaluation ranks "
        "all",
        at_least(1),
    )


@rule
def validation_has_queries(eval: EvalConfig, data: DataConfig) -> None:
    """Raise ConfigError if a run is to be validated without validation queries."""
    if eval.every and not data.num_validation:
        raise wrong(
            "data.num_validation",
            0,
            f"is at least 1 while config.eval.every is {eval.every}",
        )
