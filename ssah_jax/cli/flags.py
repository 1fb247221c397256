"""Command-line edges: flags in, one line and an exit status out."""

import hashlib
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from ssah_jax import config as config_lib
from ssah_jax.cli import INTERRUPTED as INTERRUPTED
from ssah_jax.config import Config, ConfigError
from ssah_jax.data.source import DataError

USER_ERROR = 2
"""Exit status of a mistake in flags, configuration, files or workdir."""


class UserError(Exception):
    """A mistake that the user can mend; its message is one line."""


@contextmanager
def setting_up() -> Iterator[None]:
    """Take a ValueError or an OSError as a mistake of the user's.

    For what happens before training: whatever raises later is a defect of ours, and
    keeps its traceback.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        raise UserError(_one_line(error)) from error


def run(main: Callable[[], int]) -> None:
    """Parse flags and run a command.

    A `UserError`, or images that cannot be read at whatever time, become one line and
    status 2; Ctrl-C where it is not a request to save and stop, a word and status 130.
    """
    try:
        with setting_up():
            parse_flags(sys.argv)
        status = main()
    except (UserError, DataError) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        status = USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = INTERRUPTED
    sys.exit(status)


def define_config_flag() -> None:
    """Define --config for the script that calls this."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        "A file in configs/; fields are overridden by --config.FIELD=VALUE.",
    )


def parse_flags(argv: Sequence[str]) -> None:
    """Parse absl's flags; --help shows them and exits.

    Raises:
        ConfigError: on an unknown flag, a --config that is no Python file, or a
            field of it that does not exist or has the wrong type.
    """
    if {"-h", "-help", "--help"} & set(argv[1:]):
        print(sys.modules["__main__"].__doc__)
        print(flags.FLAGS.main_module_help())
        sys.exit(0)
    _check_config_file(argv)
    _check_fields(argv)
    try:
        rest = flags.FLAGS(list(argv))
    except (flags.Error, AttributeError, KeyError, TypeError) as error:
        raise ConfigError(_innermost(error)) from error
    if len(rest) > 1:
        raise ConfigError(f"found the argument {rest[1]!r}, accepted are only flags")


def config_from_flags() -> tuple[Config, Path]:
    """The validated configuration, and the workdir that is its own by default.

    The default is `runs/NAME-DIGEST`, with the name of the file and a digest of the
    configuration: equal commands resume each other, different ones never collide.

    Raises:
        ConfigError: no --config, or one that is not valid.
    """
    flag = flags.FLAGS["config"]
    if flag.value is None:
        raise ConfigError(
            "--config: found none, accepted is a file such as configs/digits.py"
        )
    config = config_lib.from_config_dict(flag.value.to_dict())
    filename = config_flags.get_config_filename(flag)
    name = Path(filename.partition(":")[0]).stem
    digest = hashlib.sha256(config_lib.to_json(config).encode()).hexdigest()[:8]
    return config, Path("runs") / f"{name}-{digest}"


def read_config_file(filename: str) -> Config:
    """The validated configuration of a file, for commands without absl's flags.

    Args:
        filename: as after `--config=`, presets included.

    Raises:
        ConfigError: there is no such file, or it or its presets are not valid.
    """
    _check_config_file(["", f"--config={filename}"])
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    try:
        values(["ssah", f"--config={filename}"])
    except (flags.Error, AttributeError, KeyError, TypeError) as error:
        raise ConfigError(_innermost(error)) from error
    return config_lib.from_config_dict(values.config.to_dict())


def run_and_step(
    workdir: str | None, checkpoint: str | None, step: str
) -> tuple[Path, str]:
    """The run that eval.py's flags mean, and which of its checkpoints.

    Raises:
        ConfigError: neither or both of --workdir and --checkpoint, or one that is
            not `DIR/checkpoints/STEP`.
    """
    if (workdir is None) == (checkpoint is None):
        raise ConfigError(
            "--workdir, --checkpoint: found "
            + ("neither" if workdir is None else "both")
            + ", accepted is one of them"
        )
    if checkpoint is None:
        return Path(str(workdir)), step
    path = Path(checkpoint).absolute()
    if path.parent.name != "checkpoints" or not path.name.isdecimal():
        raise ConfigError(
            f"--checkpoint: found {checkpoint!r}, accepted is DIR/checkpoints/STEP"
        )
    return path.parent.parent, path.name


def _check_config_file(argv: Sequence[str]) -> None:
    """Raise ConfigError if --config names no Python file, as loading it would not."""
    following = [*argv[1:], ""]
    for argument, after in itertools.pairwise(following):
        name, equals, value = argument.lstrip("-").partition("=")
        if name == "config" and argument.startswith("-"):
            path = Path((value if equals else after).partition(":")[0])
            if not path.is_file() or path.suffix != ".py":
                raise ConfigError(
                    f"--config: found {str(path)!r}, accepted is a Python file such "
                    "as configs/digits.py"
                )


def _check_fields(argv: Sequence[str]) -> None:
    """Raise ConfigError if --config.FIELD is none, and say which there are."""
    for argument in argv[1:]:
        if argument.startswith("--config."):
            name = argument.removeprefix("--config.").partition("=")[0]
            group: Any = config_lib.default().to_dict()
            for part in name.split("."):
                fields = sorted(group) if isinstance(group, dict) else []
                if part not in fields:
                    raise ConfigError(
                        f"config.{name}: no such field; accepted are "
                        f"{', '.join(fields) or 'none below that'}"
                    )
                group = group[part]


def _innermost(error: BaseException) -> str:
    """What a configuration file itself says, without how absl came to load it."""
    said, cause = error, error.__cause__ or error.__context__
    while cause is not None:
        if isinstance(cause, ConfigError):
            said = cause
        cause = cause.__cause__ or cause.__context__
    return _one_line(said)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
