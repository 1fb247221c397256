"""Every example of docs/losses.md runs by itself, learns, and its table is complete."""

import re
import textwrap

import jax
import numpy as np
import pytest
from commands import ROOT

from ssah_jax import losses

PAGE = (ROOT / "docs/losses.md").read_text()
EXAMPLES = dict(
    re.findall(r"^## ([^\n]*)\n(?:(?!\n## ).)*?```python\n(.*?)```", PAGE, re.M | re.S)
)


def test_every_example_is_found():
    assert len(EXAMPLES) == PAGE.count("```python") == PAGE.count("\n## ") == 6


@pytest.mark.slow
@pytest.mark.parametrize("title", EXAMPLES)
def test_example_learns(title):
    if "equinox" in EXAMPLES[title]:
        pytest.importorskip("equinox")
    # Compiled with as many lines before it as on the page, for the traceback.
    start = PAGE[: PAGE.index(EXAMPLES[title])].count("\n")
    names: dict = {"__name__": "example"}
    exec(compile("\n" * start + EXAMPLES[title], "docs/losses.md", "exec"), names)
    history = np.asarray(names["history"])
    assert history.shape == (20,)
    assert np.isfinite(history).all()
    before, after = history[:2].mean(), history[-5:].mean()
    assert before - after > 0.1 * abs(before)
    gradients = jax.tree.leaves(names["gradients"])
    assert gradients
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        assert np.any(gradient)


def test_the_table_has_every_loss():
    table = re.findall(r"^\| (`.*?) \|", PAGE, re.M)
    listed = set(re.findall(r"`(\w+)`", " ".join(table)))
    public = {
        name
        for name in losses.__all__
        if re.search("_(loss|quantisation|consistency|balance|independence)$", name)
    }
    assert listed <= set(losses.__all__)
    assert public - {"score_function_loss"} <= listed


def test_every_name_on_the_page_is_public():
    code = "\n".join(map(textwrap.dedent, EXAMPLES.values()))
    assert set(re.findall(r"losses\.(\w+)", code)) <= set(losses.__all__)
