"""Which queries are shown, what is found for them, and their pictures."""

import dataclasses
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ssah_jax.config import from_config_dict
from ssah_jax.data import DataError
from ssah_jax.run.evaluators import EncodedSets, Evaluator
from ssah_jax.run.experiment import prepare
from ssah_jax.run.report.gallery import (
    GROUPS,
    Answer,
    Gallery,
    Neighbour,
    answers,
    choose_queries,
    describe,
    nearest,
    write_gallery,
)
from ssah_jax.run.report.pictures import (
    SIDE,
    draw_missing,
    draw_picture,
    reduce_picture,
)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def different_codes(number: int) -> np.ndarray:
    return np.unpackbits(np.arange(number, dtype=np.uint8)[:, None], axis=1) > 0


def test_the_best_the_typical_and_the_worst():
    score = np.asarray([0.5, 0.9, 0.1, 0.7, 0.2, 0.95, 0.3, 0.52, 0.48])
    eligible = np.ones(9, bool)
    chosen = choose_queries(score, different_codes(9), eligible, number=2)
    assert list(chosen) == list(GROUPS) == ["best", "typical", "worst"]
    assert chosen == {"best": [5, 1], "typical": [0, 7], "worst": [2, 4]}
    eligible[[5, 2]] = False
    chosen = choose_queries(score, different_codes(9), eligible, number=2)
    assert chosen == {"best": [1, 3], "typical": [0, 7], "worst": [4, 6]}


def test_among_equals_the_first_query():
    chosen = choose_queries(np.full(9, 0.5), different_codes(9), np.ones(9, bool))
    assert chosen == {"best": [0, 1, 2], "worst": [3, 4, 5], "typical": [6, 7, 8]}


def test_of_queries_with_one_code_one_is_enough():
    score = np.asarray([1.0, 0.99, 0.98, 0.97, 0.6])
    codes = different_codes(5)[[0, 0, 0, 1, 2]]
    chosen = choose_queries(score, codes, np.ones(5, bool), number=2)
    assert chosen["best"] == [0, 3]
    # Unless there is no other.
    same = choose_queries(score, codes[[0] * 5], np.ones(5, bool), number=2)
    assert same == {"best": [0, 1], "worst": [4, 3], "typical": [2]}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.3, 1.0]), st.booleans()), max_size=20),
    st.integers(0, 4),
)
def test_no_query_twice_and_none_left_out_without_need(queries, number):
    score = np.asarray([score for score, _ in queries], float)
    eligible = np.asarray([may for _, may in queries], bool)
    codes = np.zeros((len(queries), 3), bool)
    codes[::2, 1] = True
    chosen = choose_queries(score, codes, eligible, number=number)
    rows = [row for group in chosen.values() for row in group]
    assert len(rows) == len(set(rows)) == min(3 * number, int(eligible.sum()))
    assert eligible[np.asarray(rows, int)].all()
    assert all(len(group) <= number for group in chosen.values())


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 30),
    st.integers(0, 12),
    st.integers(0, 2**32 - 1),
)
def test_the_nearest_are_exact_and_ties_in_database_order(bits, size, number, seed):
    rng = np.random.default_rng(seed)
    values = np.asarray([-1.5, -1e-9, 0.0, 2.0], np.float32)
    query, database = (rng.choice(values, (n, bits)) for n in (3, size))
    distances, rows = nearest(query, database, number=number)
    assert distances.shape == rows.shape == (3, min(number, size))
    for q in range(3):
        every = [
            (sum((a >= 0) != (b >= 0) for a, b in zip(query[q], item, strict=True)), i)
            for i, item in enumerate(database)
        ]
        found = list(zip(distances[q].tolist(), rows[q].tolist(), strict=True))
        assert found == sorted(every)[:number]


def test_distances_beyond_a_byte():
    far = np.ones((1, 300), np.float32)
    distances, _ = nearest(far, np.concatenate([-far, far]), number=2)
    assert distances.tolist() == [[0, 300]]


def make_sets():
    query_codes = np.asarray([[1, 1], [-1, -1], [1, -1]], np.float32)
    query_labels = np.asarray([[1, 0, 0], [0, 1, 1], [0, 0, 1]], np.float32)
    database_codes = np.asarray([[1, 1], [-1, 1], [-1, -1], [1, 1]], np.float32)
    database_labels = np.asarray(
        [[0, 1, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0]], np.float32
    )
    return query_codes, query_labels, database_codes, database_labels


def test_hits_share_a_label_and_the_unanswerable_are_not_shown():
    # Nothing in the database shows class 2, all that query 2 shows.
    shown = answers(*make_sets(), np.asarray([0.25, 0.75, 0.0]), number=1, neighbours=3)
    assert shown == (
        Answer(
            "best",
            1,
            0.75,
            (Neighbour(2, 0, True), Neighbour(1, 1, True), Neighbour(0, 2, True)),
        ),
        Answer(
            "worst",
            0,
            0.25,
            (Neighbour(0, 0, False), Neighbour(3, 0, True), Neighbour(1, 1, True)),
        ),
    )


def test_nothing_to_show():
    codes, labels, *database = make_sets()
    assert answers(codes, 0 * labels, *database, np.zeros(3)) == ()


def test_what_is_said_of_an_image():
    query_codes, query_labels, database_codes, database_labels = make_sets()
    shown = answers(
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        np.asarray([0.25, 0.75, 0.0]),
        number=1,
        neighbours=1,
    )
    given = dict(
        query=np.asarray([6, 4, 5]),
        database=np.asarray([0, 1, 2, 3]),
        labels=np.concatenate([database_labels, query_labels[[1, 2, 0]]]),
        class_names=("cat", "dog", "sky"),
    )
    best, worst = describe(shown, **given, names=["a", "b", "c\n", "d", "e", "f", "g"])
    assert best == {
        "group": "best",
        "average_precision": 0.75,
        "index": 4,
        "id": "e",
        "labels": ["dog", "sky"],
        "picture": "image_000004.png",
        "neighbours": [
            {
                "index": 2,
                "id": "c\\n",
                "labels": ["dog"],
                "picture": "image_000002.png",
                "distance": 0,
                "hit": True,
            }
        ],
    }
    assert worst["labels"] == ["cat"] and worst["neighbours"][0]["hit"] is False
    assert [q["id"] for q in describe(shown, **given)] == ["4", "6"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (5, 9), (1, 96), (47, 2)])
def test_small_images_are_enlarged_exactly(shape, channels):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, channels), np.uint8)
    factor = SIDE // max(shape)
    wanted = image.repeat(factor, axis=0).repeat(factor, axis=1)
    found = pixels(draw_picture(image))
    np.testing.assert_array_equal(found, np.broadcast_to(wanted, found.shape))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(224, 224), (64, 64), (97, 300), (1, 2000)])
def test_large_images_are_reduced_and_look_the_same(shape, channels):
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 255 / height, columns * 255 / width, rows * 0], -1)
    image = image[..., :channels].astype(np.uint8)
    png = draw_picture(image)
    found = pixels(png)
    share = min(1, SIDE / max(shape))
    assert found.shape[:2] == tuple(max(1, round(share * side)) for side in shape)
    middle = found[found.shape[0] // 2, found.shape[1] // 2]
    wanted = np.broadcast_to(image[height // 2, width // 2], 3)
    assert np.abs(middle.astype(int) - wanted).max() < 20
    # A quarter of a page's room for a hundred of them.
    assert len(png) < 12_000


def test_noise_in_colour_stays_small():
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    assert len(draw_picture(image)) < 12_000


@pytest.mark.parametrize("shape", [(4, 4, 2), (0, 4, 3)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match="image: found shape"):
        draw_picture(np.zeros(shape, np.uint8))


def test_a_lost_image_is_a_grey_square():
    found = pixels(draw_missing())
    assert found.shape == (SIDE, SIDE, 3)
    assert (found == 128).all()


def test_reducing_keeps_transparency_and_never_adds_bytes():
    canvas = np.random.default_rng(0).integers(0, 256, (40, 400, 4), np.uint8)
    canvas[..., 3] = 255
    canvas[:, 100:200, 3] = 0
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, "png")
    reduced = reduce_picture(file.getvalue(), longest=200)
    picture = Image.open(io.BytesIO(reduced)).convert("RGBA")
    assert picture.size == (200, 20)
    alpha = np.asarray(picture)[..., 3]
    assert (alpha[:, 55:95] == 0).all() and (alpha[:, 105:] >= 250).all()
    assert len(reduced) < len(file.getvalue())
    tiny = draw_picture(np.zeros((1, 1, 1), np.uint8))
    assert len(reduce_picture(tiny, longest=SIDE)) <= len(tiny)


def make_gallery(*indices: int) -> Gallery:
    queries = [{"picture": f"image_{index:06d}.png"} for index in indices]
    return Gallery(queries, {index: bytes([index]) for index in indices})


def test_a_gallery_replaces_the_one_before(tmp_path):
    directory = tmp_path / "gallery"
    write_gallery(directory, make_gallery(1, 2))
    (directory / "notes.png").write_bytes(b"a user's own")
    write_gallery(directory, make_gallery(2, 3))
    assert {path.name for path in directory.iterdir()} == {
        "gallery.json",
        "image_000002.png",
        "image_000003.png",
        "notes.png",
    }
    saved = json.loads((directory / "gallery.json").read_text())
    assert saved == {"queries": make_gallery(2, 3).queries}
    assert (directory / "image_000003.png").read_bytes() == b"\3"


def test_an_interrupted_gallery_leaves_the_old_one_whole(tmp_path, monkeypatch):
    directory = tmp_path / "gallery"
    write_gallery(directory, make_gallery(1, 2))
    from ssah_jax.run.report import gallery

    real = gallery.write_atomically

    def fail(path, content):
        if path.name == "gallery.json":
            raise OSError("no space")
        real(path, content)

    monkeypatch.setattr(gallery, "write_atomically", fail)
    with pytest.raises(OSError, match="no space"):
        write_gallery(directory, make_gallery(3))
    saved = json.loads((directory / "gallery.json").read_text())
    for query in saved["queries"]:
        assert (directory / query["picture"]).is_file()


def test_the_evaluator_shows_images_of_the_data_set_and_grey_for_lost_ones():
    experiment = prepare(
        from_config_dict({"data": {"num_queries": 50, "num_validation": 50}})
    )
    source, split = experiment.source, experiment.split
    rng = np.random.default_rng(0)
    encoded = EncodedSets(
        split.query,
        rng.normal(size=(len(split.query), 8)).astype(np.float32),
        split.database,
        rng.normal(size=(len(split.database), 8)).astype(np.float32),
    )

    class Lost:
        shape = source.images.shape

        def __len__(self):
            return len(source)

        def __getitem__(self, index):
            if index % 2:
                raise DataError(f"{index}: found damage, expected none")
            return source.images[index]

    lost = dataclasses.replace(source, images=Lost())
    shown = Evaluator(dataclasses.replace(experiment, source=lost)).draw_gallery(
        encoded
    )
    assert [query["group"] for query in shown.queries] == [
        group for group in GROUPS for _ in range(3)
    ]
    assert all(len(query["neighbours"]) == 10 for query in shown.queries)
    for index, png in shown.pictures.items():
        wanted = draw_missing() if index % 2 else draw_picture(source.images[index])
        assert png == wanted
    for query in shown.queries:
        assert query["index"] in split.query
        for near in query["neighbours"]:
            assert near["index"] in split.database
            shared = source.labels[query["index"]] * source.labels[near["index"]]
            assert near["hit"] == shared.any()
            assert {near["index"], query["index"]} <= shown.pictures.keys()
    values = [query["average_precision"] for query in shown.queries]
    assert min(values[:3]) >= max(values[3:6]) >= min(values[3:6]) >= max(values[6:])
