"""Class folders: everything that was stored comes back, and only once."""

import os

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from image_files import image_folder, one_line, picture, touch

from ssah_jax.data import folder
from ssah_jax.data.finding import describe_passed_over
from ssah_jax.data.source import DataError


def content_of(source):
    """For each part, its images with their class, or None."""
    content = {}
    for part, indices in source.parts.items():
        content[part] = {}
        for index in indices:
            classes = np.flatnonzero(source.labels[index])
            assert len(classes) == (part != "unlabelled")
            name = source.class_names[classes[0]] if len(classes) else None
            content[part][source.images.names[index]] = name
    return content


CLASSES = ("Bus", "a b", "cat", "été", "zebra")
inside = st.lists(
    st.sampled_from(["1.jpg", "2.PNG", "x/3.jpeg", "x/y z/4.gif", "cat/5.tif"]),
    min_size=1,
    max_size=3,
    unique=True,
)
classes_and_images = st.dictionaries(
    st.sampled_from(CLASSES), inside, min_size=1, max_size=4
)


@st.composite
def trees(draw):
    """What is stored: the content by part, and the names of the folders of parts."""
    folders = {}
    if draw(st.booleans()):
        folders["train"] = draw(st.sampled_from(["train", "Train"]))
        folders["test"] = draw(st.sampled_from(["test", "val", "validation", "TEST"]))
        if draw(st.booleans()):
            folders["database"] = "database"
    else:
        folders["all"] = ""
    content = {}
    for part, name in folders.items():
        prefix = f"{name}/" if name else ""
        content[part] = {
            f"{prefix}{label}/{image}": label
            for label, images in draw(classes_and_images).items()
            for image in images
        }
    if draw(st.booleans()):
        name = draw(st.sampled_from(["unlabelled", "unlabeled", "Unlabelled"]))
        content["unlabelled"] = {f"{name}/{image}": None for image in draw(inside)}
    return content


def holds_alike(content):
    """Whether all class folders hold the same folders alone, as parts of a split do."""
    inside = {}
    for name in content.get("all", ()):
        label, *middle, _ = name.split("/")
        inside.setdefault(label, set()).add(middle[0] if middle else None)
    first, *others = inside.values() or [set()]
    return others and None not in first and all(each == first for each in others)


@settings(deadline=None)
@given(trees(), st.booleans())
def test_source_says_what_was_stored(tmp_path_factory, content, with_others):
    assume(not holds_alike(content))
    path = tmp_path_factory.mktemp("folder")
    for images in content.values():
        touch(path, *images)
    if with_others:
        touch(path, "README.txt", ".hidden/cat.jpg", ".cat.jpg")
    labels = {label for images in content.values() for label in images.values()}
    labels = sorted(labels - {None})
    if len(labels) < 2:
        with pytest.raises(DataError, match=f"found 1 classes \\({labels[0]}\\)"):
            image_folder(path)
        return

    source = image_folder(path)
    assert source.class_names == tuple(labels)
    assert not source.multi_label
    assert source.missing == ()
    assert content_of(source) == content
    # A pool without repeats, of the parts one after another, each sorted.
    names = source.images.names
    assert len(set(names)) == len(names) == sum(map(len, content.values()))
    np.testing.assert_array_equal(
        np.concatenate(list(source.parts.values())), np.arange(len(names))
    )
    for part, indices in source.parts.items():
        order = [(content[part][names[index]] or "", names[index]) for index in indices]
        assert order == sorted(order, key=lambda key: (key[0], os.fsencode(key[1])))


def test_images_are_decoded(tmp_path):
    colours = {"b/red.png": (255, 0, 0), "a/green.png": (0, 255, 0)}
    for name, colour in colours.items():
        (tmp_path / name).parent.mkdir()
        picture(colour).save(tmp_path / name)
    source = image_folder(str(tmp_path))
    assert source.image_shape == (4, 4, 3)
    assert content_of(source) == {"all": {"a/green.png": "a", "b/red.png": "b"}}
    for index, name in enumerate(source.images.names):
        expected = np.broadcast_to(np.array(colours[name], np.uint8), (4, 4, 3))
        np.testing.assert_array_equal(source.images[index], expected)
    assert folder.image_folder(tmp_path, channels=1).images.shape == (2, 6, 16, 1)
    squashed = image_folder(tmp_path, size=2, resize="squash")
    assert squashed.images.shape == (2, 2, 2, 3)
    assert np.all(squashed.images[0][:, 0, 2])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # A part's name beside other classes is a class.
        (
            ["train/1.jpg", "bus/2.jpg"],
            {"all": {"train/1.jpg": "train", "bus/2.jpg": "bus"}},
        ),
        (
            ["train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg", "val/c/4.jpg"],
            {
                "train": {"train/a/1.jpg": "a", "train/b/2.jpg": "b"},
                "test": {"test/a/3.jpg": "a"},
                "validation": {"val/c/4.jpg": "c"},
            },
        ),
        # Other words for parts, and folders of something else.
        (
            ["Train_Images/a/1.jpg", "queries/b/2.jpg", "gallery/a/3.jpg", "xml/a.xml"],
            {
                "train": {"Train_Images/a/1.jpg": "a"},
                "test": {"queries/b/2.jpg": "b"},
                "database": {"gallery/a/3.jpg": "a"},
            },
        ),
        # Both spellings.
        (
            ["a/1.jpg", "b/2.jpg", "unlabelled/3.jpg", "unlabeled/x/4.jpg"],
            {
                "all": {"a/1.jpg": "a", "b/2.jpg": "b"},
                "unlabelled": {"unlabelled/3.jpg": None, "unlabeled/x/4.jpg": None},
            },
        ),
        # A class of one part alone, and one called unlabelled.
        (
            ["train/a/1.jpg", "train/unlabelled/2.jpg", "test/c/3.jpg"],
            {
                "train": {"train/a/1.jpg": "a", "train/unlabelled/2.jpg": "unlabelled"},
                "test": {"test/c/3.jpg": "c"},
            },
        ),
    ],
)
def test_layouts(tmp_path, names, expected):
    source = image_folder(touch(tmp_path, *names))
    assert content_of(source) == expected
    assert list(source.class_names) == sorted(
        {label for part in expected.values() for label in part.values() if label}
    )


def test_class_names_can_be_written(tmp_path):
    touch(tmp_path, "caf\udce9/1.jpg", "two\nlines/\udce9.jpg")
    source = image_folder(tmp_path)
    assert source.class_names == ("caf\\udce9", "two\\nlines")
    assert source.images.names == ("caf\udce9/1.jpg", "two\nlines/\udce9.jpg")


@pytest.mark.parametrize(
    ("names", "labels", "aside"),
    [
        (["b.jpg", "a.PNG", "c.txt", ".x/d.jpg"], "auto", {".txt": 1, "hidden": 1}),
        (["unlabelled/x/1.jpg", "NoLabel/2.jpg", "3.jpg"], "auto", {}),
        (["2019/05/1.jpg", "2020/2.jpg", "3.jpg"], "none", {}),
        (["train/a/1.jpg", "test/b/2.jpg"], "none", {}),
    ],
)
def test_images_without_labels(tmp_path, names, labels, aside):
    source = image_folder(touch(tmp_path, *names), labels=labels)
    images = [name for name in names if name not in ("c.txt", ".x/d.jpg")]
    assert content_of(source) == {"unlabelled": dict.fromkeys(images)}
    assert (source.class_names, source.labels.shape) == ((), (len(images), 0))
    assert not source.multi_label and source.passed_over == aside


def test_linked_classes(tmp_path):
    touch(tmp_path / "store", "1.jpg", "2.jpg")
    touch(tmp_path / "photos", "a/1.jpg")
    (tmp_path / "photos" / "b").symlink_to(tmp_path / "store")
    (tmp_path / "photos" / "c").symlink_to(tmp_path / "nowhere")
    assert content_of(image_folder(tmp_path / "photos")) == {
        "all": {"a/1.jpg": "a", "b/1.jpg": "b", "b/2.jpg": "b"}
    }


def test_what_is_passed_over_is_counted(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", "c/1.txt", "b/empty/", "d/")
    touch(
        tmp_path, "@eaDir/x/1.jpg", "a/@eaDir/1.jpg", "lost+found/", "b/__MACOSX/1.jpg"
    )
    touch(tmp_path, "a/._1.jpg", ".thumbnails/1.jpg", "a/Thumbs.db", "b/x.NEF", "b/x")
    (tmp_path / "a/gone.jpg").symlink_to(tmp_path / "nowhere")
    source = image_folder(tmp_path)
    assert content_of(source) == {
        "all": {"a/1.jpg": "a", "a/2.jpg": "a", "b/1.jpg": "b"}
    }
    assert source.passed_over == {
        "@eaDir": 2,
        "hidden": 2,
        "folders without images": 2,
        "lost+found": 1,
        "__MACOSX": 1,
        "Thumbs.db": 1,
        ".nef": 1,
        ".txt": 1,
        "without a suffix": 1,
        "empty folders": 1,
        "links that lead nowhere": 1,
    }
    assert describe_passed_over(source.passed_over).startswith(
        "1 .nef (convert them), 2 @eaDir, 2 folders without images, 2 hidden, "
    )


def test_a_file_by_two_names_is_one_image(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/b/3.jpg", "test/a/5.jpg")
    touch(tmp_path, "gallery/b/4.jpg", "unlabelled/")
    (tmp_path / "train/a/again.jpg").symlink_to(tmp_path / "train/a/1.jpg")
    os.link(tmp_path / "train/b/2.jpg", tmp_path / "gallery/b/other.jpg")
    os.link(tmp_path / "test/a/5.jpg", tmp_path / "unlabelled/5.jpg")
    source = image_folder(tmp_path)
    assert content_of(source) == {
        "train": {"train/a/1.jpg": "a", "train/b/2.jpg": "b"},
        "test": {"test/b/3.jpg": "b", "test/a/5.jpg": "a"},
        "database": {"train/b/2.jpg": "b", "gallery/b/4.jpg": "b"},
    }
    assert "3 further names of the same files" in source.notes
    os.link(tmp_path / "train/b/2.jpg", tmp_path / "test/a/2.jpg")
    with pytest.raises(DataError) as error:
        image_folder(tmp_path)
    assert "found one file by two names, train/b/2.jpg and test/a/2.jpg" in one_line(
        error
    )


def test_copies_in_the_database_are_the_images_of_the_other_parts(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "query/b/3.jpg")
    touch(tmp_path, "retrieval/a/1.jpg", "retrieval/b/2.jpg", "retrieval/b/9.jpg")
    for part in ("train", "retrieval"):
        (tmp_path / part / "a/1.jpg").write_bytes(b"the same")
    (tmp_path / "train/b/2.jpg").write_bytes(b"one")
    (tmp_path / "retrieval/b/2.jpg").write_bytes(b"another")
    source = image_folder(tmp_path)
    assert content_of(source)["database"] == {
        "train/a/1.jpg": "a",
        "retrieval/b/2.jpg": "b",
        "retrieval/b/9.jpg": "b",
    }
    assert "1 copies in retrieval/ of others" in source.notes


def test_folders_that_all_hold_the_same_folders(tmp_path):
    """Parts of a split by words that nobody knows; or views of each class."""
    split = [f"{fold}/{name}/1.png" for fold in ("f1", "f2") for name in ("cat", "dog")]
    touch(tmp_path / "split", *split)
    with pytest.raises(DataError, match=r"same folders \(cat, dog\) in each of \(f1,"):
        folder.image_folder(tmp_path / "split")
    views = [f"{name}/{view}/1.png" for name in "abc" for view in ("front", "side")]
    touch(tmp_path / "views", *views)
    found = folder.image_folder(tmp_path / "views", size=8)
    assert found.class_names == ("a", "b", "c")
    assert found.notes == (
        "the same folders (front, side) in each of (a, b, c): these are taken for the "
        "classes",
    )
    touch(tmp_path / "views", "c/loose.png")
    assert folder.image_folder(tmp_path / "views", size=8).notes == ()
