"""`ssah --print-completion`: what a real shell offers."""

import subprocess

import pytest

from ssah_jax import cli
from ssah_jax.cli.config_option import shipped
from ssah_jax.config import Config
from ssah_jax.config.fields import walk


@pytest.fixture(scope="module")
def scripts():
    """The parser of all commands reads every module once."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for shell in ("bash", "zsh", "fish"):
            lines: list[str] = []
            patch.setattr("builtins.print", lambda text, to=lines: to.append(text))
            assert cli.main(["--print-completion", shell]) == 0
            found[shell] = "\n".join(lines)
    return found


ASKED = {
    "ex": {"export"},
    "export --to ": {"stablehlo", "onnx", "safetensors"},
    "train --config dig": {"digits"},
    "train --config.hnet.ba": {"--config.hnet.backbone"},
    "train --config.data.flip ": {"True", "False"},
    "prepare stan": {"stanford_dogs"},
    "show --workdir r": {"run"},
    "search --index p": {"photos.index"},
}
"""What has been typed before Tab, in a folder with run/ and photos.index."""


def test_bash_offers_what_fits(scripts, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "photos.index").touch()
    (tmp_path / "r.txt").touch()
    asked = ""
    for typed in ASKED:
        *before, last = typed.split(" ")
        asked += (
            f"COMP_WORDS=(ssah {' '.join(before)} '{last}'); COMPREPLY=()\n"
            f"COMP_CWORD={len(before) + 1}; _shtab_ssah\n"
            'echo "${COMPREPLY[*]}"\n'
        )
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{scripts['bash']}\n{asked}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert done.stderr == ""
    offered = [set(line.split()) for line in done.stdout.splitlines()]
    assert dict(zip(ASKED, offered, strict=True)) == ASKED


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_others_know_every_command_field_and_configuration(scripts, shell):
    for name in [
        *cli.COMMANDS,
        *shipped(),
        *(f"config.{f.name}" for f in walk(Config)),
    ]:
        assert name in scripts[shell], name


def test_another_shell_is_a_line(capsys):
    assert cli.main(["--print-completion", "csh"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "'csh'" in said and "fish" in said
