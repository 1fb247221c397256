"""Scripts that let a shell complete the words of `ssah`.

shtab writes them from the parsers of all commands. They are static: pressing Tab starts
no Python.
"""

import argparse
from typing import Any

import shtab

from ssah_jax.cli.arguments import CONFIG_FIELD, Parser, as_images, as_path
from ssah_jax.cli.config_option import shipped
from ssah_jax.config import Config
from ssah_jax.config.fields import walk
from ssah_jax.data.prepare import KNOWN

_FOLDERS = ("DIR", "RUN")


def completion(parser: Parser, commands: dict[str, Parser], shell: str) -> str:
    """The script for a shell.

    Args:
        parser: of `ssah`.
        commands: the parser of each command, with its arguments; hints are added.
        shell: "bash", "zsh" or "fish".
    """
    for name, command in commands.items():
        # A line is what a shell shows.
        command.description = (command.description or "").partition("\n")[0]
        for action in list(command._actions):
            _hint(name, action)
            if CONFIG_FIELD in action.option_strings:
                action.help = argparse.SUPPRESS
                _add_fields(command)
    return shtab.complete(parser, shell)


def _hint(command: str, action: argparse.Action) -> None:
    """What an argument's values are, where its parser does not know it."""
    found: Any = action
    if action.type in (as_path, as_images):
        folder = action.metavar in _FOLDERS
        found.complete = shtab.DIRECTORY if folder else shtab.FILE
    elif action.dest == "config":
        action.choices = list(shipped())
    elif (command, action.dest) == ("prepare", "name"):
        action.choices = list(KNOWN)


def _add_fields(command: Parser) -> None:
    for field in walk(Config):
        enum = [x.schema["enum"] for x in field.constraints if "enum" in x.schema]
        choices = ("True", "False") if field.kind is bool else enum[0] if enum else None
        # argparse reads help as a format.
        command.add_argument(
            f"--config.{field.name}",
            choices=choices,
            help=field.sentence.replace("%", "%%"),
        )
