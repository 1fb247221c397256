"""`--config NAME|FILE[:PRESETS]` and `--config.FIELD=VALUE`, to a validated `Config`.

The fields are parsed by ml_collections' own flags, which know each field's type; the
rest of the command line is argparse's.
"""

import hashlib
import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

import ssah_jax
from ssah_jax import config as config_lib
from ssah_jax.cli.arguments import as_path
from ssah_jax.cli.errors import one_line
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
    file, colon, presets = spec.partition(":")
    where = _find_file(file)
    argv = ["ssah", f"--config={where}{colon}{presets}", *fields]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "", flag_values=values, sys_argv=argv
    )
    try:
        values(argv)
        given = values.config.to_dict()
    # The file is the user's program, which may raise anything.
    except Exception as error:
        raise ConfigError(_told(error, where)) from error
    return config_lib.from_config_dict(given)


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


def _told(error: BaseException, file: Path) -> str:
    """What a configuration file or a field's parser says, without how it was loaded."""
    said = error
    for cause in _causes(error):
        if isinstance(cause, ConfigError):
            return one_line(cause)
        said = cause
    if isinstance(said, SyntaxError):
        return f"{file}, line {said.lineno}: {one_line(said.msg)}"
    # An error of the user's own code names its line.
    for frame in reversed(traceback.extract_tb(said.__traceback__)):
        if frame.filename == str(file):
            return (
                f"{file}, line {frame.lineno}: {type(said).__name__}: {one_line(said)}"
            )
    return one_line(error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
