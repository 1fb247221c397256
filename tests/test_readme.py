"""README's snippets run, and its commands are the ones that CI runs."""

import re

import numpy as np
from commands import ROOT

README = (ROOT / "README.md").read_text()


def test_python_snippets_run():
    snippets = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(snippets) == 1
    names: dict = {}
    exec(compile(snippets[0], "README.md", "exec"), names)
    assert np.isfinite(names["value"]) and np.any(names["gradient"])
    assert names["turned"].shape == (28, 28, 1)
    assert 0 < names["score"] <= 1


def test_ci_runs_the_readme_commands():
    ci = (ROOT / ".ci/run").read_text()
    match = re.search(r"pip install (-e '\.\[test\]') && (pytest.*)", README)
    assert match is not None
    install, test = match.groups()
    assert f"pip install --quiet {install}\n" in ci
    assert f"  {test}\n" in ci


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
