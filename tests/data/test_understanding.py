"""What was understood of a data set: what is told, and what is refused."""

import dataclasses

import numpy as np
import pytest

from ssah_jax.data.naming import look_alikes, part_of, twin_numbers
from ssah_jax.data.near_copies import fingerprint, nearest_copies
from ssah_jax.data.source import DataError, Source
from ssah_jax.data.splitting import make_split
from ssah_jax.data.understanding import find_unanswerable, understand


def source_of(classes, *, parts=None, multi_label=False, names=None, **fields):
    """Of images that show the classes given for each, as letters."""
    names = names or sorted({letter for shown in classes for letter in shown})
    labels = np.zeros((len(classes), len(names)), np.float32)
    for row, shown in enumerate(classes):
        for letter in shown:
            labels[row, names.index(letter)] = 1
    parts = parts or {"all": len(classes)}
    start, indices = 0, {}
    for part, size in parts.items():
        indices[part] = np.arange(start, start + size)
        start += size
    return Source(
        name="some",
        images=np.zeros((len(classes), 4, 4, 3), np.uint8),
        labels=labels,
        parts=indices,
        class_names=tuple(names),
        multi_label=multi_label,
        **fields,
    )


def split_of(source, protocol="official", **numbers):
    numbers = {"labels_per_class": 0, "num_queries": 0, "num_validation": 0} | numbers
    return make_split(source, protocol=protocol, seed=0, **numbers)


def test_what_is_told():
    source = source_of(
        "aaaaabbbbccdefgh" + "ab" * 3,
        parts={"train": 16, "test": 6},
        passed_over={"@eaDir": 3, ".txt": 1, ".heic": 0, ".nef": 2},
        notes=("2 further names of the same files",),
        missing=("x.jpg",),
    )
    told = understand(source, split_of(source))
    assert list(told.lines()) == [
        "some: 22 images (train 16, test 6) of 8 classes: a 8, b 7, c 2, d 1, ..., "
        "g 1, h 1",
        "passed over: 2 .nef (convert them), 3 @eaDir, 1 .txt, 0 .heic; 1 listed "
        "images are not there; 2 further names of the same files",
        "protocol official: query 6, validation 0, labelled 16, unlabelled 0, "
        "database 16",
        "warning: 5 classes have one image alone: d, e, f, g, h",
    ]
    kept = told.to_json()
    assert kept["class_sizes"] == {
        **{"a": 8, "b": 7, "c": 2},
        **dict.fromkeys("defgh", 1),
    }
    assert kept["roles"]["query"] == 6
    assert kept["num_missing"] == 1


@pytest.mark.parametrize(
    ("classes", "fields", "message"),
    [
        (
            "aaaa",
            {},
            "some: found 1 classes with images in 4 images, expected at least",
        ),
        (
            "aaaa",
            {"names": ["a", "b"]},
            "some: found 1 classes with images in 4 images, expected at least 2",
        ),
        (
            "abcdefg",
            {},
            "some: found 7 classes (a, b, c, d, e, ...) and no two images of one class",
        ),
        ("aabA", {}, "some: found the class names 'A' and 'a', which differ only in"),
        (
            [["train"], ["train"], ["query"], ["retrieval"]],
            {"names": ["train", "query", "retrieval"]},
            "some: found the classes train, query, retrieval, which are the parts of a",
        ),
    ],
)
def test_what_can_only_be_a_mistake(classes, fields, message):
    with pytest.raises(DataError) as error:
        understand(source_of(classes, **fields))
    assert str(error.value).startswith(message)


def test_a_test_class_that_nobody_trains():
    source = source_of("aabb" + "abc", parts={"train": 4, "test": 3})
    with pytest.raises(DataError) as error:
        understand(source, split_of(source))
    assert str(error.value) == (
        "some: found 1 queries of 1 classes that no image outside of the test part "
        "shows (c), expected queries of classes that are trained or searched; is a "
        "name spelled in another way?"
    )
    # Retrieval of classes that are searched and not trained is a field of its own.
    source = source_of(
        "aabb" + "abc" + "cc", parts={"train": 4, "test": 3, "database": 2}
    )
    told = understand(source, split_of(source, "listed"))
    assert told.num_unanswerable == 2
    assert any(
        "1 classes of queries have no labelled image" in w for w in told.warnings
    )


def test_queries_that_nothing_answers():
    source = source_of(
        ["a", "ab", "b", "", "a", "c", "", "bc"],
        parts={"train": 4, "test": 4},
        multi_label=True,
    )
    split = split_of(source)
    told = understand(source, split)
    assert told.num_unanswerable == 2
    assert (
        "2 of 4 queries share no class with any database image (first image 5); they "
        "count 0 in mAP, as in most published tables"
    ) in told.warnings
    assert (
        "2 images show none of the classes (1 in train, 1 in test): nothing answers "
        "them, and they answer nothing"
    ) in told.warnings
    labels = source.labels
    expected = [
        not any((labels[q] * labels[i]).any() for i in split.database)
        for q in split.query
    ]
    found = find_unanswerable(labels[split.query], labels[split.database])
    assert found.tolist() == expected
    none = source_of(
        ["a", "a", "b", "b"], parts={"train": 2, "test": 2}, multi_label=True
    )
    with pytest.raises(DataError, match="found no query of 2 that shares a class"):
        understand(none, split_of(none))


def test_an_official_split_that_is_drawn_anew_is_warned_of():
    source = source_of("aabb" * 3, parts={"train": 8, "test": 4})
    told = understand(source, split_of(source, "pooled", num_queries=2))
    assert any("draws anew from all; data.protocol=listed" in w for w in told.warnings)
    assert understand(source, split_of(source)).warnings == ()
    source = source_of("aabb" * 3, parts={"database": 8, "test": 4})
    told = understand(source, split_of(source, "pooled", num_queries=2))
    assert any(w.endswith("once it has a part train too") for w in told.warnings)


def test_names_of_a_table_that_may_be_several_tags():
    names = ["sea,sand", "sea,rock", "rock"]
    source = source_of("abc" * 2, names=["a", "b", "c"])
    for name, told in (("table", True), ("folder", False)):
        other = dataclasses.replace(source, class_names=tuple(names), name=name)
        warnings = understand(other, split_of(other, "pooled", num_queries=2)).warnings
        assert any("data.separator=',' takes them apart" in w for w in warnings) is told


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["cafe", "caf\u00e9", "dog"], [("cafe", "caf\u00e9")]),
        (["red car", "red_car", "Red-Cars"], [("red car", "red_car", "Red-Cars")]),
        (["sea", "s\u0435a"], [("sea", "s\u0435a")]),
        (["3", "13", "cat", "bat", "as", "a"], []),
    ],
)
def test_names_that_look_alike(names, groups):
    assert look_alikes(names) == groups


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *[("train", "train"), ("Training_Set", "train"), ("seg_train", "train")],
        *[("val2017", "validation"), ("Query", "test"), ("test-images", "test")],
        *[
            ("gallery", "database"),
            ("retrieval", "database"),
            (" Unlabeled ", "unlabelled"),
        ],
        *[
            ("train station", None),
            ("art_gallery", None),
            ("trainer", None),
            ("3", None),
        ],
        ("images", None),
    ],
)
def test_words_for_parts(name, part):
    assert part_of(name) == part


def photograph(key):
    """Blobs of random places, sizes and colours: not noise, and never alike."""
    rng = np.random.default_rng(key)
    y, x = np.mgrid[:48, :48] / 48
    image = np.zeros((48, 48, 3))
    for _ in range(6):
        (u, v), width = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.3)
        blob = np.exp(-((x - u) ** 2 + (y - v) ** 2) / width**2)
        image += blob[:, :, None] * rng.uniform(-1, 1, 3)
    image = (image - image.min()) / np.ptp(image)
    return (image * 255).astype(np.uint8)


def test_near_copies_are_found_and_nothing_else():
    images = [photograph(key) for key in range(40)]
    rng = np.random.default_rng(0)
    noisy = np.clip(images[3] + rng.normal(0, 4, (48, 48, 3)), 0, 255).astype(np.uint8)
    smaller = images[7].reshape(24, 2, 24, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    even = np.full((48, 48, 3), 7, np.uint8)
    queries = [noisy, images[5], smaller, images[9][1:, 1:], photograph(99), even]
    prints = [fingerprint(image) for image in [*images, even]]
    asked = [fingerprint(image) for image in queries]
    found = nearest_copies(
        np.stack([p.bits for p in asked]),
        np.stack([p.thumbnail for p in asked]),
        np.stack([p.bits for p in prints]),
        np.stack([p.thumbnail for p in prints]),
    )
    assert found.tolist() == [3, 5, 7, 9, -1, -1]
    grey = fingerprint(images[0][:, :, :1])
    assert grey.thumbnail.shape == (256,)


def test_one_number_in_two_spellings_is_no_two_classes():
    assert twin_numbers(["1", "2", "10", "01"]) == ()
    assert twin_numbers(["2", "1.0", "1"]) == ("1.0", "1")
    source = source_of("aabbcc", names=["a", "b", "c"])
    source = dataclasses.replace(source, class_names=("1", "1.0", "2"))
    with pytest.raises(DataError, match=r"names '1' and '1\.0', one number written"):
        understand(source)


@pytest.mark.parametrize(
    ("names", "warning"),
    [
        (("cat", "nan", "owl"), "classes called nan: if that is how a table writes an"),
        (("sea", "sea sand", "sand"), "class names made of others: sea sand; data.sep"),
        (("dog", "hot dog", "none of these"), None),
    ],
)
def test_names_that_are_probably_none(names, warning):
    source = source_of("aabbcc", names=["a", "b", "c"])
    told = understand(dataclasses.replace(source, class_names=names))
    assert [w[: len(warning or "")] for w in told.warnings] == [warning] * bool(warning)
