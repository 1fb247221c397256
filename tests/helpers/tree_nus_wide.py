"""A small NUS-WIDE on disk, with images that a network can learn."""

import dataclasses
import pathlib

import numpy as np
from PIL import Image

from ssah_jax.data import synthetic
from ssah_jax.data.nus_wide import CONCEPTS, FREQUENT_CONCEPTS

_RARE_CONCEPTS = [name for name in CONCEPTS if name not in FREQUENT_CONCEPTS]


@dataclasses.dataclass(frozen=True)
class Tree:
    """What `draw` wrote.

    Attributes:
        path: the folder.
        names: every line of the image list, with forward slashes, in its order.
        images: the images before JPEG, uint8 `[N, H, H, 3]`.
        labels: labels of all 81 concepts, `[N, 81]` in {0, 1}.
        train: rows of the official training part; the others are the test part.
        missing: rows that are listed and whose images were not written.
    """

    path: pathlib.Path
    names: list[str]
    images: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    missing: np.ndarray


def draw(
    path: pathlib.Path,
    *,
    num_images: int,
    seed: int,
    image_size: int = 48,
    missing: int = 0,
) -> Tree:
    """Writes NUS-WIDE's files as NUS gave them out, for made-up images.

    Of ten images, eight show one to three of the 21 frequent concepts, one shows a rare
    concept only and one shows nothing. Six in ten are in the official training part,
    as in the original. The list is ordered by folder, as the original is.

    Args:
        path: folder to make.
        num_images: lines of the list, N.
        seed: of everything.
        image_size: side of the images in pixels.
        missing: how many listed images that show a frequent concept not to write.

    Returns:
        What was written.
    """
    images, frequent = synthetic.generate(
        seed=seed,
        part="all",
        num_images=num_images,
        num_classes=len(FREQUENT_CONCEPTS),
        image_size=image_size,
        channels=3,
        multi_label=True,
    )
    rng = np.random.default_rng(seed)
    labels = np.zeros((num_images, len(CONCEPTS)), np.uint8)
    labels[:, [CONCEPTS.index(name) for name in FREQUENT_CONCEPTS]] = frequent
    kind = rng.permutation(num_images) % 10
    labels[kind >= 8] = 0
    for row in np.flatnonzero(kind == 8):
        labels[row, CONCEPTS.index(_RARE_CONCEPTS[row % len(_RARE_CONCEPTS)])] = 1

    folders = [CONCEPTS[row.argmax()] if row.any() else "actor" for row in labels]
    order = np.argsort(folders, kind="stable")
    images, labels = images[order], labels[order]
    flickr_ids = rng.choice(10**9, size=num_images, replace=False)
    names = [
        f"{folders[row]}/{number + 1:04d}_{flickr_ids[number]}.jpg"
        for number, row in enumerate(order)
    ]
    train = np.sort(rng.permutation(num_images)[: round(0.6 * num_images)])
    usual = np.flatnonzero(kind[order] < 8)
    gone = np.sort(rng.choice(usual, size=missing, replace=False))

    for row in np.setdiff1d(np.arange(num_images), gone):
        file = path / "Flickr" / names[row]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row]).save(file, quality=90)
    test = np.setdiff1d(np.arange(num_images), train)
    rows_of = {"": np.arange(num_images), "Train": train, "Test": test}
    for part, rows in rows_of.items():
        lines = [names[row].replace("/", "\\") for row in rows]
        file = f"{part}Imagelist.txt"
        _write(path / "ImageList" / file, lines)
        ending = f"_{part}.txt" if part else ".txt"
        folder = path / "Groundtruth" / ("TrainTestLabels" if part else "AllLabels")
        for column, concept in enumerate(CONCEPTS):
            bits = [str(bit) for bit in labels[rows, column]]
            _write(folder / f"Labels_{concept}{ending}", bits)
    _write(path / "ConceptsList" / "Concepts81.txt", list(CONCEPTS))
    return Tree(path, names, images, labels, train, gone)


def _write(file: pathlib.Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(line + "\n" for line in lines))
