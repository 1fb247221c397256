"""Fixtures of the commands: a run, its codes, their index."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from search_cases import (
    NUMBER,
    SMALL_CODES,
    UPLOAD_LIMIT,
    Run,
    as_if_trained,
    call,
    config,
    without_weights,
)
from starlette.applications import Starlette

from ssah_jax.retrieval.code_files import read_codes
from ssah_jax.retrieval.index import Index, build_index
from ssah_jax.run import evaluators, opening
from ssah_jax.run.experiment import prepare
from ssah_jax.run.serve.app import make_app
from ssah_jax.run.serve.engine import Engine
from ssah_jax.run.workdir import Workdir


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Run:
    root = tmp_path_factory.mktemp("search")
    experiment = prepare(config())
    with opening.open_run(experiment, Workdir(root / "run")) as opened:
        state = as_if_trained(opened.state)
        opened.checkpoints.save(2, state, iterators={}, metric=None)
        codes, _ = evaluators.Evaluator(experiment).codes(state, np.arange(NUMBER))
    names = [f"{i % 7}/{i:03}.png" for i in range(NUMBER)]
    for name, image in zip(names, experiment.source.images, strict=False):
        path = root / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    assert len(np.unique(codes >= 0, axis=0)) > 40
    return Run(root / "run", root / "photos", names, codes)


@pytest.fixture(scope="session")
def encoded(run, tmp_path_factory) -> Path:
    """The file of codes of all photos, called by their absolute paths."""
    out = tmp_path_factory.mktemp("codes") / "codes.parquet"
    assert call("encode", "--workdir", run.workdir, run.photos, "--out", out) == 0
    return out


@pytest.fixture(scope="session")
def indexed(encoded) -> Path:
    out = encoded.with_name("photos.index")
    assert call("index", encoded, "--out", out) == 0
    return out


@pytest.fixture
def weights(monkeypatch) -> None:
    """Frozen backbones take weights that nobody downloaded, "small_conv" too."""
    without_weights(monkeypatch)


@pytest.fixture(scope="session")
def frozen(run, tmp_path_factory) -> Path:
    """Codes of all photos by a frozen backbone, and their model beside them."""
    out = tmp_path_factory.mktemp("frozen") / "codes.parquet"
    with pytest.MonkeyPatch.context() as patch:
        without_weights(patch)
        assert call("encode", *SMALL_CODES, run.photos, "--out", out) == 0
    return out


@pytest.fixture(scope="session")
def index(run, encoded) -> Index:
    """Of all photos, labelled by their folder, and of one that is gone."""
    codes = read_codes(encoded)
    labels = tuple((name.split("/")[-2],) for name in codes.ids)
    ids = (*codes.ids[:-1], "gone.png")
    made = type(codes)(ids, codes.packed, codes.bits, codes.fingerprint, labels)
    return build_index(made)


@pytest.fixture(scope="module")
def app(run, index) -> Starlette:
    """What `ssah serve` serves of it."""
    return make_app(Engine(index), run.encoder, max_upload=UPLOAD_LIMIT)
