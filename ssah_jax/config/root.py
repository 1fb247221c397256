"""All groups together: what decides a run."""

import dataclasses

from ssah_jax.config.constraints import SEED, at_least, one_of
from ssah_jax.config.data import BatchConfig, DataConfig
from ssah_jax.config.evaluation import EvalConfig
from ssah_jax.config.fields import field
from ssah_jax.config.loss import GraphConfig, LossConfig
from ssah_jax.config.networks import ANetConfig, HNetConfig
from ssah_jax.config.optim import OptimConfig
from ssah_jax.config.pace import PaceConfig


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides a run. Two runs with equal configs are equal."""

    seed: int = field(
        0, "of the split, the initial parameters and every random draw", SEED
    )
    bits: int = field(32, "K, the length of a code", at_least(1))
    labels_per_class: int = field(
        50, "labelled images of each class; 0 for all there are", at_least(0)
    )
    steps: int = field(2000, "training steps", at_least(1))
    log_every: int = field(20, "steps between lines of metrics.jsonl", at_least(1))
    checkpoint_every: int = field(500, "steps between checkpoints", at_least(1))
    parallel: str = field(
        "pmap",
        'how a step spans devices: "pmap" maps it over them, "jit" is one program of '
        "all; the same numbers",
        one_of("pmap", "jit"),
    )
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    batch: BatchConfig = dataclasses.field(default_factory=BatchConfig)
    hnet: HNetConfig = dataclasses.field(default_factory=HNetConfig)
    anet: ANetConfig = dataclasses.field(default_factory=ANetConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    graph: GraphConfig = dataclasses.field(default_factory=GraphConfig)
    pace: PaceConfig = dataclasses.field(default_factory=PaceConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
