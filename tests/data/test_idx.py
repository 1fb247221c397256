"""IDX files: what was stored comes back; damage, absence and mismatches are named."""

import gzip
import pathlib
import tracemalloc

import numpy as np
import pytest
from image_files import one_line
from label_sources import in_part

from ssah_jax.data.bundled import idx_directory
from ssah_jax.data.idx import read_idx
from ssah_jax.data.source import DataError

FASHION_MNIST = pathlib.Path("/usr/share/datasets/fashion-mnist")


def idx_bytes(array, kind=0x08):
    header = bytes([0, 0, kind, array.ndim])
    header += b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def toy_arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "train-images": rng.integers(0, 256, (7, 5, 4), np.uint8),
        "train-labels": np.array([0, 1, 2, 0, 1, 2, 0], np.uint8),
        "t10k-images": rng.integers(0, 256, (3, 5, 4), np.uint8),
        "t10k-labels": np.array([2, 1, 0], np.uint8),
    }


def write_toy(directory, *, joint="-", suffix="", **replaced):
    """Writes the four files of a data set; `replaced` names arrays with `_` for `-`."""
    arrays = toy_arrays() | {
        key.replace("_", "-"): value for key, value in replaced.items()
    }
    for stem, array in arrays.items():
        content = idx_bytes(array)
        if suffix == ".gz":
            content = gzip.compress(content)
        dims = 3 if stem.endswith("images") else 1
        (directory / f"{stem}{joint}idx{dims}-ubyte{suffix}").write_bytes(content)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("joint", ["-", "."])
def test_idx_directory_round_trip(tmp_path, joint, suffix):
    write_toy(tmp_path, joint=joint, suffix=suffix)
    source = idx_directory(str(tmp_path))
    expected = toy_arrays()
    assert set(source.parts) == {"train", "test"}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = in_part(source, part)
        np.testing.assert_array_equal(images, expected[f"{prefix}-images"][..., None])
        np.testing.assert_array_equal(labels.argmax(1), expected[f"{prefix}-labels"])
        np.testing.assert_array_equal(labels.sum(1), 1)
        assert labels.dtype == np.float32
    assert source.image_shape == (5, 4, 1)
    assert source.num_classes == 3
    assert source.class_names == ("0", "1", "2")
    assert not source.multi_label


def test_idx_class_names(tmp_path):
    write_toy(tmp_path)
    names = ["shirt", "boot", "bag", "coat"]
    source = idx_directory(tmp_path, class_names=names)
    assert source.class_names == tuple(names)
    assert source.labels.shape == (10, 4)
    with pytest.raises(
        ValueError, match=r"found 2 names, expected at least 3"
    ) as error:
        idx_directory(tmp_path, class_names=["shirt", "boot"])
    assert "class_names" in one_line(error)


def test_idx_a_class_only_in_test_counts(tmp_path):
    write_toy(tmp_path, t10k_labels=np.array([2, 5, 0], np.uint8))
    assert idx_directory(tmp_path).num_classes == 6


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_read_idx_any_shape(tmp_path, suffix):
    array = np.arange(2 * 3 * 1 * 2, dtype=np.uint8).reshape(2, 3, 1, 2)
    content = idx_bytes(array)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    np.testing.assert_array_equal(read_idx(path, dims=4), array)


def damaged(content, how):
    return {
        "empty": b"",
        "header cut": content[:9],
        "body cut": content[:-1],
        "too long": content + b"\0",
        "dimension": content[:3] + b"\2" + content[4:],
        "type": content[:2] + b"\x0d" + content[3:],
        "magic": b"\x89PNG" + content[4:],
        "no images": content[:4] + bytes(4) + content[8:16],
        "huge": content[:4] + b"\xff" * 12 + content[16:],
    }[how]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("empty", "found 0 bytes, expected an IDX header of 16"),
        ("header cut", "found 9 bytes, expected an IDX header of 16"),
        ("body cut", "found 139 bytes after the header, expected 140 (7 x 5 x 4)"),
        ("too long", "found 141 bytes after the header, expected 140 (7 x 5 x 4)"),
        (
            "dimension",
            "found magic number 0x00000802 (uint8, 2 dimensions), "
            "expected 0x00000803 (uint8, 3 dimensions)",
        ),
        (
            "type",
            "found magic number 0x00000d03 (float32, 3 dimensions), "
            "expected 0x00000803 (uint8, 3 dimensions)",
        ),
        (
            "magic",
            "found magic number 0x89504e47 (not an IDX file), "
            "expected 0x00000803 (uint8, 3 dimensions)",
        ),
        (
            "no images",
            "found dimensions 0 x 5 x 4, expected each to be at least 1",
        ),
        (
            "huge",
            "found 140 bytes after the header, expected 79228162458924105385300197375 "
            "(4294967295 x 4294967295 x 4294967295)",
        ),
    ],
)
def test_damaged_idx_file(tmp_path, how, message, suffix):
    write_toy(tmp_path, suffix=suffix)
    path = tmp_path / f"train-images-idx3-ubyte{suffix}"
    content = damaged(idx_bytes(toy_arrays()["train-images"]), how)
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(DataError) as error:
        idx_directory(tmp_path)
    if suffix:  # of which no more is read than one byte too many
        message = message.replace("found 141", "found at least 141")
    assert one_line(error) == f"{path}: {message}"
    assert isinstance(error.value, ValueError)


def test_no_more_is_decompressed_than_the_header_claims(tmp_path):
    write_toy(tmp_path, suffix=".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    header = idx_bytes(toy_arrays()["train-images"])[:16]
    path.write_bytes(gzip.compress(header + bytes(1 << 26)))
    tracemalloc.start()
    try:
        with pytest.raises(
            DataError, match=r"found at least 141 bytes .* expected 140"
        ):
            idx_directory(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("how", ["cut", "plain", "flipped", "tail"])
def test_corrupt_gzip(tmp_path, how):
    write_toy(tmp_path, suffix=".gz")
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[20] ^= 0xFF
    path.write_bytes(
        {
            "cut": good[:-12],
            "plain": gzip.decompress(good),
            "flipped": bytes(flipped),
            "tail": good + b"tail",
        }[how]
    )
    with pytest.raises(DataError) as error:
        idx_directory(tmp_path)
    message = one_line(error)
    assert message.startswith(f"{path}: found a corrupt or truncated gzip stream (")
    assert message.endswith("expected a gzip-compressed IDX file")


def test_missing_idx_file(tmp_path):
    write_toy(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError) as error:
        idx_directory(tmp_path)
    assert one_line(error) == (
        f"{tmp_path}/t10k-labels-idx1-ubyte: found no such file, expected one of "
        "t10k-labels-idx1-ubyte, t10k-labels.idx1-ubyte, t10k-labels-idx1-ubyte.gz, "
        "t10k-labels.idx1-ubyte.gz"
    )


def test_unreadable_file(tmp_path):
    with pytest.raises(DataError, match="found an unreadable file") as error:
        read_idx(tmp_path, dims=1)
    assert one_line(error).startswith(str(tmp_path))


def test_idx_counts_and_shapes_must_agree(tmp_path):
    write_toy(tmp_path, train_labels=np.zeros(6, np.uint8))
    with pytest.raises(DataError) as error:
        idx_directory(tmp_path)
    assert one_line(error) == (
        f"{tmp_path}/train-labels-idx1-ubyte: found 6 labels, expected 7, one for "
        f"each image of {tmp_path}/train-images-idx3-ubyte"
    )
    write_toy(tmp_path, t10k_images=np.zeros((3, 4, 5), np.uint8))
    with pytest.raises(DataError) as error:
        idx_directory(tmp_path)
    assert one_line(error) == (
        f"{tmp_path}: found t10k images of shape (4, 5, 1), "
        "expected (5, 4, 1) as in train"
    )


@pytest.mark.parametrize("path", ["", "no/such/directory"])
def test_idx_without_a_directory_tells_where_to_get_one(path):
    with pytest.raises(DataError) as error:
        idx_directory(path)
    message = one_line(error)
    assert "dataset-fashion-mnist" in message
    assert "data.path=/usr/share/datasets/fashion-mnist" in message
    assert message.startswith(path or "data.path: found none")


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="Fashion-MNIST not installed")
def test_real_fashion_mnist():
    source = idx_directory(FASHION_MNIST)
    assert source.image_shape == (28, 28, 1)
    assert source.num_classes == 10
    images, labels = in_part(source, "train")
    np.testing.assert_array_equal(labels.sum(0), np.full(10, 6000))
    np.testing.assert_array_equal(in_part(source, "test")[1].sum(0), np.full(10, 1000))
    # The published mean of the training pixels; a wrong offset or order moves it.
    assert images.mean() / 255 == pytest.approx(0.2860, abs=5e-5)
    assert labels[0].argmax() == 9
