"""The report: complete in itself, tolerant of what is missing, safe to open."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from ssah_jax.run.report.gallery import Gallery, write_gallery
from ssah_jax.run.report.pictures import draw_picture, draw_strip
from ssah_jax.run.report.run_page import write_report

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
        "ndcg": 0.8125,
        "map_per_class": {
            "0": {
                "map": 0.61,
                "optimistic": 0.64,
                "pessimistic": 0.5925,
                "num_query": 40,
            },
            "1": {
                "map": None,
                "optimistic": None,
                "pessimistic": None,
                "num_query": 0,
            },
            "2": {
                "map": 0.83,
                "optimistic": 0.85,
                "pessimistic": 0.8,
                "num_query": 1060,
            },
        },
        "code_statistics": {
            "balance": [0.5, 0.875, 1.0],
            "entropy": 0.5145,
            "max_correlation": 0.25,
            "most_correlated": [0, 1],
            "constant_bits": [2],
            "num_codes": 1500,
            "num_distinct": 1234,
            "largest_share": 0.0425,
        },
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


def make_gallery(directory: Path, *, labels: str = "cat", name: str = "a.jpg") -> None:
    """Two queries; the worst one's nearest image has lost its picture."""

    def about(index: int) -> dict:
        picture = f"image_{index:06d}.png"
        return {"index": index, "id": name, "labels": [labels], "picture": picture}

    def near(index: int, *, distance: int, hit: bool) -> dict:
        return about(index) | {"distance": distance, "hit": hit}

    found = [near(11, distance=0, hit=True), near(12, distance=3, hit=False)]
    queries = [
        {"group": "worst", "average_precision": 0.125, **about(3)}
        | {"neighbours": [near(13, distance=7, hit=False)]},
        {"group": "best", "average_precision": 0.975, **about(2)}
        | {"neighbours": found},
    ]
    pictures = {
        index: draw_picture(np.full((4, 4, 1), index, np.uint8))
        for index in (2, 3, 11, 12)
    }
    write_gallery(directory, Gallery(queries, pictures))


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
        "Balance",
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
    make_gallery(tmp_path / "gallery")
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


def class_rows(page: Page) -> list[str]:
    """First and third cell of each row of the classes."""
    tables = re.findall(r'<table class="classes">.*?</table>', page.source, re.DOTALL)
    rows = re.findall(
        r'<tr><th scope="row">(.*?)</th><td>.*?</td><td[^>]*>(.*?)</td>',
        "".join(tables),
    )
    return [f"{name} {value}" for name, value in rows]


def test_classes_by_name_from_best_to_worst(tmp_path):
    fill(tmp_path, results=make_results())
    model = {"class_names": ["<b>cat</b>", "dog", "sky"]}
    (tmp_path / "model.json").write_text(json.dumps(model))
    page = Page(write_report(tmp_path))
    assert class_rows(page) == ["sky 0.830", "&lt;b&gt;cat&lt;/b&gt; 0.610"]
    assert "Without queries, so not shown: 1." in page.text
    assert "1,060" in page.text
    bars = [attrs for _, attrs in page.tags if attrs.get("class") == "track"]
    assert [bar["aria-label"] for bar in bars] == ["0.800 to 0.850", "0.593 to 0.640"]
    # Percents of the track: the bar spans the bounds, and the dot is the value.
    styles = [
        attrs["style"]
        for _, attrs in page.tags
        if attrs.get("class") in {"range", "dot"}
    ]
    assert styles[:2] == ["left:80.00%;width:5.00%", "left:83.00%"]
    assert styles[2:] == ["left:59.25%;width:4.75%", "left:61.00%"]


def test_classes_without_names(tmp_path):
    fill(tmp_path, results=make_results())
    page = Page(write_report(tmp_path))
    assert class_rows(page) == ["Class 2 0.830", "Class 0 0.610"]


@pytest.mark.parametrize("number", [40, 41, 200])
def test_of_many_classes_the_best_and_the_worst(tmp_path, number):
    values = np.random.default_rng(0).permutation(number) / number
    per_class = {
        str(i): {"map": v, "optimistic": v, "pessimistic": v, "num_query": 5}
        for i, v in enumerate(values.tolist())
    }
    fill(tmp_path, results={"map_per_class": per_class})
    page = Page(write_report(tmp_path))
    best = [f"Class {i} {values[i]:.3f}" for i in np.argsort(-values)]
    wanted = best if number <= 40 else best[:20] + best[-20:]
    assert class_rows(page) == wanted
    assert (f"{number} classes; shown are 20" in page.text) == (number > 40)


def test_statistics_of_the_codes(tmp_path):
    results = make_results()
    fill(tmp_path, results=results)
    page = Page(write_report(tmp_path))
    for shown in [
        "1,234 of 1,500 database images",
        "4.2%",
        "0.5145",
        "+1 in 100.0%, bit 2",
        "0.2500, bits 0 and 1 counted from 0",
        "1: 2",
    ]:
        assert shown in page.text
    results["code_statistics"] |= {"most_correlated": None, "constant_bits": []}
    fill(tmp_path, results=results)
    text = Page(write_report(tmp_path)).text
    assert "0.2500\n" in text and "Constant bitsnone" in text


def test_queries_are_shown_with_what_is_found(tmp_path):
    make_gallery(tmp_path / "gallery")
    page = Page(write_report(tmp_path))
    assert page.text.index("Best queries") < page.text.index("Worst queries")
    assert "Typical queries" not in page.text
    assert "AP 0.975" in page.text and "1 of 2 are hits" in page.text
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert [attrs["alt"] for attrs in pictures] == [
        "Query: cat, a.jpg",
        "1: hit, distance 0, cat, a.jpg",
        "2: miss, distance 3, cat, a.jpg",
        "Query: cat, a.jpg",
    ]
    shades = [
        round(255 * float(imread(io.BytesIO(data), format="png").ravel()[0]))
        for data in (
            base64.b64decode((attrs["src"] or "").split(",")[1]) for attrs in pictures
        )
    ]
    assert shades == [2, 11, 12, 3]
    assert "1: miss, distance 7, cat (no picture)" in page.text
    # Marked by a sign and the kind of frame, not by colour alone.
    items = [attrs["class"] for tag, attrs in page.tags if tag == "li"]
    assert items == ["hit", "miss", "miss"]
    assert page.text.count("✓ 0") == 1 and "✗ 3" in page.text and "✗ 7" in page.text
    assert ".hit img { border: 3px solid" in page.source
    assert ".miss img { border: 3px dashed" in page.source


def test_a_gallery_reaches_no_file_outside_it(tmp_path):
    make_gallery(tmp_path / "gallery")
    path = tmp_path / "gallery" / "gallery.json"
    (tmp_path / "secret.png").write_bytes(b"secret")
    path.write_text(path.read_text().replace("image_000002.png", "../secret.png"))
    assert (
        base64.b64encode(b"secret").decode() not in write_report(tmp_path).read_text()
    )


def test_long_series_are_thinned(tmp_path):
    sizes = []
    for number in (500, 5000):
        rng = np.random.default_rng(0)
        rows = [
            {"step": i, "loss/total": v}
            for i, v in enumerate(rng.uniform(size=number).tolist())
        ]
        fill(tmp_path, rows=rows)
        sizes.append(write_report(tmp_path).stat().st_size)
    assert sizes[1] < 1.2 * sizes[0]


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


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
    page.write_text(page.read_text() + probe)
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
