"""What `ssah --help` and its like teach, and that its examples work."""

import importlib
import re
import subprocess
import sys

import pytest
from commands import ROOT

from ssah_jax import cli
from ssah_jax.cli import config_option
from ssah_jax.cli.encoders import check_encoder
from ssah_jax.config import Config
from ssah_jax.config.fields import walk


def test_help_teaches(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"encode +hash images .*\n +index .*\n +search ", text)
    flat = " ".join(text.split())
    for name, about in cli.COMMANDS.items():
        assert f" {name} {about.purpose}" in flat
        assert f"ssah {name} {about.examples[0]}" in text
        assert cli.main([name, "--help"]) == 0
        own = capsys.readouterr().out
        assert f"usage: ssah {name} " in own
        assert all(f"\n  ssah {name} {words}\n" in own for words in about.examples)


def test_every_example_is_one_that_its_command_takes(monkeypatch):
    taken: list = []
    for name, about in cli.COMMANDS.items():
        assert len(about.examples) > 1
        module = importlib.import_module(f"ssah_jax.cli.{name}")
        monkeypatch.setattr(module, "run", lambda options: taken.append(options) or 0)
        for words in about.examples:
            assert cli.main([name, *words.split()]) == 0, words
            options = taken.pop()
            if "workdir" in options and "backbone" in options:
                check_encoder(options)
            if about.takes_config:
                config_option.read_config(options.config, options.fields)


def test_help_describes_every_field(capsys):
    assert cli.main(["train", "--help-config"]) == 0
    text = capsys.readouterr().out
    for field in walk(Config):
        assert f"--config.{field.name}={field.default!r}  (" in text
    assert cli.main(["train", "--config", "digits", "--help-config", "pace."]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("--config.pace.", "    ")) for line in lines)
    assert cli.main(["train", "--help-config=bitz"]) == 2
    assert "'bitz'" in capsys.readouterr().err


def test_python_m_and_the_version():
    done = subprocess.run(
        [sys.executable, "-m", "ssah_jax", "--version"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout.startswith("ssah_jax 0.")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["encode", "index", "search"])
def test_help_loads_neither_models_nor_data(command):
    script = (
        "import sys; from ssah_jax.cli import main; status = main(sys.argv[1:]); "
        "heavy = 'faiss', 'pyarrow', 'PIL', 'orbax', 'grain', 'ssah_jax.data'; "
        "print([m for m in heavy if m in sys.modules]); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    for needed in {
        "encode": "--workdir IMAGES --out",
        "index": "CODES --out --kind",
    }.get(command, "--workdir --index QUERY -k --json --html").split():
        assert needed in done.stdout
