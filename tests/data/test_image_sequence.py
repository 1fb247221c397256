"""The sequence of encoded images, files of images, and finding them."""

import concurrent.futures
import os
import pathlib
import pickle
import time

import numpy as np
import pytest
from encoded_images import NOISE, PHOTOS, RNG, SAMPLES
from image_files import encode, touch

from ssah_jax.data.encoded import EncodedImages, image_files
from ssah_jax.data.finding import find_images
from ssah_jax.data.images import ImageError, decode
from ssah_jax.data.source import DataError, ImageSequence

# Pillow warns of odd metadata and of bombs; what counts is what comes of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:PIL"),
]


# The sequence


def bytes_of(contents):
    return lambda index: contents[index]


def test_is_an_image_sequence():
    contents = [encode(NOISE), encode(NOISE[::-1])]
    seq = EncodedImages(bytes_of(contents), ["a", "b"])
    assert isinstance(seq, ImageSequence)
    assert seq.shape == (2, 12, 20, 3) and len(seq) == 2 and seq.names == ["a", "b"]
    np.testing.assert_array_equal(seq[1], NOISE[::-1])
    np.testing.assert_array_equal(seq[np.int64(0)], NOISE)
    np.testing.assert_array_equal(np.stack(list(seq)), [NOISE, NOISE[::-1]])
    assert seq.encoded(1) == contents[1]
    for index in (-1, 2):
        with pytest.raises(IndexError, match=f"index {index} is not in 0 .. 1"):
            seq[index]
        with pytest.raises(IndexError):
            seq.encoded(index)


def test_options_reach_the_decoder():
    seq = EncodedImages(
        bytes_of([encode(NOISE)]), ["a"], size=6, resize="squash", channels=1
    )
    expected = decode(encode(NOISE), name="a", size=6, resize="squash", channels=1)
    np.testing.assert_array_equal(seq[0], expected)
    assert seq.shape == (1, 6, 6, 1)


def counting(contents):
    reads = []

    def read(index):
        reads.append(index)
        time.sleep(0.005)  # long enough for other threads to come in between
        return contents[index]

    return read, reads


def test_shape_reads_as_little_as_can_be():
    read, reads = counting([encode(NOISE)] * 3)
    assert EncodedImages(read, "abc", size=5).shape == (3, 5, 5, 3) and not reads
    seq = EncodedImages(read, "abc")
    assert not reads
    assert seq.shape == seq.shape == (3, 12, 20, 3)
    assert reads == [0]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        fresh = EncodedImages(read, "abc")
        reads.clear()
        assert {*pool.map(lambda _: fresh.shape, range(64))} == {(3, 12, 20, 3)}
    assert reads == [0]


def test_shape_of_no_images():
    assert EncodedImages(bytes_of([]), []).shape == (0, 0, 0, 3)
    assert EncodedImages(bytes_of([]), [], size=7, channels=1).shape == (0, 7, 7, 1)


def test_another_shape():
    contents = [b"broken", encode(NOISE), encode(NOISE[:, :7]), encode(NOISE[1:])]
    seq = EncodedImages(bytes_of(contents), ["w", "x", "y", "z"])
    for index, found in ((2, r"\(12, 7, 3\)"), (3, r"\(11, 20, 3\)")):
        with pytest.raises(
            ImageError, match=rf"^[yz]: found .*{found}, expected \(12, 20, 3\)"
        ):
            seq[index]
    assert seq[1].shape == (12, 20, 3)
    with pytest.raises(ImageError, match=r"^w: found no image"):
        seq[0]


def test_shape_without_any_readable_image():
    seq = EncodedImages(bytes_of([b"broken", b""]), ["x", "y"])
    for _ in range(2):
        with pytest.raises(ImageError, match=r"^x: found"):
            _ = seq.shape


def test_errors_of_the_data_set_pass():
    def read(index):
        raise DataError("shard 3: found x, expected y")

    with pytest.raises(DataError, match=r"^shard 3: found x, expected y$"):
        EncodedImages(read, ["x"])[0]


def test_threads_decode_as_one_does():
    contents = [encode(p, k) for p in PHOTOS for k in ("JPEG", "PNG", "WEBP", "TIFF")]
    contents += [SAMPLES[k] for k in sorted(SAMPLES)]
    seq = EncodedImages(
        bytes_of(contents), [str(i) for i in range(len(contents))], size=48
    )
    serial = [seq[i] for i in range(len(seq))]
    order = list(RNG.permutation(np.repeat(np.arange(len(seq)), 4)))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for index, image in zip(order, pool.map(seq.__getitem__, order), strict=True):
            np.testing.assert_array_equal(image, serial[index])


# Files


def test_image_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(encode(NOISE))
    (tmp_path / "y.png").write_bytes(encode(NOISE[::-1]))
    seq = image_files(tmp_path, ["y.png", "a/x.png"])
    np.testing.assert_array_equal(seq[1], NOISE)
    for size in (0, 6):
        seq = image_files(tmp_path, ["y.png", "a/x.png"], size=size, channels=1)
        _ = seq.shape
        copy = pickle.loads(pickle.dumps(seq))
        np.testing.assert_array_equal(copy[1], seq[1])
        assert copy.names == seq.names and copy.shape == seq.shape


def test_real_photographs():
    names = ["china.jpg", "flower.jpg"]
    import sklearn.datasets

    root = pathlib.Path(sklearn.datasets.__file__).parent / "images"
    seq = image_files(root, names)
    assert seq.shape == (2, 427, 640, 3)
    for image, photo in zip(seq, PHOTOS, strict=True):
        np.testing.assert_array_equal(image, photo)


def test_unreadable_files(tmp_path, monkeypatch):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "lost.jpg").symlink_to("nowhere")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "locked.jpg").write_bytes(encode(NOISE))
    os.mkfifo(tmp_path / "pipe.jpg")
    reasons = {
        "folder.jpg": "not a regular file",
        "loop.jpg": "symbolic links",
        "lost.jpg": "No such file",
        "missing.jpg": "No such file",
        "empty.jpg": "an empty file",
        "pipe.jpg": "not a regular file",
        "null\0.jpg": "null",
        "locked.jpg": "Permission denied",
        "locked.jpg/x": "Not a directory",
    }
    read_bytes = pathlib.Path.read_bytes

    # By hand, since whoever runs this may be allowed to read anything.
    def refuse(path):
        if path.name == "locked.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
    seq = image_files(tmp_path, list(reasons), size=4)
    for index, (name, reason) in enumerate(reasons.items()):
        with pytest.raises(ImageError, match=f"found .*{reason}.*, expected ") as error:
            seq[index]
        assert str(error.value).startswith(name.replace("\0", "\\x00") + ": ")
        if name != "empty.jpg":
            with pytest.raises(ImageError, match=reason):
                seq.encoded(index)


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9\n.png")
    try:
        (tmp_path / name).write_bytes(encode(NOISE))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (tmp_path / os.fsdecode(b"\xff.JPG")).write_bytes(b"broken")
    names = find_images(tmp_path)
    assert [os.fsencode(n) for n in names] == [b"caf\xe9\n.png", b"\xff.JPG"]
    seq = image_files(tmp_path, names)
    np.testing.assert_array_equal(seq[0], NOISE)
    with pytest.raises(ImageError) as error:
        seq[1]
    assert str(error.value).encode("utf-8").startswith(b"\\udcff.JPG: found no image")
    (tmp_path / name).unlink()
    with pytest.raises(ImageError) as error:
        seq[0]
    assert str(error.value).encode("utf-8").startswith(b"caf\\udce9\\n.png: found")


# Finding


def test_find_images(tmp_path):
    wanted = ["B/1.JPG", "Z.png", "a b/c/2.jpeg", "a.webp", "a/1.bmp", "a/10.gif"]
    wanted += ["a/2.tif", "b.TIFF", "x.y.jfif", "z.jpe", "\u00e9.jpg", "\U0001f600.jpg"]
    touch(tmp_path, *reversed(wanted))
    touch(tmp_path, ".hidden.jpg", "._Z.png", ".DS_Store", ".git/x.jpg", "a/.x/y.jpg")
    touch(tmp_path, "notes.txt", "jpg", "a/png", "x.jpg.txt", "x.mp4", "_.jpgx")
    (tmp_path / "folder.jpg").mkdir()
    touch(tmp_path, "folder.jpg/in.png")
    expected = sorted([*wanted, "folder.jpg/in.png"], key=lambda n: n.encode())
    assert find_images(tmp_path) == expected
    assert find_images(tmp_path, recursive=False) == [
        n for n in expected if "/" not in n
    ]
    hidden_root = tmp_path / ".hidden"
    touch(hidden_root, "x.jpg")
    assert find_images(hidden_root) == ["x.jpg"]


def test_find_images_follows_links(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    touch(elsewhere, "1.jpg", "data")
    root = tmp_path / "root"
    touch(root, "real/2.jpg")
    (root / "file.jpg").symlink_to(elsewhere / "data")
    (root / "one").symlink_to(elsewhere)
    (root / "two").symlink_to(elsewhere)
    (root / "real" / "up").symlink_to(root)
    (root / "real" / "self").symlink_to(".")
    (elsewhere / "back").symlink_to(root / "real")
    (root / "lost.jpg").symlink_to("nowhere")
    (root / "loop.jpg").symlink_to("loop.jpg")
    assert find_images(root) == [
        "file.jpg",
        *("one/1.jpg", "one/back/2.jpg"),
        "real/2.jpg",
        *("two/1.jpg", "two/back/2.jpg"),
    ]


def test_find_images_in_unreadable_folders(tmp_path, monkeypatch):
    touch(tmp_path, "a/b/x.jpg", "file")
    with pytest.raises(DataError, match=r"missing: found No such .*, expected a read"):
        find_images(tmp_path / "missing")
    with pytest.raises(DataError, match="file: found Not a directory, expected"):
        find_images(tmp_path / "file")
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="a/b: found Permission denied, expected"):
        find_images(tmp_path)
    assert find_images(tmp_path, recursive=False) == []
