"""Several runs on one page: figures, differences, curves, strangers' names."""

import json

import pytest
from html_page import Page
from report_cases import fill, make_results

from ssah_jax import cli
from ssah_jax.data.sealed import sealed
from ssah_jax.run.report.compare_page import short_names
from ssah_jax.run.report.plots import comparison_plots


def a_run(path, *, rate=0.1, rows=3, **results):
    path.mkdir(parents=True)
    fill(
        path,
        rows=[{"step": i, "loss/total": rate / i} for i in range(1, rows + 1)],
        config={"bits": 16, "optim": {"learning_rate": rate, "ema": 0.9}},
        results=sealed(make_results() | results),
    )
    return str(path)


def compare(*words):
    return cli.main(["compare", *map(str, words)])


def cells(page: Page, row: str) -> str:
    return page.text.split(row)[1][:60]


def test_figures_differences_and_curves(tmp_path):
    runs = [
        a_run(tmp_path / "a" / "run", rate=0.1, map=0.5),
        a_run(tmp_path / "b" / "run", rate=0.2, map=0.75, rows=0),
    ]
    out = tmp_path / "compare.html"
    assert compare(*runs, "--out", out) == 0
    page = Page(out)
    found = cells(page, "mAP, expected over ties")
    assert found.index("0.5000") < found.index("0.7500")
    assert "0.10.2" in cells(page, "optim.learning_rate")
    assert "optim.ema" not in page.text and "Not the same question" not in page.text
    assert page.labels() == ["Loss: total: loss/total over steps, of 1 runs"]
    assert "a/run" in page.text and "b/run" in page.text
    assert compare(*runs, "--out", out) == 2


def test_a_run_has_one_colour_in_all_figures():
    rows = [{"step": 1, "loss/total": 1.0}, {"step": 2, "loss/total": 2.0}]
    paced = [row | {"pace/threshold": 0.1} for row in rows]
    loss, pace = comparison_plots([rows, rows, paced])
    for colour, (first, second) in zip(
        ("#3b82c4", "#d9772b", "#3a9d5d"), ((1, 0), (1, 0), (1, 1)), strict=True
    ):
        assert ((colour in loss), (colour in pace)) == (bool(first), bool(second))


def test_another_test_is_told(tmp_path):
    runs = [a_run(tmp_path / name, split_digest=name) for name in ("a", "b")]
    out = tmp_path / "compare.html"
    assert compare(*runs, "--out", out) == 0
    assert "Not the same question: these runs differ in split_digest" in Page(out).text


def test_names_of_strangers_and_runs_without_anything(tmp_path):
    runs = [a_run(tmp_path / "<script>$x_ 日")]
    bare = tmp_path / "_bare"
    bare.mkdir()
    (bare / "config.json").write_text(json.dumps({"bits": 16}))
    out = tmp_path / "compare.html"
    assert compare(*runs, bare, "--out", out) == 0
    page = Page(out)
    assert not page.all("script") and "<script>$x_ 日" in page.text
    assert compare(bare, bare, "--out", out, "--overwrite") == 0
    assert "Nowhere." in Page(out).text and "Nothing logged." in Page(out).text


@pytest.mark.parametrize(
    ("words", "said"),
    [(["a"], "two or more"), (["a", "none"], "no config.json")],
)
def test_mistakes_are_one_line(tmp_path, capsys, words, said):
    a_run(tmp_path / "a")
    out = tmp_path / "compare.html"
    assert compare(*(tmp_path / word for word in words), "--out", out) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not out.exists()


def test_short_names(tmp_path):
    assert short_names([tmp_path / "a/x", tmp_path / "b/x"]) == ["a/x", "b/x"]
    assert short_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert len(set(short_names([tmp_path, tmp_path]))) == 2
