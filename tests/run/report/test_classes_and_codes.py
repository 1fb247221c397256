"""The report: classes, statistics, queries and strips."""

import base64
import io
import json
import re

import numpy as np
import pytest
from html_page import Page
from matplotlib.image import imread
from report_cases import fill, make_gallery, make_results

from ssah_jax.run.report.pictures import draw_strip
from ssah_jax.run.report.run_page import write_report


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
