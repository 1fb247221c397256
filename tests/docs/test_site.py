"""The site's reference: every public room has its page, every command its section."""

import json
import runpy

import numpy as np
import pytest
from commands import ROOT
from PIL import Image

REFERENCE = ROOT / "docs" / "reference"


@pytest.mark.parametrize(
    "room", ["losses", "similarity", "transforms", "pacing", "retrieval"]
)
def test_every_public_room_has_its_page(room):
    assert f"```{{room}} ssah_jax.{room}\n" in (REFERENCE / f"{room}.md").read_text()


def test_commands_have_theirs():
    assert "```{commands}\n" in (REFERENCE / "commands.md").read_text()


def test_the_picture_of_readme_frames_what_is_wrong(tmp_path):
    found = [
        {"picture": "0.png", "distance": near, "hit": near != 1} for near in range(10)
    ]
    queries = [
        {"group": group, "labels": [label], "picture": "0.png", "neighbours": found}
        for group in ("best", "typical", "worst")
        for label in "abc"
    ]
    (tmp_path / "gallery.json").write_text(json.dumps({"queries": queries}))
    Image.new("L", (4, 4)).save(tmp_path / "0.png")
    figure = runpy.run_path(str(ROOT / "docs/make_picture.py"))["draw"](tmp_path)
    rows = np.reshape(figure.axes, (4, 11))
    assert [row[0].get_ylabel() for row in rows] == [
        "best",
        "typical",
        "typical",
        "worst",
    ]
    for row in rows:
        assert [place.get_title() for place in row] == ["query", *map(str, range(10))]
        red = [place.spines["top"].get_edgecolor()[:3] == (1, 0, 0) for place in row]
        assert red == [number == 2 for number in range(11)]
