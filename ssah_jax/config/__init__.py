"""Configuration: a ConfigDict at the edge, frozen dataclasses within.

A file in `configs/` starts from `default()`, a locked `ConfigDict`, and changes what
differs. `from_config_dict` turns it into a validated `Config` before anything
compiles; the rest of the library sees only frozen dataclasses.

One module for each topic holds its groups of fields: type, default, what is accepted
and a sentence in one place (`fields.field`), and the rules between fields beside the
group they concern (`fields.rule`). `describe()` lists them all.
"""

from ssah_jax.config.convert import (
    default,
    differences,
    flatten,
    from_config_dict,
    from_json,
    to_json,
)
from ssah_jax.config.data import BatchConfig, DataConfig
from ssah_jax.config.describe import describe, json_schema
from ssah_jax.config.evaluation import EvalConfig
from ssah_jax.config.fields import ConfigError
from ssah_jax.config.loss import GraphConfig, LossConfig
from ssah_jax.config.networks import (
    ANetConfig,
    HNetConfig,
    check_others_weights,
    check_side,
)
from ssah_jax.config.optim import OptimConfig
from ssah_jax.config.pace import PaceConfig
from ssah_jax.config.root import Config

__all__ = [
    "ANetConfig",
    "BatchConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "EvalConfig",
    "GraphConfig",
    "HNetConfig",
    "LossConfig",
    "OptimConfig",
    "PaceConfig",
    "check_others_weights",
    "check_side",
    "default",
    "describe",
    "differences",
    "flatten",
    "from_config_dict",
    "from_json",
    "json_schema",
    "to_json",
]
