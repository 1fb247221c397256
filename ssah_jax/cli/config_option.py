"""`--config NAME|FILE[:PRESETS]` and `--config.FIELD=VALUE`, to a validated `Config`.

The fields are parsed by ml_collections' own flags, which know each field's type; the
rest of the command line is argparse's.
"""

import hashlib
import importlib.util
import re
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

import ssah_jax
from ssah_jax import config as config_lib
from ssah_jax.cli.arguments import as_path
from ssah_jax.cli.errors import unbroken
from ssah_jax.config import Config, ConfigError

_FIELD = re.compile(r"--?(?:no)?config\.")


def split_fields(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments `--config.FIELD=VALUE` and `--config.FIELD VALUE`, and all others.

    Raises:
        ConfigError: a field does not exist, or has no value.
    """
    fields, others = [], []
    following = iter(arguments)
    for argument in following:
        if argument == "--":
            others += [argument, *following]
        elif not (found := _FIELD.match(argument)):
            others.append(argument)
        else:
            fields.append(argument)
            name, equals, _ = argument[found.end() :].partition("=")
            # As for absl, a bool's name alone is true, and takes no other argument.
            if not isinstance(_default(name), bool) and not equals:
                value = next(following, None)
                if value is None:
                    raise ConfigError(f"config.{name}: found no value, expected one")
                fields.append(value)
    return fields, others


def read_config(spec: str | None, fields: Sequence[str] = ()) -> Config:
    """The validated configuration that the command line means.

    Args:
        spec: the value of --config, presets included; None where it was not given.
        fields: what `split_fields` found.

    Raises:
        ConfigError: there is no such file, or it, its presets or a field are not valid.
    """
    if spec is None:
        raise ConfigError(
            "--config: found none, accepted is a file such as configs/digits.py, or "
            f"one of {', '.join(shipped())}"
        )
    file, *presets = spec.split(":", 1)
    values = flags.FlagValues()
    argv = ["ssah", *fields]
    try:
        config_flags.DEFINE_config_dict(
            "config",
            _load(_find_file(file), presets),
            flag_values=values,
            sys_argv=argv,
        )
        values(argv)
    except (flags.Error, AttributeError, KeyError, TypeError) as error:
        raise ConfigError(unbroken(error)) from error
    return config_lib.from_config_dict(values.config.to_dict())


def default_workdir(spec: str, config: Config) -> Path:
    """The directory that is a configuration's own: `runs/NAME-DIGEST`.

    With the name of the file and a digest of the configuration: equal commands resume
    each other, different ones never collide.
    """
    name = Path(spec.partition(":")[0]).stem
    digest = hashlib.sha256(config_lib.to_json(config).encode()).hexdigest()[:8]
    return Path("runs") / f"{name}-{digest}"


def shipped() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    package = Path(ssah_jax.__file__).parent
    # Wheels hold them in the package; in the source tree they lie beside it.
    for directory in (package / "configs", package.parent / "configs"):
        found = {path.stem: path for path in sorted(directory.glob("[a-z]*.py"))}
        if found:
            return found
    return {}


def _find_file(name: str) -> Path:
    files = shipped()
    if name in files:
        return files[name]
    path = Path(as_path(name))
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError(
            f"--config: found {name!r}, accepted is a Python file such as "
            f"configs/digits.py, or one of {', '.join(files)}"
        )
    return path


def _load(file: Path, presets: Sequence[str]) -> ConfigDict:
    """What get_config() of a file returns.

    Raises:
        ConfigError: the file, which is the user's program, raises anything, or it is
            no configuration.
    """
    spec = importlib.util.spec_from_file_location("ssah_jax_config_file", file)
    assert spec and spec.loader  # its name ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(*presets)
    except ConfigError:
        raise
    except SyntaxError as error:
        raise ConfigError(f"{file}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(file)]
        raise ConfigError(
            f"{file}{f', line {lines[-1]}' if lines else ''}: {type(error).__name__}: "
            f"{unbroken(error)}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(
            f"{file}: found {type(config).__name__} from get_config(), accepted is a "
            "ConfigDict such as ssah_jax.config.default()"
        )
    return config


def _default(name: str) -> Any:
    """A field's default.

    Raises:
        ConfigError: there is no such field; the message says which there are.
    """
    group: Any = config_lib.default().to_dict()
    for part in name.split("."):
        fields = sorted(group) if isinstance(group, dict) else []
        if part not in fields:
            raise ConfigError(
                f"config.{name}: no such field; accepted are "
                f"{', '.join(fields) or 'none below that'}"
            )
        group = group[part]
    return group
