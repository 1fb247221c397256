"""docs/config.md is what the fields say."""

import runpy

from commands import ROOT


def test_the_page_of_fields_is_current():
    maker = runpy.run_path(str(ROOT / "docs/make_config.py"))
    assert (ROOT / "docs/config.md").read_text() == maker["page"](), (
        "python docs/make_config.py"
    )
