"""The report: complete in itself, tolerant of what is missing, safe to open."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from html_page import Page
from report_cases import fill, make_gallery, make_results

from ssah_jax.run.report.pictures import draw_strip
from ssah_jax.run.report.run_page import write_report


def make_rows() -> list[dict]:
    rows: list[dict] = []
    for step in range(10, 210, 10):
        rows.append(
            {
                "step": step,
                "seconds": step / 10,
                "loss/total": 3.0 / step,
                "loss/pair": 1.0 / step,
                "pace/threshold": step / 400,
                "pace/hardness": step / 500,
                "pace/recognised": 0.8,
                "pace/reach_angle": step / 10,
                "monitor/gate_rate": 0.5,
                "images_per_second": 1000.0,
            }
        )
        if step % 50 == 0:
            rows.append({"step": step, "validation/map": step / 250})
    return rows


def test_the_whole_page(tmp_path):
    fill(tmp_path, rows=make_rows(), results=make_results(), config={"alpha": 8.5})
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    page = Page(path)
    for shown in [
        "0.7123",
        "0.7000",
        "0.7500",
        "0.6500",
        "0.6000",
        "digits_100",
        "1,500",
        "12345",
        "200",
        "61.2",
        "0.10.2",
    ]:
        assert shown in page.text
    assert "100: 0.8000" in page.text
    assert '"alpha": 8.5' in page.text
    titles = [label.split(":")[0] for label in page.labels()]
    assert titles == [
        "Losses",
        "Self-paced policy",
        "Validation",
        "Monitors",
        "Speed",
        "Precision-recall curve",
        "Precision at n",
        "Balance",
    ]
    # Hardness, the reach and the recognised share stand in one picture.
    for key in ("pace/threshold", "pace/reach_angle", "pace/recognised"):
        assert key in page.labels()[1]
    for name in (
        "threshold",
        "reach angle",
        "recognised",
        "total",
        "pair",
        "gate rate",
    ):
        assert name in page.text
    metas = [attrs for tag, attrs in page.tags if tag == "meta"]
    assert any("width=device-width" in (m.get("content") or "") for m in metas)
    assert "prefers-color-scheme: dark" in page.source
    assert "max-width" in page.source


def test_nothing_is_loaded(tmp_path):
    strips = tmp_path / "strips"
    strips.mkdir()
    (strips / "step_000001.png").write_bytes(draw_strip(*np.zeros((2, 1, 4, 4, 1))))
    make_gallery(tmp_path / "gallery")
    fill(tmp_path, rows=make_rows(), results=make_results(), config={})
    page = Page(write_report(tmp_path))
    assert "://" not in page.source
    assert "@import" not in page.source
    for tag, attrs in page.tags:
        assert tag not in {"script", "link", "iframe", "object"}
        for name in ("src", "href", "xlink:href"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#"))
    # References reach ids of the page, and no two pictures share one.
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:url\(#|href="#)([^)"]+)', page.source)
    assert used
    assert set(used) <= set(ids)


def test_every_picture_has_a_text(tmp_path):
    strips = tmp_path / "strips"
    strips.mkdir()
    (strips / "step_000001.png").write_bytes(draw_strip(*np.zeros((2, 1, 4, 4, 1))))
    make_gallery(tmp_path / "gallery")
    fill(tmp_path, rows=make_rows(), results=make_results())
    page = Page(write_report(tmp_path))
    pictures = [(tag, attrs) for tag, attrs in page.tags if tag in {"svg", "img"}]
    assert {tag for tag, _ in pictures} == {"svg", "img"}
    for tag, attrs in pictures:
        assert (attrs.get("alt") if tag == "img" else attrs.get("aria-label")) or ""
        assert tag == "img" or attrs.get("role") == "img"


def test_plots_take_the_text_colour_of_the_page(tmp_path):
    fill(tmp_path, rows=make_rows())
    source = Page(write_report(tmp_path)).source
    svg = source[source.index("<svg") :]
    assert "currentColor" in svg
    assert "#010203" not in svg
    # Neither a white ground nor black lines, which one of the themes would swallow.
    assert not re.search(r"fill: #ffffff(?!; opacity: 0)", svg)
    assert "stroke: #000000" not in svg


def test_an_empty_workdir(tmp_path):
    page = Page(write_report(tmp_path))
    assert "No results yet" in page.text
    assert "Nothing logged" in page.text
    assert not page.labels()


@pytest.mark.parametrize("key", [*make_results(), "all"])
def test_any_result_may_be_missing(tmp_path, key):
    results = make_results()
    results.pop(key, None)
    fill(tmp_path, results={} if key == "all" else results)
    page = Page(write_report(tmp_path))
    assert ("Precision-recall curve" in page.text) == (key not in {"pr_curve", "all"})


def test_results_without_a_name_follow_under_their_own(tmp_path):
    fill(tmp_path, results=make_results() | {"new_measure": 0.25})
    text = Page(write_report(tmp_path)).text
    assert "new_measure0.2500" in text.replace("\n", "")


def test_keys_may_be_absent_or_odd_in_any_line(tmp_path):
    rows = [
        {"step": 1, "loss/total": 1.0},
        {"step": 2, "loss/total": float("nan"), "loss/pair": None},
        {"step": 3, "loss/total": float("inf"), "pace/hardness": 0.1},
        {"step": 3, "loss/never": float("nan")},
        {"loss/total": 5.0},
        {"step": 4, "loss/total": -0.5, "loss/pair": "text", "other/x": True},
    ]
    fill(tmp_path, rows=rows)
    labels = Page(write_report(tmp_path)).labels()
    assert len(labels) == 2
    assert "loss/total over" in labels[0]  # no value of loss/pair is a number
    assert "pace/hardness over" in labels[1]


@pytest.mark.parametrize("end", ['{"step": 30, "loss/late": 1', '{"step"', "7", ""])
def test_a_truncated_last_line_is_ignored(tmp_path, end):
    rows = [{"step": 10, "loss/total": 1.0}, {"step": 20, "loss/total": 0.1}]
    fill(tmp_path, rows=rows)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(end)
    page = Page(write_report(tmp_path))
    assert page.labels() == ["Losses: loss/total over steps"]


def test_losses_are_logarithmic_only_where_they_can_be(tmp_path):
    def ticks(values: list[float]) -> str:
        rows = [{"step": i, "loss/total": v} for i, v in enumerate(values)]
        fill(tmp_path, rows=rows)
        return Page(write_report(tmp_path)).text

    assert "0.001" in ticks([1.0, 0.5, 0.0005])
    assert "0.001" not in ticks([1.0, 0.5, 0.0])
    assert "40" in ticks([100.0, 1.0, -5.0])
    assert "0.4" in ticks([0.3, 0.5])  # less than a decade still has labels


def test_strips_stand_in_the_order_of_their_steps(tmp_path):
    strips = tmp_path / "strips"
    strips.mkdir()
    contents = {}
    for step, name in ((500, "000500"), (20, "000020"), (1000000, "1000000")):
        contents[step] = draw_strip(*np.full((2, 2, 5, 5, 3), step / 1e6))
        (strips / f"step_{name}.png").write_bytes(contents[step])
    (strips / "step_best.png").write_bytes(b"not one of them")
    page = Page(write_report(tmp_path))
    found = [attrs for tag, attrs in page.tags if tag == "img"]
    data = [base64.b64decode((a["src"] or "").split(",")[1]) for a in found]
    assert data == [contents[20], contents[500], contents[1000000]]
    assert [re.findall(r"\d+", a["alt"] or "")[0] for a in found] == [
        "20",
        "500",
        "1000000",
    ]


def test_of_many_strips_some_and_of_heavy_ones_small_pictures(tmp_path):
    strips = tmp_path / "strips"
    strips.mkdir()
    for step in range(100, 2100, 100):
        png = draw_strip(*np.full((2, 1, 4, 4, 1), step / 2100))
        (strips / f"step_{step:06d}.png").write_bytes(png)
    noise = np.random.default_rng(0).uniform(size=(2, 12, 224, 224, 3))
    (strips / "step_002100.png").write_bytes(draw_strip(*noise))
    path = write_report(tmp_path)
    page = Page(path)
    alts = [attrs["alt"] or "" for tag, attrs in page.tags if tag == "img"]
    assert [int(re.findall(r"\d+", alt)[0]) for alt in alts] == [
        100,
        500,
        900,
        1300,
        1700,
        2100,
    ]
    assert "6 of 21 evaluations" in page.text
    assert path.stat().st_size < 400_000 < (strips / "step_002100.png").stat().st_size


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [360, 900])
def test_a_browser_shows_it_without_errors_or_sideways_scrolling(tmp_path, width):
    strips = tmp_path / "strips"
    strips.mkdir()
    strip = draw_strip(*np.zeros((2, 12, 8, 8, 1)))
    (strips / "step_000001.png").write_bytes(strip)
    make_gallery(tmp_path / "gallery", labels="Long_tailed_albatross" * 3)
    config = {"path": "/home/" + "x" * 300}
    fill(tmp_path, rows=make_rows(), results=make_results(), config=config)
    names = ["Black_footed_Albatross_of_the_South", "dog", "X" * 60]
    (tmp_path / "model.json").write_text(json.dumps({"class_names": names}))
    page = write_report(tmp_path)
    # A frame may be narrower than the narrowest window; it tells its own measures.
    probe = (
        "<script>addEventListener('load', () => {"
        " const root = document.documentElement;"
        " const lost = [...document.images].filter(i => !i.naturalWidth).length;"
        " console.log(`measured ${innerWidth} ${root.scrollWidth} ${lost}`)})</script>"
    )
    policy = "default-src 'none'"
    text = page.read_text()
    assert policy in text
    text = text.replace(policy, f"{policy}; script-src 'unsafe-inline'", 1)
    page.write_text(text + probe)
    frame = f'<iframe src="report.html" width="{width}" height="4000"></iframe>'
    (tmp_path / "frame.html").write_text(frame)
    done = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            "--window-size=1200,4100",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--screenshot={tmp_path / 'page.png'}",
            (tmp_path / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    console = re.findall(r'CONSOLE.*?"(.*?)", source', done.stderr)
    assert console == [f"measured {width} {width} 0"], done.stderr


def test_text_is_escaped(tmp_path):
    evil = "<script>alert('x')</script>&\"$x_1$"
    make_gallery(tmp_path / "gallery", labels=evil, name=evil)
    fill(
        tmp_path,
        rows=[
            {"step": 1, f"loss/{evil}": 1.0, "loss/$y$": 1.0},
            {"step": 2, f"{evil}/k": 1.0},
        ],
        results={
            **make_results(),
            "protocol": evil,
            evil: evil,
            "versions": {evil: evil},
        },
        config={evil: evil},
    )
    page = Page(write_report(tmp_path))
    assert not any(tag == "script" for tag, _ in page.tags)
    assert page.labels()[0] == f"Losses: loss/{evil}, loss/$y$ over steps"
    assert "$y$" in page.text  # not set as mathematics
    assert page.text.count("<script>alert('x')</script>") >= 7
    assert "$x_1$" in page.text


def test_it_is_replaced_whole(tmp_path, monkeypatch):
    first = write_report(tmp_path)
    before = first.read_text()
    fill(tmp_path, results=make_results())

    def fail(*_):
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        patch.setattr("os.replace", fail)
        with pytest.raises(OSError, match="no space"):
            write_report(tmp_path)
    assert first.read_text() == before
    write_report(tmp_path)
    assert first.read_text() != before


@pytest.mark.parametrize(
    "name", ["config.json", "results.json", "model.json", "gallery/gallery.json"]
)
@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_broken_file_is_named_in_one_line(tmp_path, name, text):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name) as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)
