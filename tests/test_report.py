"""The report: complete in itself, tolerant of what is missing, safe to open."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from ssah_jax.report import draw_strip, write_report

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what the tests look at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.source = path.read_text()
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def labels(self) -> list[str]:
        return [
            attrs.get("aria-label") or "" for tag, attrs in self.tags if tag == "svg"
        ]


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
                "pace/accepted": 0.8,
                "monitor/gate_rate": 0.5,
                "images_per_second": 1000.0,
            }
        )
        if step % 50 == 0:
            rows.append({"step": step, "validation/map": step / 250})
    return rows


def make_results() -> dict:
    return {
        "map": 0.71234,
        "map_stable": 0.7,
        "map_optimistic": 0.75,
        "map_pessimistic": 0.65,
        "precision_at": {"100": 0.8, "500": 0.7},
        "pr_curve": {
            "radius": [0, 1, 2],
            "precision": [0.0, 0.9, 0.5],
            "recall": [0.0, 0.4, 1.0],
        },
        "precision_radius2": 0.6,
        "protocol": "digits_100",
        "bits": 16,
        "num_query": 100,
        "num_database": 1500,
        "num_labelled": 50,
        "seed": 12345,
        "steps": 200,
        "wall_seconds": 61.25,
        "versions": {"jax": "0.10.2"},
    }


def fill(workdir: Path, *, rows=None, results=None, config=None) -> None:
    if rows is not None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (workdir / "metrics.jsonl").write_text(text)
    if results is not None:
        (workdir / "results.json").write_text(json.dumps(results))
    if config is not None:
        (workdir / "config.json").write_text(json.dumps(config))


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
    ]
    # Threshold, hardness and accepted share stand in one picture.
    for key in ("pace/threshold", "pace/hardness", "pace/accepted"):
        assert key in page.labels()[1]
    for name in ("threshold", "hardness", "accepted", "total", "pair", "gate rate"):
        assert name in page.text
    metas = [attrs for tag, attrs in page.tags if tag == "meta"]
    assert any("width=device-width" in (m.get("content") or "") for m in metas)
    assert "prefers-color-scheme: dark" in page.source
    assert "max-width" in page.source


def test_nothing_is_loaded(tmp_path):
    strips = tmp_path / "strips"
    strips.mkdir()
    (strips / "step_000001.png").write_bytes(draw_strip(*np.zeros((2, 1, 4, 4, 1))))
    fill(tmp_path, rows=make_rows(), results=make_results(), config={})
    page = Page(write_report(tmp_path))
    assert "http" not in page.source
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


def test_text_is_escaped(tmp_path):
    evil = "<script>alert('x')</script>&\"$x_1$"
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


@pytest.mark.parametrize("name", ["config.json", "results.json"])
@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_broken_file_is_named_in_one_line(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name) as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(28, 28), (5, 9), (120, 130)])
def test_a_strip_shows_every_pixel(channels, shape):
    rng = np.random.default_rng(0)
    images = rng.uniform(-0.2, 1.2, (3, *shape, channels)).astype(np.float32)
    generated = rng.uniform(0, 1, (3, *shape, channels)).astype(np.float32)
    png = imread(io.BytesIO(draw_strip(images, generated)), format="png")
    height, width = shape
    factor = max(1, 96 // max(shape))
    assert png.shape == (2 * factor * height + 4, 3 * factor * width + 8, 4)
    for row, batch in enumerate((images, generated)):
        for column in range(3):
            for y, x in ((0, 0), (height - 1, width - 1), (height // 2, 1)):
                top = row * (factor * height + 4) + factor * y
                left = column * (factor * width + 4) + factor * x
                cell = png[top : top + factor, left : left + factor]
                want = np.broadcast_to(np.clip(batch[column, y, x], 0, 1), 3)
                np.testing.assert_allclose(
                    cell[..., :3] - want, np.zeros_like(cell[..., :3]), atol=0.51 / 255
                )
                assert (cell[..., 3] == 1).all()
    assert (png[factor * height : factor * height + 4, :, 3] == 0).all()


@pytest.mark.parametrize("shape", [(0, 4, 4, 1), (2, 4, 4, 2)])
def test_a_strip_of_nothing_is_refused(shape):
    with pytest.raises(ValueError, match="images: found shape"):
        draw_strip(np.zeros(shape), np.zeros(shape))
