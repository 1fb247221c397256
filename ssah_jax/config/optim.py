"""How the networks learn."""

import dataclasses

from ssah_jax.config.constraints import at_least, between, more_than
from ssah_jax.config.fields import field


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Both optimisers (AdamW for H-Net, Adam for A-Net) and the teacher."""

    learning_rate: float = field(
        8e-3,
        "H-Net's largest; warms up linearly, falls as a cosine to 0",
        more_than(0),
    )
    anet_learning_rate: float = field(3e-3, "A-Net's, constant", at_least(0))
    warmup: float = field(0.05, "share of all steps of the warm-up", between(0, 1))
    weight_decay: float = field(5e-4, "of H-Net's matrices and kernels", at_least(0))
    clip_norm: float = field(
        5.0, "largest global norm of either gradient", more_than(0)
    )
    ema_decay: float = field(
        0.995,
        "of the teacher, reached gradually: min(decay, (1 + t) / (10 + t))",
        between(0, 1, "[)"),
    )
    backbone_rate: float = field(
        1.0,
        "factor on the learning rate of the backbone's parameters; 0.05 to 0.1 is "
        "common with pretrained weights",
        at_least(0),
    )
    accumulate: int = field(
        1,
        "parts in which a device's share of the batch passes H-Net, to hold fewer "
        "activations; losses still compare the whole batch. Not with batch "
        "normalisation, whose moments would be another method's",
        at_least(1),
    )
