"""Presets: what follows the colon of `--config configs/NAME.py:PRESETS`."""

import ast
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from ssah_jax.config import ConfigError, flatten

SUPERVISED = {
    "anet.kind": "none",
    "loss.consistent": 0.0,
    "loss.consistent_pair": 0.0,
    "loss.consistent_teacher": 0.0,
    "loss.consistent_graph": 0.0,
    "loss.consistent_spread": 0.0,
}

VARIANTS: dict[str, dict[str, Any]] = {
    "random": {"anet.kind": "random"},
    "supervised": SUPERVISED,
    "ssdph": SUPERVISED | {"loss.name": "ssdph", "loss.consistent_teacher": 20.0},
    "ssdh": SUPERVISED | {"loss.name": "ssdh", "loss.consistent_graph": 0.2},
}
"""Presets that turn a configuration into one of SSAH's rivals, all else equal:
deformations drawn at random; labelled images alone; two semi-supervised methods."""


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
            the word `smoke`. Later ones win.
        smoke: the values, by full name, that shrink this configuration to a laptop's
            few minutes.

    Raises:
        ConfigError: on a word or field that does not exist.
    """
    names = list(flatten(config.to_dict()))
    # Options of hash losses, which are a group deeper, go by their full names.
    short = [name for name in names if name.count(".") < 2]
    uses = Counter(part for name in short for part in name.split("."))
    flat = {name.rpartition(".")[2]: name for name in short}
    flat = {last: name for last, name in flat.items() if uses[last] == 1}
    flat |= {name: name for name in names}
    for preset in filter(None, map(str.strip, re.split(_SEPARATOR, presets))):
        name, equals, value = preset.partition("=")
        if preset == "smoke" and smoke:
            config.update_from_flattened_dict(smoke)
        elif preset in VARIANTS:
            config.update_from_flattened_dict(VARIANTS[preset])
        elif equals and name in flat:
            try:
                parsed = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                parsed = value
            if isinstance(parsed, list):
                parsed = tuple(parsed)
            try:
                config.update_from_flattened_dict({flat[name]: parsed})
            except TypeError:
                present = flatten(config.to_dict())[flat[name]]
                raise ConfigError(
                    f"config.{flat[name]}: found {value!r}, accepted is "
                    f"{type(present).__name__}, such as {present!r}"
                ) from None
        else:
            raise ConfigError(
                f"--config: found the preset {preset!r}, accepted are "
                f"{', '.join([*(['smoke'] if smoke else []), *VARIANTS])} and "
                "FIELD=VALUE with a field of the configuration, such as bits=64"
            )
    return config
