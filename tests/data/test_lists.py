"""Lists of images: everything that was written comes back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import content_of, image_lists, one_line, picture
from list_cases import TEST, TRAIN, write

from ssah_jax.data import lists
from ssah_jax.data.source import DataError

LABELLED = ("train", "test", "database")


@st.composite
def tables(draw):
    """Images, which lists they are in, which of them are absent."""
    num_classes = draw(st.integers(2, 4))
    stems = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["", "a/", "b c/", "0 1/"]),
                st.text("a 01é\udcff.\\,", max_size=6),
                st.sampled_from([".jpg", ".PNG", ".jpg 1.tif"]),
            ),
            min_size=2,
            max_size=8,
        )
    )
    paths = [f"{folder}x{stem}{i}{end}" for i, (folder, stem, end) in enumerate(stems)]
    bits = st.lists(st.integers(0, 1), min_size=num_classes, max_size=num_classes)
    one_hot = st.integers(0, num_classes - 1).map(
        lambda c: [int(c == i) for i in range(num_classes)]
    )
    row = one_hot if draw(st.booleans()) else bits
    labels = {path: draw(row) for path in paths}
    unlabelled = paths[draw(st.integers(2, len(paths))) :]
    known = paths[: len(paths) - len(unlabelled)]
    members = {
        part: draw(st.permutations(known))[: draw(st.integers(1, len(known)))]
        for part in LABELLED
    }
    if draw(st.booleans()):
        del members["database"]
    if unlabelled:
        members["unlabelled"] = unlabelled
    return members, labels


def encode(members, labels, draw):
    content_of_lists = {}
    for part, paths in members.items():
        text = draw(st.sampled_from(["", "\ufeff"]))
        for path in paths:
            text += draw(st.sampled_from(["", "", "\n", " \r\n"]))
            text += draw(st.sampled_from(["", "", " "])) + path
            if part != "unlabelled":
                for bit in labels[path]:
                    text += draw(st.sampled_from([" ", " ", " ", "\t", "  "]))
                    text += str(bit)
            text += draw(st.sampled_from(["", "", " "]))
            text += draw(st.sampled_from(["\n", "\r\n"]))
        content_of_lists[part] = text.encode("utf-8", "surrogateescape")
    return content_of_lists


@settings(deadline=None)
@given(tables(), st.data())
def test_lists_say_what_was_written(tmp_path_factory, table, data):
    members, labels = table
    used = list(dict.fromkeys(p for paths in members.values() for p in paths))
    directory = write(
        tmp_path_factory.mktemp("lists"),
        files=used,
        **encode(members, labels, data.draw),
    )
    listed = [
        path for part in members if part != "unlabelled" for path in members[part]
    ]
    counts = [sum(labels[path]) for path in listed]
    if max(counts) < 2 and not min(counts):
        with pytest.raises(DataError, match="found no label"):
            image_lists(directory)
        return
    source = image_lists(directory)

    assert list(source.images.names) == used
    expected = {
        part: {
            path: {str(c) for c, bit in enumerate(labels[path]) if bit}
            for path in paths
        }
        for part, paths in members.items()
    }
    for path in expected.get("unlabelled", {}):
        expected["unlabelled"][path] = set()
    assert content_of(source) == expected
    assert source.missing == ()
    assert source.multi_label == any(sum(labels[path]) > 1 for path in listed)


def test_images_are_decoded(tmp_path):
    colours = {"red one.png": (255, 0, 0), "green.png": (0, 255, 0)}
    (tmp_path / "store").mkdir()
    for name, colour in colours.items():
        picture(colour).save(tmp_path / "store" / name)
    (tmp_path / "lists").mkdir()
    write(
        tmp_path / "lists",
        files=(),
        train="green.png 0 1\n",
        test="red one.png 1 0\n",
    )
    source = image_lists(
        tmp_path / "lists", images="../store", size=4, class_names=("red", "green")
    )
    assert source.image_shape == (4, 4, 3)
    assert source.class_names == ("red", "green")
    assert not source.multi_label
    for index, name in enumerate(source.images.names):
        expected = np.broadcast_to(np.array(colours[name], np.uint8), (4, 4, 3))
        np.testing.assert_array_equal(source.images[index], expected)
    # By an absolute path as well, decoded as asked for.
    grey = lists.image_lists(
        tmp_path / "lists", images=str(tmp_path / "store"), channels=1, resize="squash"
    )
    assert grey.images.shape == (2, 6, 16, 1)
    squashed = image_lists(
        tmp_path / "lists", images="../store", size=2, resize="squash"
    )
    assert squashed.images.shape == (2, 2, 2, 3)
    assert np.all(squashed.images[0][:, 0, 2])


def test_absolute_paths(tmp_path):
    write(tmp_path / "images", files=["a.jpg", "b.jpg"])
    a, b = (tmp_path / "images" / name for name in ("a.jpg", "b.jpg"))
    directory = write(
        tmp_path / "lists", files=(), train=f"{a} 0 1\n", test=f"{b} 1 0\n"
    )
    assert image_lists(directory).images.names == (str(a), str(b))


def test_images_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path / "home/photos", files=["a.jpg", "b.jpg"])
    directory = write(tmp_path / "lists", files=(), train="a.jpg 0 1", test="b.jpg 1 0")
    assert len(image_lists(directory, images="~/photos")) == 2


def test_paths_without_suffix(tmp_path):
    files = ["one", "a b", "0", "1", "c 2"]
    directory = write(
        tmp_path,
        files=files,
        train="one 0 1\na b 1 0\n",
        test="0 1 0\n1 1  0\nc 2 0 1\n",
    )
    assert content_of(image_lists(directory)) == {
        "train": {"one": {"1"}, "a b": {"0"}},
        "test": {"0": {"0"}, "1": {"0"}, "c 2": {"1"}},
    }


@pytest.mark.parametrize(
    ("train", "test", "multi_label"),
    [
        ("a 0 1", "b 1 0", False),
        ("a 0 1", "b 1 1", True),
        ("a 1 1", "b 0 0", True),
        ("a 1 1", "b 1 0", True),
    ],
)
def test_multi_label(tmp_path, train, test, multi_label):
    directory = write(tmp_path, train=train, test=test, unlabelled="c.jpg")
    assert image_lists(directory).multi_label == multi_label


def test_256_labels_are_not_one(tmp_path):
    # Sums of uint8 would wrap.
    bits = " ".join("1" * 257)
    directory = write(tmp_path, train=f"a.jpg {bits}", test=f"b.jpg {bits}")
    assert image_lists(directory).multi_label


def missing_case(tmp_path):
    """10 images, of which 3 are absent; a folder does not count as one."""
    names = [f"{letter}.jpg" for letter in "abcdefghij"]
    rows = [f"{name} 0 1\n" for name in names]
    (tmp_path / "b.jpg").mkdir(parents=True)
    return write(
        tmp_path,
        files=[name for name in names if name not in ("b.jpg", "e.jpg", "g.jpg")],
        train="".join(rows[:4]),
        test="".join(rows[4:6]),
        database="".join(rows[6:9] + rows[:2]),
        unlabelled=names[9],
    )


def test_missing_images_are_left_out(tmp_path):
    source = image_lists(missing_case(tmp_path), max_missing=0.3)
    assert source.missing == ("b.jpg", "e.jpg", "g.jpg")
    assert content_of(source) == {
        "train": {"a.jpg": {"1"}, "c.jpg": {"1"}, "d.jpg": {"1"}},
        "test": {"f.jpg": {"1"}},
        "database": {"a.jpg": {"1"}, "h.jpg": {"1"}, "i.jpg": {"1"}},
        "unlabelled": {"j.jpg": set()},
    }
    assert source.images.names == tuple(f"{letter}.jpg" for letter in "acdfhij")


@pytest.mark.parametrize("max_missing", [0.0, 0.29])
def test_too_many_missing_images(tmp_path, max_missing):
    with pytest.raises(DataError) as error:
        image_lists(missing_case(tmp_path), max_missing=max_missing)
    assert one_line(error) == (
        f"{tmp_path}: found 3 of 10 listed images missing (first b.jpg), accepted is a "
        f"share of at most {max_missing}"
    )


def test_a_part_that_is_missing_altogether(tmp_path):
    write(tmp_path, files=["a.jpg", "b.jpg"], train=TRAIN, test=TEST)
    with pytest.raises(DataError) as error:
        image_lists(tmp_path, max_missing=1.0)
    assert one_line(error) == (
        f"{tmp_path}: found none of the 1 images of part 'test' below {tmp_path}, "
        "expected at least one"
    )


@pytest.mark.parametrize("max_missing", [-0.1, 1.1, float("nan")])
def test_max_missing_is_a_share(tmp_path, max_missing):
    write(tmp_path, train=TRAIN, test=TEST)
    with pytest.raises(ValueError) as error:
        image_lists(tmp_path, max_missing=max_missing)
    assert one_line(error) == (
        f"max_missing: found {max_missing}, expected a share, 0 to 1"
    )
