"""Command-line edges: flags in, one line and an exit status out."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ssah_jax import config as config_lib
from ssah_jax.config import Config, ConfigError

USER_ERROR = 2
"""Exit status of a mistake in flags, configuration, files or workdir."""

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file in configs/; fields are overridden by --config.FIELD=VALUE."
)


def parse_flags(argv: Sequence[str]) -> None:
    """Parse absl's flags.

    Raises:
        ConfigError: on an unknown flag, or a field of the configuration that does
            not exist or has the wrong type.
    """
    try:
        rest = flags.FLAGS(list(argv))
    except (flags.Error, AttributeError, KeyError, TypeError, OSError) as error:
        raise ConfigError(_one_line(error)) from error
    if len(rest) > 1:
        raise ConfigError(f"found the argument {rest[1]!r}, accepted are only flags")


def config_from_flags() -> tuple[Config, Path]:
    """The validated configuration, and the workdir that is its own by default.

    The default is `runs/NAME-DIGEST`, with the name of the file and a digest of the
    configuration: equal commands resume each other, different ones never collide.

    Raises:
        ConfigError: no --config, or one that is not valid.
    """
    if _CONFIG.value is None:
        raise ConfigError(
            "--config: found none, accepted is a file such as configs/digits.py"
        )
    config = config_lib.from_config_dict(_CONFIG.value.to_dict())
    filename = config_flags.get_config_filename(flags.FLAGS["config"])
    name = Path(filename.partition(":")[0]).stem
    digest = hashlib.sha256(config_lib.to_json(config).encode()).hexdigest()[:8]
    return config, Path("runs") / f"{name}-{digest}"


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


def run(main: Callable[[], int | None]) -> None:
    """Run a command; a user's error becomes one line and exit status 2."""
    try:
        parse_flags(sys.argv)
        status = main() or 0
    except ValueError as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        status = USER_ERROR
    sys.exit(status)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
