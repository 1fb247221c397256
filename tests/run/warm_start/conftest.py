"""A narrow ResNet-18 for all tests here, and a file of weights for it."""

import dataclasses
import functools

import pytest
from weights_cases import WIDTH, original_tensors

from ssah_jax.networks import backbones, pretrained
from ssah_jax.networks.resnet import ResNet


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """A ResNet-18 of two channels and a block a stage, whose names are the real ones.

    With it the tests compile in seconds.
    """
    network = functools.partial(
        ResNet, blocks=(1, 1, 1, 1), bottleneck=False, width=WIDTH
    )
    spec = dataclasses.replace(backbones.SPECS["resnet18"], network=network)
    monkeypatch.setitem(backbones.SPECS, "resnet18", spec)


@pytest.fixture
def weights(tmp_path):
    """A file of such weights."""
    path = tmp_path / "weights.safetensors"
    pretrained.write_tensors(path, original_tensors())
    return path
