"""Lists of images: mistakes are named in one line."""

import pytest
from image_files import image_lists, one_line
from list_cases import TEST, TRAIN, write

from ssah_jax.data.source import DataError


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"unlabelled": "a.jpg"},
            "{0}: found no train.txt, test.txt or database.txt, expected train.txt and "
            "test.txt, and perhaps database.txt and unlabelled.txt",
        ),
        (
            {"train": TRAIN, "test": " \r\n\n"},
            "{0}/test.txt: found no lines, expected one for each image",
        ),
        (
            {"train": TRAIN, "test": TEST, "unlabelled": ""},
            "{0}/unlabelled.txt: found no lines, expected one for each image",
        ),
        (
            {"train": "\na.jpg\n", "test": TEST},
            "{0}/train.txt:2: found 0 labels, expected at least 2: a path, then 0 or 1 "
            "for each class, or one number, its class",
        ),
        (
            {"train": "a.jpg,1,0\n", "test": TEST},
            "{0}/train.txt:1: found 0 labels, expected at least 2: a path, then 0 or 1 "
            "for each class, or one number, its class; found ',' where blanks stand",
        ),
        (
            {"train": "a.jpg cat\n", "test": TEST},
            "{0}/train.txt:1: found the label 'cat', expected 0 or 1, or a table with "
            "the columns path and labels for names of classes",
        ),
        (
            {"train": "a.jpg 1\n", "test": "b.jpg\n"},
            "{0}/test.txt:1: found 'b.jpg', expected a path and the number of a class, "
            "as in the first line of {0}/train.txt",
        ),
        (
            {"train": "a.jpg 7\nb.jpg 7", "test": "c.jpg 7"},
            "{0}/train.txt: found the class 7 alone behind all paths, expected at "
            "least 2 classes: a path, then its class's number, or 0 or 1 for each "
            "class",
        ),
        (
            {"train": "a.jpg 0 1\n\nb.jpg 0 0\nd.jpg 0 0", "test": "c.jpg 1 0"},
            "train.txt:3: found no label (in 2 lines of 4, all others have one), "
            "expected one: remove these lines, or move their paths to unlabelled.txt",
        ),
        (
            {"train": "a.JPG 1 x 0\n", "test": TEST},
            "{0}/train.txt:1: found the label 'x', expected 0 or 1",
        ),
        (
            {"train": TRAIN, "test": "\n\nc.jpg 0 2 1"},
            "{0}/test.txt:3: found the label '2', expected 0 or 1",
        ),
        (
            {"train": TRAIN, "test": "c.jpg 0 /2 1"},
            "{0}/test.txt:1: found the label '/2', expected 0 or 1",
        ),
        (
            {"train": TRAIN, "test": "c.jpg 0,1 0"},
            "{0}/test.txt:1: found the label '0,1', expected 0 or 1",
        ),
        (
            {"train": TRAIN, "test": TEST, "database": TRAIN + "d.jpg 0 1\n"},
            "{0}/database.txt:3: found 2 labels, expected 3 as in the first line of "
            "{0}/train.txt",
        ),
        (
            {"train": TRAIN, "test": "c.jpg 0 1 0 0"},
            "{0}/test.txt:1: found 4 labels, expected 3 as in the first line of "
            "{0}/train.txt",
        ),
        (
            {"train": TRAIN, "test": "c.jpg 0\t1 0 0"},
            "{0}/test.txt:1: found 4 labels, expected 3 as in the first line of "
            "{0}/train.txt",
        ),
        (
            {"train": TRAIN, "test": "0 1 0"},
            "{0}/test.txt:1: found 2 labels, expected 3 as in the first line of "
            "{0}/train.txt",
        ),
        (
            {"train": TRAIN, "test": "c  0 1 0 0"},
            "{0}/test.txt:1: found 4 labels, expected 3 as in the first line of "
            "{0}/train.txt",
        ),
        (
            {"train": "a.jpg 0 1\n\nb.jpg 0 1\n\na.jpg 0 1", "test": "c.jpg 1 0"},
            "{0}/train.txt:5: found 'a.jpg' as in line 1, expected each image once in "
            "a list",
        ),
        (
            {"train": TRAIN, "test": TEST, "unlabelled": "d.jpg\ne.jpg\ne.jpg\nd.jpg"},
            "{0}/unlabelled.txt:3: found 'e.jpg' as in line 2, expected each image "
            "once in a list",
        ),
        (
            {"train": TRAIN, "test": TEST, "database": "d.jpg 0 0 1\nb.jpg 1 0 1"},
            "{0}/database.txt:2: found 'b.jpg' with other labels than in "
            "{0}/train.txt:2 (the first that differs is number 3), expected the same "
            "labels in all lists",
        ),
        (
            {
                "train": TRAIN,
                "test": "a.jpg 0 1 0\n" + TEST,
                "database": "c.jpg 0 1 1",
            },
            "{0}/database.txt:1: found 'c.jpg' with other labels than in "
            "{0}/test.txt:2 (the first that differs is number 2), expected the same "
            "labels in all lists",
        ),
        (
            {"train": TRAIN, "test": TEST, "unlabelled": "d.jpg\nc.jpg"},
            "{0}/unlabelled.txt:2: found 'c.jpg' as in {0}/test.txt:1, expected only "
            "images without labels",
        ),
        (
            {"train": "a.jpg 0 0\n", "test": "c.jpg 0 1", "unlabelled": "a.jpg"},
            "{0}/unlabelled.txt:1: found 'a.jpg' as in {0}/train.txt:1, expected only "
            "images without labels",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, content, expected):
    write(tmp_path, **content)
    with pytest.raises(DataError) as error:
        image_lists(tmp_path)
    assert one_line(error) == expected.format(tmp_path)


def test_no_such_directories(tmp_path):
    with pytest.raises(DataError) as error:
        image_lists(tmp_path / "no\nne")
    assert one_line(error) == (
        f"{tmp_path}/no\\nne: found no such directory, expected that of train.txt and "
        "test.txt"
    )
    write(tmp_path, train=TRAIN, test=TEST)
    with pytest.raises(DataError) as error:
        image_lists(tmp_path, images="photos")
    assert one_line(error) == (
        f"{tmp_path}/photos: found no such folder, expected that of the images"
    )


@pytest.mark.parametrize("class_names", [("a", "b"), ("a", "b", "c", "d")])
def test_class_names_of_another_number(tmp_path, class_names):
    write(tmp_path, train=TRAIN, test=TEST)
    with pytest.raises(ValueError) as error:
        image_lists(tmp_path, class_names=class_names)
    assert one_line(error) == (
        f"class_names: found {len(class_names)} names, expected 3, one for each label "
        f"in {tmp_path}/train.txt"
    )


def test_messages_stay_on_one_line(tmp_path):
    write(tmp_path, files=(), train=b"\xff\x0c.jpg 0 1", test="b.jpg 1 0")
    with pytest.raises(DataError) as error:
        image_lists(tmp_path)
    assert "(first \\udcff\\x0c.jpg)" in one_line(error)
