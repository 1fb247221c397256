"""Presets: what follows the colon of `--config configs/NAME.py:PRESETS`."""

import ast
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

from ssah_jax.config.convert import flatten
from ssah_jax.config.fields import ConfigError

SMOKE: dict[str, Any] = {
    "steps": 20,
    "log_every": 5,
    "batch.labelled": 16,
    "batch.unlabelled": 16,
}
"""What the preset `smoke` changes in every file, beside what the file says itself."""

SUPERVISED = {
    "anet.kind": "none",
    "anet.draws": 1,
    "loss.consistent": 0.0,
    "loss.consistent_teacher": 0.0,
    "loss.consistent_graph": 0.0,
    "loss.consistent_spread": 0.0,
    "loss.cross_view": 0.0,
}

FEATURES = {
    "data.source": "features",
    "data.max_shift": 0,
    "data.flip": False,
    "data.crop_size": 0,
    "hnet.backbone": "features",
    "hnet.image_size": 0,
    "hnet.weights": "",
    "anet.kind": "stored",
    "anet.draws": 1,
    "loss.cross_view": 20.0,
    "optim.learning_rate": 2e-3,
}
"""Another file's protocol on features of its images, with their stored views: hard
samples from these, and two of them compared, at a weight for hash losses that are sums
over bits. A linear layer learns at this rate."""

FINE_TUNE = {
    "hnet.backbone": "efficientnet_lite0",
    "hnet.weights": "default",
    "hnet.frozen": 6,
    "hnet.image_size": 96,
    "optim.learning_rate": 2e-3,
    "optim.backbone_rate": 0.1,
    "batch.labelled": 32,
    "batch.unlabelled": 64,
}
"""The last two stages and the head of a small network with ImageNet's weights, which is
what a CPU can fine-tune: measured in docs/results/ssah.md."""

VARIANTS: dict[str, dict[str, Any]] = {
    "random": {
        "anet.kind": "random",
        "anet.draws": 1,
        "pace.reach": 1.0,
        "pace.dual_rate": 0.0,
    },
    "paced": {"anet.kind": "random"},
    "supervised": SUPERVISED,
    "ssdph": SUPERVISED | {"loss.name": "ssdph", "loss.consistent_teacher": 20.0},
    "ssdh": SUPERVISED | {"loss.name": "ssdh", "loss.consistent_graph": 0.2},
    "fine_tune": FINE_TUNE,
    "features": FEATURES,
    "unsupervised": SUPERVISED | {"batch.labelled": 0, "loss.cross_view": 1.0},
}
"""Presets that turn a configuration into another, all else equal: deformations drawn at
random, from the whole family or as far as the pace reaches; labelled images alone; two
semi-supervised methods; a network that begins with ImageNet's weights; a head on `ssah
features`; no labels at all."""

_SEPARATOR = (
    r",(?![^()]*\))(?![^\[\]]*\])"
    r"""(?=(?:[^'"]*(?:'[^']*'|"[^"]*"))*[^'"]*$)"""
)
"""A comma outside brackets and quotes."""


def with_presets(
    config: ConfigDict, presets: str, *, smoke: Mapping[str, Any]
) -> ConfigDict:
    """Apply what follows the colon of `--config configs/NAME.py:PRESETS`.

    Args:
        config: what the file says without presets; changed and returned.
        presets: comma-separated: `FIELD=VALUE`, where FIELD is a field's full name or,
            if nothing else is called that, its last part, and VALUE stands in quotes
            if it has commas outside brackets; a word of `VARIANTS`; or
            the word `smoke`, which asks for no labels after `unsupervised`. Later
            ones win.
        smoke: the values, by full name, that with `SMOKE` shrink this configuration to
            a laptop's few minutes; they win.

    Raises:
        ConfigError: on a word or field that does not exist.
    """
    words = {"smoke": SMOKE | dict(smoke), **VARIANTS}
    names = _names(flatten(config.to_dict()))
    for preset in filter(None, map(str.strip, re.split(_SEPARATOR, presets))):
        name, equals, value = preset.partition("=")
        if preset in words:
            changes = words[preset]
            if preset == "smoke" and not config.batch.labelled:
                changes = {k: v for k, v in changes.items() if k != "batch.labelled"}
            config.update_from_flattened_dict(changes)
        elif equals and name in names:
            _set(config, names[name], value)
        else:
            raise ConfigError(
                f"--config: found the preset {preset!r}, accepted are "
                f"{', '.join(words)} and FIELD=VALUE with a field of the "
                "configuration, such as bits=64"
            )
    return config


def _names(fields: Collection[str]) -> dict[str, str]:
    """Full names of fields by all that they may be called: those, and short ones."""
    # Options of hash losses, which are a group deeper, have no short names.
    short = [name for name in fields if name.count(".") < 2]
    uses = Counter(part for name in short for part in name.split("."))
    last = {name.rpartition(".")[2]: name for name in short}
    unique = {part: name for part, name in last.items() if uses[part] == 1}
    return unique | {name: name for name in fields}


def _set(config: ConfigDict, name: str, text: str) -> None:
    """Give a field what a text says."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(value, list):
        value = tuple(value)
    try:
        config.update_from_flattened_dict({name: value})
    except TypeError:
        present = flatten(config.to_dict())[name]
        raise ConfigError(
            f"config.{name}: found {text!r}, accepted is {type(present).__name__}, "
            f"such as {present!r}"
        ) from None
