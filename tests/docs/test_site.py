"""The site's reference: every public room has its page, every command its section."""

import pytest
from commands import ROOT

REFERENCE = ROOT / "docs" / "reference"


@pytest.mark.parametrize(
    "room", ["losses", "similarity", "transforms", "pacing", "retrieval"]
)
def test_every_public_room_has_its_page(room):
    assert f"```{{room}} ssah_jax.{room}\n" in (REFERENCE / f"{room}.md").read_text()


def test_commands_have_theirs():
    assert "```{commands}\n" in (REFERENCE / "commands.md").read_text()
