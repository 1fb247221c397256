"""Exported encoders say what the run says, bit by bit, on real images."""

import configparser
import dataclasses
import json
import shutil
import sys

import jax
import numpy as np
import onnxruntime
import pytest
from commands import ROOT
from PIL import Image
from search_cases import NUMBER, call, config, mistake
from sklearn.datasets import load_sample_images

from ssah_jax.data.sealed import sealed
from ssah_jax.networks import pretrained
from ssah_jax.run import export as export_lib
from ssah_jax.run.encoder import Encoder
from ssah_jax.run.encoder_file import read_encoder_file
from ssah_jax.run.export import PLATFORMS
from ssah_jax.run.warm_start import load_backbone
from ssah_jax.run.workdir import Workdir


@pytest.fixture(scope="module")
def images(run):
    """The photos as the run takes them, `[N, H, W, ch]`."""
    names = [str(run.photos / name) for name in run.names]
    found = run.encoder.image_files(names)
    return np.stack([found[i] for i in range(NUMBER)])


def export(run, path, form):
    assert call("export", "--workdir", run.workdir, "--to", form, "--out", path) == 0
    return path


def check(run, codes, packed):
    assert codes.dtype == np.float32 and packed.dtype == np.uint8
    np.testing.assert_allclose(codes, run.codes[: len(codes)], rtol=1e-3, atol=1e-4)
    bits = np.packbits(run.codes[: len(codes)] >= 0, axis=1)
    np.testing.assert_array_equal(packed, bits)


def test_stablehlo_gives_the_bits_of_the_run(run, images, tmp_path):
    path = export(run, tmp_path / "encoder.stablehlo", "stablehlo")
    found = jax.export.deserialize(bytearray(path.read_bytes()))
    assert found.platforms == PLATFORMS
    for number in (1, NUMBER):
        check(run, *map(np.asarray, jax.jit(found.call)(images[:number])))
    about = json.loads((tmp_path / "encoder.stablehlo.json").read_text())
    assert about["fingerprint"] == run.encoder.fingerprint and about["bits"] == 20


def test_onnx_gives_the_bits_of_the_run(run, images, tmp_path):
    path = export(run, tmp_path / "encoder.onnx", "onnx")
    session = onnxruntime.InferenceSession(path)
    assert session.get_inputs()[0].shape == ["batch", *images.shape[1:]]
    for number in (1, NUMBER):
        found = session.run(["codes", "packed"], {"images": images[:number]})
        check(run, *found)
    about = json.loads(session.get_modelmeta().custom_metadata_map["ssah_jax"])
    assert about["fingerprint"] == run.encoder.fingerprint


def test_every_form_gives_the_bits_of_photographs():
    """Of 32 pixels a side, by the encoder that comes with the package."""
    squares = [
        Image.fromarray(photo[top : top + 96, left : left + 96]).resize((32, 32))
        for photo in load_sample_images().images
        for top in range(0, 320, 64)
        for left in range(0, 540, 64)
    ]
    photographs = np.stack([np.asarray(square) for square in squares])
    encoder = Encoder.load("small")
    ((_, codes),) = encoder.encode(photographs, batch_size=len(photographs))
    wanted = np.packbits(codes >= 0, axis=1)
    assert len(np.unique(wanted, axis=0)) > 60
    program = jax.export.deserialize(bytearray(export_lib.to_stablehlo(encoder)))
    session = onnxruntime.InferenceSession(export_lib.to_onnx_file(encoder))
    for found in (
        jax.jit(program.call)(photographs),
        session.run(["codes", "packed"], {"images": photographs}),
    ):
        np.testing.assert_allclose(found[0], codes, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(found[1], wanted)


def test_safetensors_is_the_encoder_again(run, images, tmp_path):
    path = export(run, tmp_path / "encoder.safetensors", "safetensors")
    found = Encoder.load(path)
    assert found.fingerprint == run.encoder.fingerprint
    ((rows, codes),) = found.encode(images, batch_size=128)
    np.testing.assert_array_equal(rows, np.arange(NUMBER))
    np.testing.assert_array_equal(codes >= 0, run.codes >= 0)
    assert found.config.data.path == "" and found.info == run.encoder.info


def test_a_run_begins_with_an_exported_backbone(run, tmp_path):
    path = export(run, tmp_path / "encoder.safetensors", "safetensors")
    plain = config()
    found = {}
    for spec in (str(path), str(run.workdir)):
        hnet = dataclasses.replace(plain.hnet, weights=spec)
        wanted = dataclasses.replace(plain, hnet=hnet)
        found[spec] = load_backbone(wanted, (8, 8, 1)).variables
    jax.tree.map(np.testing.assert_array_equal, *found.values())
    hnet = dataclasses.replace(plain.hnet, weights=str(path), widths=(8, 12))
    with pytest.raises(ValueError, match=r"encoder\.safetensors: hnet\.widths is "):
        load_backbone(dataclasses.replace(plain, hnet=hnet), (8, 8, 1))


def test_a_changed_file_is_refused(run, tmp_path):
    path = export(run, tmp_path / "encoder.safetensors", "safetensors")
    content = bytearray(path.read_bytes())
    content[-3] ^= 64
    (tmp_path / "damaged").write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        Encoder.load(tmp_path / "damaged")
    tensors = pretrained.read_tensors(path)
    pretrained.write_tensors(tmp_path / "b", tensors, metadata={"ssah_encoder": "{}"})
    with pytest.raises(ValueError, match="b: found KeyError"):
        Encoder.load(tmp_path / "b")


def test_figures_go_with_the_step_that_they_are_of(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run.workdir, copy)
    for steps, kept in ((0, {"map": 0.5, "steps": 0}), (1, {})):
        results = {"map": 0.5, "steps": steps, "versions": {}}
        (copy / "results.json").write_text(json.dumps(sealed(results)))
        path = tmp_path / f"{steps}.safetensors"
        words = ["--workdir", copy, "--to", "safetensors", "--out", path]
        assert call("export", *words) == 0
        assert read_encoder_file(path).measured == kept
    assert Workdir(copy).read_measured() == {"map": 0.5, "steps": 1}


def test_what_stablehlo_is_written_with_is_always_installed():
    """JAX does not ask for it, and here it comes with ONNX Runtime."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "\nflatbuffers>=" in setup["options"]["install_requires"]


def test_mistakes_are_one_line(run, tmp_path, capsys, monkeypatch):
    out = tmp_path / "encoder.onnx"
    words = ["export", "--workdir", run.workdir, "--out", out]
    assert "--to" in mistake(capsys, *words)
    assert "stablehlo" in mistake(capsys, *words, "--to", "tflite")
    none = ["export", "--workdir", tmp_path, "--out", out, "--to", "onnx"]
    assert "no config.json" in mistake(capsys, *none)
    out.touch()
    assert "--overwrite" in mistake(capsys, *words, "--to", "onnx")
    out.unlink()
    monkeypatch.setitem(sys.modules, "onnx", None)
    said = mistake(capsys, *words, "--to", "onnx")
    assert "pip install 'ssah-jax[export]'" in said
    assert not out.exists()
