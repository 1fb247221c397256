"""Small data sets in the layout of the original archives that TFDS's builders read.

Images are synthetic, of classes that can be learned. TFDS knows the sizes and digests
of the real archives: prepare these with `verify=False` or `--no-verify`.
"""

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from ssah_jax.data import synthetic

_FASHION_COUNTS = {"train": 60_000, "t10k": 10_000}


def images_of(
    part: str, num_images: int, *, num_classes: int, size: int, channels: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 [N, H, W, ch], and their classes [N], which come in turn."""
    images, labels = synthetic.generate(
        seed=0,
        part=part,
        num_images=num_images,
        num_classes=num_classes,
        image_size=size,
        channels=channels,
        multi_label=False,
    )
    return images, labels.argmax(axis=1)


def cifar10(path: Path, *, num_train: int = 100, num_test: int = 50) -> None:
    """cifar-10-binary.tar.gz; `num_train` images in five batches."""
    names = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    root = "cifar-10-batches-bin"
    files = {f"{root}/batches.meta.txt": "\n".join((*names, "", "")).encode()}
    images, labels = images_of("train", num_train, num_classes=10, size=32)
    batches = np.array_split(np.arange(num_train), 5)
    for number, batch in enumerate(batches, start=1):
        content = _cifar_records(images[batch], labels[batch, None])
        files[f"{root}/data_batch_{number}.bin"] = content
    images, labels = images_of("test", num_test, num_classes=10, size=32)
    files[f"{root}/test_batch.bin"] = _cifar_records(images, labels[:, None])
    _tar(path / "cifar-10-binary.tar.gz", files)


def cifar100(path: Path, *, num_train: int = 200, num_test: int = 100) -> None:
    """cifar-100-binary.tar.gz; coarse class = fine class % 20."""
    root = "cifar-100-binary"
    files = {
        f"{root}/coarse_label_names.txt": _lines(f"coarse{i:02d}" for i in range(20)),
        f"{root}/fine_label_names.txt": _lines(f"fine{i:02d}" for i in range(100)),
    }
    for part, num_images in (("train", num_train), ("test", num_test)):
        images, fine = images_of(part, num_images, num_classes=100, size=32)
        both = np.stack([fine % 20, fine], axis=1)
        files[f"{root}/{part}.bin"] = _cifar_records(images, both)
    _tar(path / "cifar-100-binary.tar.gz", files)


def cub200(
    path: Path, *, train_per_class: int = 2, test_per_class: int = 1, size: int = 24
) -> None:
    """CUB_200_2011.tgz and segmentations.tgz: always 200 classes, as TFDS fixes them.

    Images are 4 pixels wider than high, and of two sizes.
    """
    classes = [f"{number:03d}.Bird_{number}" for number in range(1, 201)]
    files: dict[str, bytes] = {}
    masks: dict[str, bytes] = {}
    rows: dict[str, list[str]] = {"images": [], "labels": [], "split": [], "boxes": []}
    parts = (("train", train_per_class, 1), ("test", test_per_class, 0))
    for part, per_class, is_train in parts:
        if not per_class:
            continue
        images, labels = images_of(
            part, 200 * per_class, num_classes=200, size=size + 4
        )
        for position, (image, label) in enumerate(zip(images, labels, strict=True)):
            picture = image[4:] if position % 2 else image[2:, :-1]
            number = len(rows["images"]) + 1
            name = f"{classes[label]}/Bird_{label + 1}_{number:04d}_{796000 + number}"
            files[f"CUB_200_2011/images/{name}.jpg"] = _jpeg(picture)
            mask = (picture.max(axis=2) > 100).astype(np.uint8) * 255
            masks[f"segmentations/{name}.png"] = _png(mask)
            rows["images"].append(f"{number} {name}.jpg")
            rows["labels"].append(f"{number} {label + 1}")
            rows["split"].append(f"{number} {is_train}")
            height, width, _ = picture.shape
            rows["boxes"].append(f"{number} 2.0 3.0 {width - 4}.0 {height - 5}.0")
    for name, key in (
        ("images.txt", "images"),
        ("image_class_labels.txt", "labels"),
        ("train_test_split.txt", "split"),
        ("bounding_boxes.txt", "boxes"),
    ):
        files[f"CUB_200_2011/{name}"] = _lines(rows[key])
    files["CUB_200_2011/classes.txt"] = _lines(
        f"{number} {name}" for number, name in enumerate(classes, start=1)
    )
    files["CUB_200_2011/README"] = b"Generated images.\n"
    files["attributes.txt"] = b"1 has_bill_shape::curved\n"
    _tar(path / "CUB_200_2011.tgz", files)
    _tar(path / "segmentations.tgz", masks)


def stanford_dogs(
    path: Path, *, train_per_class: int = 2, test_per_class: int = 1, size: int = 24
) -> None:
    """images.tar, annotation.tar and lists.tar: always 120 classes, as TFDS fixes them.

    Images are 4 pixels wider than high.
    """
    breeds = [f"n{2085000 + i:08d}-Breed_{i:03d}" for i in range(120)]
    images_tar: dict[str, bytes] = {}
    annotations: dict[str, bytes] = {}
    lists: dict[str, bytes] = {}
    everything: list[tuple[str, int]] = []
    parts = (("train", train_per_class), ("test", test_per_class))
    for part, per_class in parts:
        images, labels = images_of(
            part, 120 * per_class, num_classes=120, size=size + 4
        )
        listed = []
        for image, label in zip(images, labels, strict=True):
            breed = breeds[label]
            wordnet = breed.partition("-")[0]
            stem = f"{breed}/{wordnet}_{len(everything) + len(listed)}"
            images_tar[f"Images/{stem}.jpg"] = _jpeg(image[4:])
            annotations[f"Annotation/{stem}"] = _annotation(stem, image[4:].shape)
            listed.append((stem, int(label)))
        lists[f"{part}_list.mat"] = _mat_list(listed)
        everything += listed
    lists["file_list.mat"] = _mat_list(everything)
    _tar(path / "images.tar", images_tar)
    _tar(path / "annotation.tar", annotations)
    _tar(path / "lists.tar", lists)


def fashion_mnist(path: Path, *, num_distinct: int = 500) -> None:
    """The four IDX files, with the 60,000 and 10,000 images that TFDS insists on.

    There are `num_distinct` different images in each part; they take turns.
    """
    path.mkdir(parents=True, exist_ok=True)
    for part, count in _FASHION_COUNTS.items():
        images, labels = images_of(
            part, num_distinct, num_classes=10, size=28, channels=1
        )
        turns = np.arange(count) % num_distinct
        header = np.array([0x803, count, 28, 28], ">i4").tobytes()
        _gzip(path / f"{part}-images-idx3-ubyte.gz", header + images[turns].tobytes())
        header = np.array([0x801, count], ">i4").tobytes()
        _gzip(
            path / f"{part}-labels-idx1-ubyte.gz",
            header + labels[turns].astype(np.uint8).tobytes(),
        )


def left_over(root: Path) -> list[str]:
    """Everything below `root` but locks and whole downloads."""
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.name != ".lock"
    )


def _cifar_records(images: np.ndarray, labels: np.ndarray) -> bytes:
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels.astype(np.uint8), planes], axis=1).tobytes()


def _annotation(stem: str, shape: tuple[int, ...]) -> bytes:
    height, width, depth = shape
    folder, name = stem.split("/")
    return (
        f"<annotation>\n\t<folder>{folder[1:].partition('-')[0]}</folder>\n"
        f"\t<filename>{name}</filename>\n\t<source><database>synthetic</database>"
        f"</source>\n\t<size><width>{width}</width><height>{height}</height>"
        f"<depth>{depth}</depth></size>\n\t<segment>0</segment>\n\t<object>"
        f"<name>{folder.partition('-')[2]}</name><pose>Unspecified</pose>"
        "<truncated>0</truncated><difficult>0</difficult><bndbox><xmin>1</xmin>"
        f"<ymin>2</ymin><xmax>{width - 2}</xmax><ymax>{height - 3}</ymax></bndbox>"
        "</object>\n</annotation>\n"
    ).encode()


def _mat_list(listed: list[tuple[str, int]]) -> bytes:
    def cells(texts: list[str]) -> np.ndarray:
        column = np.empty((len(texts), 1), object)
        column[:, 0] = texts
        return column

    content = io.BytesIO()
    scipy.io.savemat(
        content,
        {
            "file_list": cells([f"{stem}.jpg" for stem, _ in listed]),
            "annotation_list": cells([stem for stem, _ in listed]),
            "labels": np.array([[label + 1] for _, label in listed], np.uint8),
        },
    )
    return content.getvalue()


def _lines(lines) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _jpeg(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, format="JPEG", quality=90)
    return content.getvalue()


def _png(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, format="PNG")
    return content.getvalue()


def _gzip(path: Path, content: bytes) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(content)


def _tar(path: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` by name to a tar file, packed if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = path.suffix == ".tar"
    with (
        tarfile.open(path, "w")
        if plain
        else tarfile.open(path, "w:gz", compresslevel=1)
    ) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
