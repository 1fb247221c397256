"""Nested values of a configuration, and the line with which they are refused."""

import pytest

from ssah_jax.config import Config, ConfigError, from_config_dict
from ssah_jax.config.fields import walk

FIELDS = {field.name: field for field in walk(Config)}


def nested(name, value):
    """`nested("a.b", 1)` is `{"a": {"b": 1}}`; an option's hash loss is taken."""
    *groups, last = name.split(".")
    tree = {last: value}
    for group in reversed(groups):
        tree = {group: tree}
    if len(groups) == 2:
        tree["loss"]["name"] = groups[1]
    return tree


def refusal(values):
    """The one line with which `values` are refused."""
    with pytest.raises(ConfigError) as caught:
        from_config_dict(values)
    message = str(caught.value)
    assert "\n" not in message
    return message
