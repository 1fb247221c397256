"""NUS-WIDE: the loader, against what was drawn on the disk."""

import shutil

import numpy as np
import pytest
import tree_nus_wide
from nus_wide_cases import NAMES, expected, official
from PIL import Image

from ssah_jax.data import synthetic
from ssah_jax.data.nus_wide import (
    CONCEPTS,
    FREQUENT_CONCEPTS,
    nus_wide_source,
    read_listing,
)
from ssah_jax.data.source import DataError

LABELS = "Groundtruth/AllLabels/Labels_sky.txt"


LIST = "ImageList/Imagelist.txt"


def images_of(drawn, rows):
    return [
        np.asarray(Image.open(drawn.path / "Flickr" / drawn.names[row])) for row in rows
    ]


@pytest.mark.parametrize("concepts", [21, 81])
def test_source_is_what_was_drawn(drawn, concepts):
    source = nus_wide_source(drawn.path, concepts=concepts)
    rows, labels = expected(drawn, concepts)

    assert source.multi_label
    assert source.class_names == NAMES[concepts]
    np.testing.assert_array_equal(source.labels, np.array(labels, np.float32))
    assert sorted(source.parts) == ["all", "test", "train"]
    assert source.parts["all"].tolist() == list(range(len(rows)))
    for part in ("train", "test"):
        assert source.parts[part].tolist() == official(drawn, rows, part)
    assert source.missing == tuple(drawn.names[row] for row in drawn.missing)
    assert source.image_shape == (16, 16, 3)
    for index, image in enumerate(images_of(drawn, rows)):
        np.testing.assert_array_equal(source.images[index], image)


def test_frequent_concepts_leave_images_out(drawn):
    few, _ = expected(drawn, 21)
    more, _ = expected(drawn, 81)
    assert len(few) < len(more) < len(drawn.names) - len(drawn.missing)


def test_concept_names():
    assert len(CONCEPTS) == 81
    assert sorted(set(CONCEPTS)) == list(CONCEPTS)
    assert len(FREQUENT_CONCEPTS) == 21
    frequent = set(FREQUENT_CONCEPTS)
    assert sorted(frequent) == list(FREQUENT_CONCEPTS)
    assert frequent < set(CONCEPTS)


def test_images_are_resized_and_grey(drawn):
    source = nus_wide_source(drawn.path, size=8, resize="squash", channels=1)
    assert source.image_shape == (8, 8, 1)


def test_drawing_is_repeatable(drawn, tmp_path):
    tree_nus_wide.draw(tmp_path, num_images=60, seed=3, image_size=16, missing=2)
    files = sorted(file.relative_to(drawn.path) for file in drawn.path.rglob("*.*"))
    assert files == sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*.*"))
    for file in files:
        assert (tmp_path / file).read_bytes() == (drawn.path / file).read_bytes()


def test_drawing_keeps_images_with_their_labels(drawn):
    images, labels = synthetic.generate(
        seed=3,
        part="all",
        num_images=60,
        num_classes=21,
        image_size=16,
        channels=3,
        multi_label=True,
    )
    columns = [CONCEPTS.index(name) for name in NAMES[21]]
    frequent = 0
    for image, bits in zip(drawn.images, drawn.labels[:, columns], strict=True):
        (row,) = np.flatnonzero((images == image).all(axis=(1, 2, 3)))
        if bits.any():
            np.testing.assert_array_equal(bits, labels[row])
            frequent += 1
    assert frequent == 48


# Other places and names of the same files.


def flat_images(tree, drawn):
    (tree / "images").mkdir()
    for file in sorted((tree / "Flickr").rglob("*.jpg")):
        file.rename(tree / "images" / file.name)
    shutil.rmtree(tree / "Flickr")
    return [name.split("/")[1] for name in drawn.names]


def images_by_flickr_id(tree, drawn):
    names = [name.split("_")[-1] for name in flat_images(tree, drawn)]
    for file in sorted((tree / "images").iterdir()):
        file.rename(file.with_name(file.name.split("_")[-1]))
    return names


def folders_in_image(tree, drawn):
    (tree / "Flickr").rename(tree / "image")
    return drawn.names


def lists_and_labels_at_the_top(tree, drawn):
    for file in sorted((tree / "ImageList").iterdir()):
        file.rename(tree / file.name)
    (tree / "Groundtruth" / "AllLabels").rename(tree / "AllLabels")
    shutil.rmtree(tree / "Groundtruth")
    return drawn.names


def other_case(tree, drawn):
    (tree / "ImageList" / "Imagelist.txt").rename(tree / "ImageList" / "ImageList.txt")
    (tree / "Groundtruth").rename(tree / "GroundTruth")
    (tree / "Flickr").rename(tree / "flickr")
    return drawn.names


def dos_lines(tree, drawn):
    for file in sorted([*tree.rglob("Labels_*.txt"), *tree.rglob("*list.txt")]):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    return drawn.names


def blanks(tree, drawn):
    for file in sorted((tree / "Groundtruth" / "AllLabels").iterdir()):
        file.write_bytes(file.read_bytes().replace(b"\n", b" \n") + b"\n\n")
    return drawn.names


def no_last_newline(tree, drawn):
    for file in sorted([*tree.rglob("Labels_*.txt"), *tree.rglob("*list.txt")]):
        file.write_bytes(file.read_bytes().rstrip())
    return drawn.names


def only_what_is_read(tree, drawn):
    shutil.rmtree(tree / "Groundtruth" / "TrainTestLabels")
    shutil.rmtree(tree / "ConceptsList")
    return drawn.names


@pytest.mark.parametrize(
    "change",
    [
        flat_images,
        images_by_flickr_id,
        folders_in_image,
        lists_and_labels_at_the_top,
        other_case,
        dos_lines,
        blanks,
        no_last_newline,
        only_what_is_read,
    ],
)
def test_same_data_in_another_layout(drawn, tree, change):
    names = change(tree, drawn)
    listing = read_listing(tree)
    rows, labels = expected(drawn, 21)
    assert listing.names == tuple(names[row] for row in rows)
    assert listing.missing == tuple(names[row] for row in drawn.missing)
    np.testing.assert_array_equal(listing.labels, labels)
    assert listing.parts["train"].tolist() == official(drawn, rows, "train")
    for index, image in enumerate(images_of(drawn, rows)):
        found = np.asarray(Image.open(listing.root / listing.names[index]))
        np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("place", ["pictures/all", "."])
def test_images_in_a_folder_of_their_own(drawn, tree, place):
    if place == ".":
        for folder in sorted((tree / "Flickr").iterdir()):
            folder.rename(tree / folder.name)
    else:
        (tree / "pictures").mkdir()
        (tree / "Flickr").rename(tree / place)
    source = nus_wide_source(tree, images=place)
    rows, _ = expected(drawn, 21)
    np.testing.assert_array_equal(source.images[5], images_of(drawn, rows[5:6])[0])


@pytest.mark.parametrize(
    "absent",
    [["Train", "Test"], ["Train"], ["Test"]],
    ids=lambda names: "+".join(names),
)
def test_no_official_parts_without_both_lists(tree, absent):
    for name in absent:
        (tree / "ImageList" / f"{name}Imagelist.txt").unlink()
    assert sorted(read_listing(tree).parts) == ["all"]


def test_labels_of_other_concepts_are_not_needed(drawn, tree):
    (tree / "Groundtruth/AllLabels/Labels_zebra.txt").unlink()
    rows, _ = expected(drawn, 21)
    assert len(read_listing(tree).names) == len(rows)
    with pytest.raises(DataError, match=r"Labels_zebra.txt: found no such file"):
        read_listing(tree, concepts=81)


def test_missing_images_are_counted_against_the_share(drawn):
    listed, _ = expected(drawn, 21, missing=False)
    share = len(drawn.missing) / len(listed)
    assert len(read_listing(drawn.path, max_missing=share).missing) == 2
    with pytest.raises(DataError, match=r"Imagelist.txt"):
        read_listing(drawn.path, max_missing=share - 1e-3)


@pytest.mark.parametrize("concepts", [0, 10, 80])
def test_number_of_concepts(drawn, concepts):
    with pytest.raises(ValueError, match=rf"^concepts: found {concepts}, accepted"):
        nus_wide_source(drawn.path, concepts=concepts)


# What is damaged, how, and what the message must say.


def replace(file, old, new):
    def damage(tree):
        content = (tree / file).read_bytes()
        assert old in content
        (tree / file).write_bytes(content.replace(old, new, 1))

    return damage


def set_line(file, number, text):
    def damage(tree):
        lines = (tree / file).read_text().splitlines()
        lines[number - 1 : number] = [] if text is None else [text]
        (tree / file).write_text("\n".join(lines) + "\n")

    return damage


def empty(file):
    return lambda tree: (tree / file).write_text("\n \n")


def remove(place):
    def damage(tree):
        if (tree / place).is_dir():
            shutil.rmtree(tree / place)
        else:
            (tree / place).unlink()

    return damage


def repeat_a_line(tree):
    lines = (tree / LIST).read_text().splitlines()
    set_line(LIST, 7, lines[2])(tree)


def overlap(tree):
    train = (tree / "ImageList/TrainImagelist.txt").read_text().splitlines()
    set_line("ImageList/TestImagelist.txt", 1, train[0])(tree)


def no_labels(tree):
    for file in sorted((tree / "Groundtruth/AllLabels").iterdir()):
        file.write_text("0\n" * 60)


def strange_images(tree):
    shutil.rmtree(tree / "Flickr")
    for number in range(12):
        (tree / "Flickr" / f"{number:02d}").mkdir(parents=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (set_line(LABELS, 4, "2"), r"Labels_sky.txt:4: found '2', expected 0 or 1$"),
        (set_line(LABELS, 4, "-1"), r"Labels_sky.txt:4: found '-1', expected 0 or 1"),
        (set_line(LABELS, 4, "11"), r"Labels_sky.txt:4: found '11', expected 0 or 1"),
        (set_line(LABELS, 4, "0 1"), r"Labels_sky.txt:4: found '01', expected 0 or 1"),
        (set_line(LABELS, 4, ""), r"Labels_sky.txt:4: found '', expected 0 or 1"),
        (set_line(LABELS, 60, "1.0"), r"Labels_sky.txt:60: found '1.0', expected 0"),
        (replace(LABELS, b"0", b"\xff"), r"Labels_sky.txt:\d+: found '.', expected 0"),
        (
            set_line(LABELS, 4, None),
            r"Labels_sky.txt: found 59 lines, expected 60, one for each line of Imag",
        ),
        (set_line(LABELS, 4, "0\n1"), r"Labels_sky.txt: found 61 lines, expected 60"),
        (empty(LABELS), r"Labels_sky.txt: found 0 lines, expected 60"),
        (remove(LABELS), r"Labels_sky.txt: found no such file, .* 21 concepts$"),
        (set_line(LIST, 8, None), r"Labels_animal.txt: found 60 lines, expected 59"),
        (set_line(LIST, 8, ""), r"Imagelist.txt:8: found an empty line"),
        (repeat_a_line, r"Imagelist.txt:7: found '.*jpg' as in line 3, expected each"),
        (empty(LIST), r"Imagelist.txt: found no lines, expected one for each image"),
        (replace(LIST, b"_", b"\xff"), r"Imagelist.txt: found 'utf-8' codec .*UTF-8"),
        (remove(LIST), r"nus_wide: found ConceptsList, Flickr, .* expected ImageList/"),
        (remove("Groundtruth"), r"expected Groundtruth/AllLabels or AllLabels$"),
        (remove("Flickr"), r"found ConceptsList, .* expected Flickr or images or imag"),
        (strange_images, r"Flickr: found 00, .*, 07 and 4 more, expected images such"),
        (no_labels, r"found no image that shows one of the 21 concepts"),
        (
            set_line("ImageList/TestImagelist.txt", 2, "a\\b.jpg"),
            r"TestImagelist.txt:2: found 'a/b.jpg', expected a line of Imagelist.txt",
        ),
        (overlap, r"TestImagelist.txt: found 1 images of TrainImagelist.txt \(the fi"),
        (empty("ImageList/TrainImagelist.txt"), r"TrainImagelist.txt: found no lines"),
        (remove("."), r"nus_wide: found no such folder"),
    ],
)
def test_damage_is_named_in_one_line(tree, damage, message):
    damage(tree)
    with pytest.raises(DataError, match=message) as error:
        nus_wide_source(tree)
    assert "\n" not in str(error.value)


def test_a_folder_where_a_file_should_be(tree):
    (tree / LIST).unlink()
    (tree / LIST).mkdir()
    with pytest.raises(DataError, match=r"Imagelist.txt: found Is a directory, exp"):
        nus_wide_source(tree)
