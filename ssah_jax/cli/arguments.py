"""How all commands read their arguments: one parser, paths, a run and its step."""

import argparse
import difflib
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ssah_jax.cli.errors import UserError

CONFIG_FIELD = "--config.FIELD"
"""How help writes the options that set fields."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, and that takes no shortened options."""

    def __init__(self, **options: object) -> None:
        """As argparse's; descriptions and epilogues keep their line breaks."""
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message}; see {self.prog} --help")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Raises UserError on arguments that nobody took, with what was meant."""
        first = unknown[0]
        if not first.startswith("-"):
            self.error(f"found the argument {first!r}, accepted are only options")
        options = [name for name in self._option_string_actions if name[:2] == "--"]
        near = difflib.get_close_matches(first.partition("=")[0], options, n=1)
        meant = f"; did you mean {near[0]}" if near else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")


def as_path(text: str) -> str:
    """An argument that is a path, with `~` and `~user` as shells read them.

    For argparse's `type`: shells leave the `~` of `--workdir=~/r` alone.

    Raises:
        ArgumentTypeError: there is no home directory that `~` could mean.
    """
    expanded = os.path.expanduser(text)
    if expanded == "~" or expanded.startswith("~/"):
        raise argparse.ArgumentTypeError(
            f"found {text!r} and no home directory, accepted is a whole path"
        )
    return expanded


def as_images(text: str) -> str:
    """A path, or `@` and the path of a list of paths."""
    return f"@{as_path(text[1:])}" if text.startswith("@") else as_path(text)


def add_config(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Adds --config and, for the help, its fields, which are no arguments to argparse.

    See `ssah_jax.cli.config_option`.
    """
    parser.add_argument(
        "--config",
        metavar="NAME|FILE[:PRESETS]",
        required=required,
        help="a configuration that is shipped, such as digits, or a Python file with "
        "get_config(); presets after a colon, such as digits:smoke,bits=64",
    )
    parser.add_argument(
        CONFIG_FIELD,
        metavar="VALUE",
        dest=argparse.SUPPRESS,
        help="sets a field, such as --config.bits=64",
    )
    parser.add_argument(
        "--help-config",
        metavar="WORD",
        nargs="?",
        const="",
        action=_HelpConfig,
        help="describe all fields and exit, or those with WORD in their name",
    )


class _HelpConfig(argparse.Action):
    """Prints what `ssah_jax.config` says of its fields, and exits."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option: str | None = None,
    ) -> NoReturn:
        # Not at the top: --help should not wait for it.
        from ssah_jax.config import Config
        from ssah_jax.config.describe import kind_name
        from ssah_jax.config.fields import walk

        found = [field for field in walk(Config) if str(values) in field.name]
        if not found:
            parser.error(f"--help-config: found no field with {values!r} in its name")
        for field in found:
            kinds = ", ".join(filter(None, (kind_name(field), field.accepted)))
            print(f"--config.{field.name}={field.default!r}  ({kinds})")
            print(textwrap.indent(textwrap.fill(field.sentence, 76), "    "))
        parser.exit()


def add_index(parser: argparse.ArgumentParser) -> None:
    """Adds the argument that says which index is searched."""
    parser.add_argument(
        "--index",
        metavar="FILE",
        type=as_path,
        required=True,
        help="what `ssah index` wrote of codes of the same model",
    )


def add_root(parser: argparse.ArgumentParser, *, shut: bool = False) -> None:
    """Adds the argument that says where relative paths of images start.

    Args:
        parser: of a command.
        shut: whether no image is shown from elsewhere.
    """
    what = (
        "start, and outside of which none is shown (default: the working directory, "
        "and anywhere)"
        if shut
        else "start, for the thumbnails (default: the working directory)"
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=as_path,
        help=f"where relative paths of images {what}",
    )


def add_overwrite(parser: argparse._ActionsContainer) -> None:
    """Adds the word that lets a command replace the file it writes."""
    parser.add_argument(
        "--overwrite", action="store_true", help="replace FILE if it is there"
    )


def add_run(
    parser: argparse.ArgumentParser, *, required: bool = True, local: bool = False
) -> None:
    """Adds the arguments that say which run, and which of its checkpoints.

    Args:
        parser: of a command.
        required: whether there must be a run.
        local: whether it must be a directory.
    """
    pushed = "" if local else ", or hf:OWNER/NAME for what `ssah push` sent of one"
    parser.add_argument(
        "--workdir",
        metavar="RUN",
        type=as_path,
        required=required,
        help=f"the directory of a run{pushed}",
    )
    parser.add_argument(
        "--step",
        metavar="last|best|N",
        default="last",
        help="which checkpoint: the last one (default), the best on validation "
        "queries, or that of step N",
    )


def check_out(path: Path, *, overwrite: bool, update: bool | None = None) -> None:
    """Checks that a command may write a file, before it does anything else.

    Args:
        path: the file.
        overwrite: whether it may be replaced.
        update: whether it may be brought up to date; None for a command that cannot.

    Raises:
        ValueError: it is there already, is a folder, or there is no folder for it.
    """
    from ssah_jax.retrieval.files import one_line

    where = one_line(path)
    if path.is_dir():
        raise ValueError(f"{where}: found a folder, expected the name of a file")
    if not path.parent.is_dir():
        raise ValueError(f"{where}: found no folder to write it in, expected one")
    if path.exists() and not overwrite and not update:
        instead = "bring it up to date with --update, or " if update is False else ""
        raise ValueError(
            f"{where}: is there already; {instead}replace it with --overwrite"
        )


def check_html(path: str | None) -> None:
    """Check that the page of `--html`, if one is wanted, has a folder to go to.

    Raises:
        UserError: it has none.
    """
    from ssah_jax.retrieval.files import one_line

    if path and not Path(path).absolute().parent.is_dir():
        raise UserError(f"--html: found no folder for {one_line(path)}, expected one")


def write_html(path: str, page: str) -> None:
    """Writes the page of `--html`.

    Raises:
        UserError: it cannot be written.
    """
    from ssah_jax.retrieval.files import one_line, write_atomically

    try:
        write_atomically(Path(path), page)
    except OSError as error:
        raise UserError(
            f"{one_line(path)}: cannot be written ({error.strerror or error})"
        ) from error
