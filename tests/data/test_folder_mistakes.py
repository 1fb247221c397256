"""Class folders: mistakes are named in one line."""

import os

import pytest
from image_files import image_folder, one_line, touch

from ssah_jax.data.source import DataError

ACCEPTED = (
    "train/CLASS/ and test/CLASS/ (or CLASS/ alone) with images in them, and perhaps "
    "database/CLASS/ and unlabelled/"
)
ADVICE = "; data.labels=none takes all images as they are, without labels"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], "{0}: found no images, expected some"),
        (
            ["1.txt", ".hidden/4.jpg"],
            "{0}: found no images (1 .txt, 1 hidden), expected some",
        ),
        (
            ["a/1.jpg", "b/2.jpg", "3.jpg", "4.jpg", "5.txt"],
            "{0}: found 2 images outside of its folders (first 3.jpg), expected all in "
            "class folders or in an unlabelled folder{ADVICE}",
        ),
        (
            ["train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg", "test/4.jpg"],
            "{0}/test: found 1 images outside of its folders (first 4.jpg), expected "
            "all in class folders or in an unlabelled folder{ADVICE}",
        ),
        (
            ["train/a/1.jpg", "test/a/1.jpg", "1.jpg"],
            "{0}: found 1 images outside of its folders (first 1.jpg), expected all in "
            "class folders or in an unlabelled folder{ADVICE}",
        ),
        (
            ["train/a/1.jpg", "train/b/2.jpg", "test/1.jpg"],
            "{0}/test: found no class folders with images, expected one for each "
            "class, with its images in it",
        ),
        (
            ["train/a/1.jpg", "train/b/2.jpg", "test/a/1.jpg", "database/"],
            "{0}/database: found no class folders with images, expected one for each "
            "class, with its images in it",
        ),
        (
            ["a/1.jpg", "b/1.nef", "b/2.nef"],
            "{0}/b: found 2 .nef files and no image that can be read here, expected "
            "some; convert them",
        ),
        (
            ["test/1.jpg", "val/2.jpg", "bus/x/3.jpg"],
            "{0}: found parts (test/ and val/) beside other folders (bus), expected "
            "{ACCEPTED}; move or rename either",
        ),
        (
            ["train/x/1.jpg", "bus/2.jpg"],
            "{0}: found parts (train/) beside other folders (bus), expected {ACCEPTED}"
            "; move or rename either",
        ),
        (
            ["cat/train/1.jpg", "cat/test/2.jpg", "dog/train/1.jpg"],
            "{0}: found parts inside of a folder (cat/test, cat/train), expected "
            "{ACCEPTED}; data.path={0}/cat reads what is in it (test, train)",
        ),
        (
            ["train/train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg"],
            "{0}/train: found train/ with folders in it, expected the images of a "
            "class",
        ),
        (
            ["Cat/1.jpg", "cat/2.jpg"],
            "{0}: found the class names 'Cat' and 'cat', which differ only in upper "
            "and lower case or blanks, expected one name for one class: rename one of "
            "them",
        ),
        (
            ["train/e\u0301/1.jpg", "train/b/2.jpg", "test/\xe9/2.jpg"],
            "{0}: found the class names 'e\\\\u0301' and '\xe9', which differ only in "
            "their Unicode form (NFC and NFD), expected one name for one class: rename "
            "one of them",
        ),
        (
            ["photos/a/1.jpg", "photos/b/1.jpg"],
            "{0}: found 1 classes (photos), expected at least 2: {ACCEPTED}; "
            "data.path={0}/photos reads what is in it (a, b){ADVICE}",
        ),
        (
            ["a/1.jpg", "a/b/1.jpg", "c/", "d/1.txt"],
            "{0}: found 1 classes (a), expected at least 2: {ACCEPTED}{ADVICE}",
        ),
        (
            ["train/a/1.jpg", "test/a/1.jpg"],
            "{0}: found 1 classes (a), expected at least 2: {ACCEPTED}{ADVICE}",
        ),
        (
            ["train/a/1.jpg", "train/b/2.jpg"],
            "{0}: found train/ and no test/, expected {0}/test too; or, for a split "
            "that is drawn, data.path={0}/train",
        ),
        (
            ["train/a/1.jpg", "train/b/2.jpg", "database/a/1.jpg", "unlabelled/1.jpg"],
            "{0}: found database/ and train/ and no test/, expected {0}/test too; or, "
            "for a split that is drawn, data.path={0}/train",
        ),
        (
            ["test/a/1.jpg", "database/b/2.jpg"],
            "{0}: found database/ and test/ and no train/, expected it too, or class "
            "folders directly in {0}",
        ),
        (
            ["train/a/1.jpg", "val/b/2.jpg", "validation/b/2.jpg"],
            "{0}: found both val/ and validation/ for part validation, expected one of "
            "them",
        ),
        (
            ["train/a/1.jpg", "Train/b/2.jpg", "test/b/2.jpg"],
            "{0}: found both Train/ and train/ for part train, expected one of them",
        ),
        (
            ["train/a/1.jpg", "val/b/2.jpg", *(f"{c}/1.jpg" for c in "abcdef")],
            "{0}: found parts (train/ and val/) beside other folders (a, b, c, d, e, "
            "...), expected {ACCEPTED}; move or rename either",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, names, expected):
    touch(tmp_path, *names)
    with pytest.raises(DataError) as error:
        image_folder(tmp_path)
    assert one_line(error) == expected.format(
        tmp_path, ACCEPTED=ACCEPTED, ADVICE=ADVICE
    )


def test_no_such_directory(tmp_path):
    with pytest.raises(DataError) as error:
        image_folder(tmp_path / "no\nne")
    assert one_line(error) == (
        f"{tmp_path}/no\\nne: found no such directory, expected a folder with "
        f"{ACCEPTED}"
    )
    touch(tmp_path, "photos.zip")
    with pytest.raises(DataError) as error:
        image_folder(tmp_path / "photos.zip")
    assert one_line(error) == (
        f"{tmp_path}/photos.zip: found a file, expected a folder with {ACCEPTED}"
    )


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.jpg", "b/2.jpg")

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    # Not by its mode, which a superuser's tests would not notice.
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError) as error:
        image_folder(tmp_path)
    assert one_line(error) == (
        f"{tmp_path}: found Permission denied, expected a readable folder"
    )
