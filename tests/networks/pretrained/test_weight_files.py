"""Weights in files of safetensors, and in files of anything else."""

import os
import subprocess
import sys
import zipfile
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from commands import environment
from weight_files import FLOATS, LITE0, assert_equal, complaint, some_arrays, written

from ssah_jax.networks.pretrained import (
    TORCHVISION,
    digest,
    read_tensors,
    write_tensors,
)

# safetensors' files.


def test_safetensors_come_back_as_they_were(tmp_path):
    arrays = dict(sorted(some_arrays().items()))
    arrays["transposed"] = np.arange(6.0).reshape(2, 3).T
    path = tmp_path / "x.safetensors"
    write_tensors(path, arrays, metadata={"source": "here"})
    found = read_tensors(path)
    assert_equal({name: found[name] for name in arrays}, arrays)
    assert len(found) == len(arrays)
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata() == {"source": "here"}
    assert os.listdir(tmp_path) == ["x.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_bfloat16_becomes_float32(tmp_path):
    values = np.array([1.5, -0.0, np.inf, 3.0e38], jnp.bfloat16)
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file({"x": values, "y": np.array(2, jnp.bfloat16)}, path)
    found = read_tensors(path)
    expected = {"x": values.astype(np.float32), "y": np.array(2, np.float32)}
    assert_equal(found, expected)


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    folder = tmp_path / "x.safetensors"
    folder.mkdir()
    (folder / "y").touch()
    text = complaint(write_tensors, folder, {"x": FLOATS})
    assert f"{folder}: cannot be written" in text
    assert os.listdir(tmp_path) == ["x.safetensors"]
    lost = tmp_path / "nowhere" / "x"
    assert "cannot be written" in complaint(write_tensors, lost, {"x": FLOATS})


@pytest.mark.parametrize("keep", [9, 40, -1])
def test_damaged_safetensors_are_told(tmp_path, keep):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": FLOATS})
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path}: found a damaged file" in complaint(read_tensors, path)


def test_safetensors_have_no_entries(tmp_path):
    write_tensors(tmp_path / "x", {"x": FLOATS})
    assert "found entry 'model'" in complaint(
        read_tensors, tmp_path / "x", entry="model"
    )


@pytest.mark.parametrize("content", [b"", b"PNG or so", b"{}", b"\x00" * 100])
def test_other_files_are_told(tmp_path, content):
    path = written(tmp_path, content)
    text = complaint(read_tensors, path)
    assert text.startswith(f"{path}: found ") and "accepted is a file of" in text


def test_files_that_are_not_there_are_told(tmp_path):
    for path in (tmp_path, tmp_path / "lost.pth"):
        assert f"{path}: cannot be read" in complaint(read_tensors, path)
        assert f"{path}: cannot be read" in complaint(digest, path)


# PyTorch's files, written by PyTorch.


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_what_pytorch_saves_is_what_we_read(tmp_path, new):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    base = torch.randn(5, 6)
    tensors = OrderedDict(
        base=base,
        view=base[1:3, 2:5],
        transposed=base.T,
        stepped=base[::2, ::3],
        row=base[4],
        scalar=torch.tensor(3),
        empty=torch.zeros(0, 3),
        half=base.half(),
        brain=base.bfloat16().T,
        double=base.double(),
        long=torch.arange(-3, 3),
        int=torch.arange(3, dtype=torch.int32),
        short=torch.arange(3, dtype=torch.int16),
        char=torch.arange(-3, 3, dtype=torch.int8),
        byte=torch.arange(250, 255, dtype=torch.uint8),
        bool=base > 0,
        parameter=torch.nn.Parameter(base[2:].clone()),
        channels_last=torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    )
    expected = {
        name: (t.float() if t.dtype == torch.bfloat16 else t).detach().numpy()
        for name, t in tensors.items()
    }
    path = tmp_path / "x.pth"

    def read(thing):
        torch.save(thing, path, _use_new_zipfile_serialization=new)
        assert zipfile.is_zipfile(path) == new
        return read_tensors(path)

    assert_equal(read(tensors), expected)
    whole = {
        "state_dict": tensors,
        "epoch": 3,
        "shape": base.shape,
        "type": base.dtype,
        "device": base.device,
    }
    assert_equal(read(whole), expected)

    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(2, 2)
    )
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    expected = {name: t.detach().numpy() for name, t in model.state_dict().items()}
    checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    assert_equal(read(checkpoint), expected)
    assert "found a pickle that uses 'torch.nn.modules." in complaint(read, model)
    assert "found a pickle that uses 'torch._utils._rebuild_" in complaint(
        read, {"x": base.to_sparse()}
    )
    negative = torch.view_as_complex(torch.randn(3, 2)).conj().imag
    assert negative.is_neg()
    text = complaint(read, {"x": negative})
    assert "found a tensor with metadata {'neg': True}" in text


def test_torchvision_has_our_urls():
    models = pytest.importorskip("torchvision").models
    for name, url in TORCHVISION.items():
        name, _, version = name.partition(".")
        version = version or "IMAGENET1K_V1"
        assert models.get_model_weights(name)[version].url == url


def test_published_weights_are_read():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from ssah_jax.networks.pretrained import read_tensors; import numpy as np\n"
        f"tensors = read_tensors({str(LITE0)!r})\n"
        "print(len(tensors), sum(a.size for a in tensors.values()))\n"
        "print(all(np.isfinite(a).all() for a in tensors.values()))\n"
    )
    python = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(python, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    number, size = map(int, done.stdout.split()[:2])
    # 4,652,008 parameters; its statistics are 21,008 means, as many variances and a
    # counter in each of 49 normalisations.
    assert (number, size) == (296, 4_652_008 + 2 * 21_008 + 49)
    assert done.stdout.split()[2] == "True"
    assert digest(LITE0).startswith("57934424")
