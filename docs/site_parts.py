"""What the site takes from the code: commands, records, docstrings; and formulas."""

import contextlib
import importlib
import inspect
import io
import json
import os
import re
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from ssah_jax import cli

RECORDS = Path(__file__).parents[1] / "benchmarks" / "results"
_LOG = logging.getLogger(__name__)


class Commands(SphinxDirective):
    """A section for each command of `ssah`, with what `--help` prints."""

    def run(self) -> list[nodes.Node]:
        """The sections, in the order of `ssah --help`."""
        return [
            _section(
                f"ssah {name}", [nodes.literal_block(text=_help(name), language="text")]
            )
            for name in cli.COMMANDS
        ]


def _help(name: str) -> str:
    printed = io.StringIO()
    with (
        # As wide as a page, and without the colours of a terminal.
        mock.patch.dict(os.environ, {"COLUMNS": "78", "NO_COLOR": "1"}),
        contextlib.redirect_stdout(printed),
    ):
        cli.main([name, "--help"])
    return printed.getvalue()


class Room(SphinxDirective):
    """The public names of a module of the package, by the files that they stand in.

    A section a file, its title the first sentence of the file's docstring.
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The docstring of the room, and the sections."""
        room = importlib.import_module(self.arguments[0])
        files: dict[str, list[str]] = {}
        for name in _public(room):
            files.setdefault(_file(room, name), []).append(name)
        found = self.parse_text_to_nodes(_docstring(room))
        for file, names in files.items():
            blocks = "\n".join(_autodoc(room, file, name) for name in names)
            parsed = self.parse_text_to_nodes(f"```{{eval-rst}}\n{blocks}\n```")
            if file == room.__name__:
                found += parsed
                continue
            first = _docstring(importlib.import_module(file)).partition("\n\n")[0]
            found.append(_section(" ".join(first.split()).rstrip("."), parsed))
        return found


def _section(title: str, content: list[nodes.Node]) -> nodes.section:
    section = nodes.section(ids=[nodes.make_id(title)], names=[title])
    section += nodes.title(text=title)
    section += content
    return section


def _public(room: types.ModuleType) -> list[str]:
    """What `__all__` names; without one, what is defined and described here."""
    if hasattr(room, "__all__"):
        return list(room.__all__)
    own = {
        name
        for name, value in vars(room).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == room.__name__
    }
    names = own | _constants(room.__name__)
    return [name for name in vars(room) if name in names and not name.startswith("_")]


def _constants(file: str) -> set[str]:
    """Names of a module that a docstring stands below."""
    analyzer = ModuleAnalyzer.for_module(file)
    analyzer.analyze()
    return {name for scope, name in analyzer.attr_docs if not scope}


def _docstring(module: types.ModuleType) -> str:
    return inspect.cleandoc(module.__doc__ or "")


def _file(room: types.ModuleType, name: str) -> str:
    """The module that a public name stands in."""
    value = getattr(room, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        return str(value.__module__)
    # A constant does not know: the file that describes it.
    for file in sorted(
        m for m in sys.modules if f"{m}.".startswith(f"{room.__name__}.")
    ):
        if name in _constants(file):
            return file
    raise ValueError(f"public, and without a docstring: {room.__name__}.{name}")


def _autodoc(room: types.ModuleType, file: str, name: str) -> str:
    value = getattr(room, name)
    if inspect.isclass(value):
        return f".. autoclass:: {room.__name__}.{name}\n   :members:\n"
    if inspect.isfunction(value):
        return f".. autofunction:: {room.__name__}.{name}\n"
    return f".. autodata:: {file}.{name}\n   :no-value:\n"


class Records(SphinxDirective):
    """A table of the records in benchmarks/results, each to be downloaded."""

    def run(self) -> list[nodes.Node]:
        """The table."""
        here = Path(self.env.doc2path(self.env.docname)).parent
        rows = ["| record | seeds | JAX | Python | device |", "|" + " --- |" * 5]
        for path in sorted(RECORDS.glob("*.json")):
            self.env.note_dependency(str(path))
            record = json.loads(path.read_text())
            seeds = record.get("seeds", record.get("seed", ""))
            if isinstance(seeds, list):
                seeds = ", ".join(map(str, seeds))
            versions = record.get("versions", {})
            link = f"[{path.stem}]({os.path.relpath(path, here)})"
            made = [versions.get(word, "") for word in ("jax", "python", "device")]
            rows.append(f"| {' | '.join([link, str(seeds), *made])} |")
        return self.parse_text_to_nodes("\n".join(rows))


def _formula(self: Any, node: nodes.Element) -> None:
    block = isinstance(node, nodes.math_block)
    tree = tex2mathml(node.astext(), as_block=block)
    self.body.append(f'<div class="formula">{tree}</div>' if block else tree)
    raise nodes.SkipNode


def _docstrings(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    if what in {"module", "class", "function"} and not any(lines):
        _LOG.warning("public, and without a docstring: %s", name)
    # "bits: K." is no list whose eleventh item is empty.
    lines[:] = [re.sub(r"^(:\w+ \w+: )([A-Z])\.$", r"\1`\2`.", line) for line in lines]


def _skips(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Fields of a NamedTuple: the class describes them."""
    return True if inspect.isdatadescriptor(obj) and _is_alias(obj) else None


def _is_alias(obj: Any) -> bool:
    return (inspect.getdoc(obj) or "").startswith("Alias for field number")


def _links_of_the_repository(app: Sphinx, docname: str, source: list[str]) -> None:
    """Folders have no page here: records do, and what else a page may link is files."""
    root = "../" * (docname.count("/") + 1)
    up = "../" * docname.count("/")
    source[0] = source[0].replace(
        f"]({root}benchmarks/results)", f"]({up}results/records.md)"
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers all of it."""
    app.add_directive("commands", Commands)
    app.add_directive("room", Room)
    app.add_directive("records", Records)
    app.add_html_math_renderer("mathml", (_formula, None), (_formula, None))
    # After napoleon.
    app.connect("autodoc-process-docstring", _docstrings, priority=900)
    app.connect("autodoc-skip-member", _skips)
    app.connect("source-read", _links_of_the_repository)
    return {"parallel_read_safe": True}
