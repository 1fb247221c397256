"""Image sets of TensorFlow Datasets, read without TensorFlow.

TensorFlow Datasets (TFDS, https://www.tensorflow.org/datasets) keeps a prepared data
set as ArrayRecord files; here they are read as encoded images and integer labels, and
nothing else in them is decoded. `ssah prepare` writes them.
"""

import difflib
import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from ssah_jax.data import label_cache
from ssah_jax.data.encoded import EncodedImages
from ssah_jax.data.images import Resize
from ssah_jax.data.records import Records, quiet
from ssah_jax.data.source import DataError, Source, consecutive_parts

OWN_BUILDERS = {
    "nus_wide": "ssah_jax.data.builders.nus_wide.nus_wide_dataset_builder",
}
"""Data sets whose TFDS builder is in this package, and the module that registers it."""

# Without TFDS's `NAMESPACE:NAME`, which is fetched from elsewhere.
_NAME = re.compile(r"\w+(/[\w.+-]+)?(:[0-9.*]+)?")
_MOST_LISTED = 20
_FIRST_SPLITS = ("train", "validation", "test")


def tfds_source(
    name: str,
    *,
    data_dir: str = "",
    label: str = "",
    size: int = 0,
    resize: Resize = "crop",
    channels: int = 3,
) -> Source:
    """Loads an image set that `ssah prepare` (or TFDS itself) has prepared.

    The first call for a data set reads every record for its labels and, where it may,
    leaves them as `ssah_labels_FEATURE.npz` beside the records for the next ones.

    Args:
        name: of TFDS, such as `cifar10`, `imagenet_resized/32x32` or
            `nus_wide/top21`; a version may follow, as in `cifar10:3.0.2`.
        data_dir: directory of TFDS's data; "" takes TFDS's own,
            `~/tensorflow_datasets` or the environment's `TFDS_DATA_DIR`.
        label: the feature with the labels; "" takes `label` or `labels`, or the only
            one there is.
        size: side in pixels of the square images delivered; 0 takes them as stored,
            where the data set says that all have one shape.
        resize: how they become square, as in `ssah_jax.data.images.decode`.
        channels: 3 for RGB, 1 for grey.

    Returns:
        The pool of all splits, decoded when indexed. Every split is a part by its own
        name; without a `test` split, `validation` also goes by `test`. Labels are
        multi-label where the feature is a sequence.

    Raises:
        DataError: no such data set, not prepared, or `label` or `size` do not fit it.
    """
    builder = find_builder(name, data_dir=data_dir)
    if not is_prepared(builder):
        where = f" --data-dir {data_dir}" if data_dir else ""
        raise DataError(
            f"{name}: found no prepared data in {builder.data_dir}, "
            f"run: ssah prepare {name}{where}"
        )
    feature = _label_feature(builder, name=name, label=label)
    if not size:
        _check_fixed_shape(builder, name=name)
    images = open_images(
        builder, name=name, size=size, resize=resize, channels=channels
    )
    labels, class_names = _labels(builder, name=name, feature=feature)
    parts = consecutive_parts(**_split_sizes(builder))
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts["validation"]
    source = Source(
        name=name,
        images=images,
        labels=labels,
        parts=parts,
        class_names=class_names,
        multi_label=_is_sequence(builder.info.features[feature]),
    )
    _check_labelled(source, feature=feature)
    return source


def find_builder(name: str, *, data_dir: str = "") -> Any:
    """The builder of a data set of TFDS or of this package; touches no network.

    Args:
        name: as in `tfds_source`.
        data_dir: as in `tfds_source`.

    Returns:
        A `tfds.core.DatasetBuilder` for ArrayRecord files.

    Raises:
        DataError: there is none of that name, configuration or version.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.registered import DatasetNotFoundError

    base = name.partition("/")[0].partition(":")[0]
    if base in OWN_BUILDERS:
        importlib.import_module(OWN_BUILDERS[base])
    try:
        if not _NAME.fullmatch(name):
            raise DatasetNotFoundError
        with quiet():
            return tfds.builder(
                name,
                data_dir=data_dir or None,
                try_gcs=False,
                file_format="array_record",
            )
    except DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(base, {*known, *OWN_BUILDERS}, n=3)
        hint = f"one like {', '.join(close)}" if close else "such as cifar10"
        raise DataError(
            f"{name}: found no data set of this name, accepted is one of "
            f"TensorFlow Datasets, {hint}"
        ) from None
    except (AssertionError, RuntimeError, ValueError) as error:
        raise DataError(f"{name}: {_complaint(error, base)}") from error


def _complaint(error: Exception, base: str) -> str:
    """What TFDS says of an unknown configuration or version, without how it says it."""
    import tensorflow_datasets as tfds

    said = " ".join(str(error).split()).rpartition('}": ')[2].partition(" Here are")[0]
    try:
        configs = ", ".join(list(tfds.builder_cls(base).builder_configs)[:_MOST_LISTED])
    except (tfds.core.DatasetNotFoundError, ValueError):
        configs = ""
    return f"{said} Configurations: {configs}." if configs else said


def is_prepared(builder: Any) -> bool:
    """Whether the data set of `builder` is complete on disk."""
    return bool((builder.data_path / "dataset_info.json").exists())


def open_images(
    builder: Any,
    *,
    name: str,
    size: int = 0,
    resize: Resize = "crop",
    channels: int = 3,
) -> EncodedImages:
    """The images of all splits of a prepared data set, as one pool.

    Args:
        builder: of `find_builder`.
        name: what messages call the data set.
        size: as in `tfds_source`.
        resize: as in `tfds_source`.
        channels: as in `tfds_source`.

    Returns:
        The images, `train` before `validation` before `test` before other splits,
        named `NAME/SPLIT/INDEX`.

    Raises:
        DataError: the data set has no images, or its files are none of ArrayRecord.
    """
    feature = _image_feature(builder, name=name)
    sizes = _split_sizes(builder)
    read = Records(str(builder.data_dir), splits=tuple(sizes), feature=feature)
    names = [f"{name}/{s}/{i:06d}" for s, count in sizes.items() for i in range(count)]
    return EncodedImages(read, names, size=size, resize=resize, channels=channels)


def _split_sizes(builder: Any) -> dict[str, int]:
    """Number of examples of each split that has any, in the order of the pool."""
    sizes = {str(k): int(v.num_examples) for k, v in builder.info.splits.items()}
    first = [split for split in _FIRST_SPLITS if split in sizes]
    rest = sorted(sizes.keys() - set(first))
    return {split: sizes[split] for split in [*first, *rest] if sizes[split]}


def _image_feature(builder: Any, *, name: str) -> str:
    import tensorflow_datasets as tfds

    features = builder.info.features
    found = sorted(k for k, v in features.items() if isinstance(v, tfds.features.Image))
    if "image" in found:
        return "image"
    if len(found) != 1:
        raise DataError(
            f"{name}: found {_listed(found, 'no')} image features, "
            "accepted is a data set with one, or with one named image"
        )
    return str(found[0])


def _check_fixed_shape(builder: Any, *, name: str) -> None:
    shape = builder.info.features[_image_feature(builder, name=name)].shape
    if None in shape:
        raise DataError(
            f"data.image_size: found 0, but images of {name} differ in size, "
            "accepted is the side in pixels to bring them to"
        )


def _is_sequence(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.Sequence)


def _class_label(feature: Any) -> Any | None:
    """The ClassLabel that `feature` is or is a sequence of."""
    import tensorflow_datasets as tfds

    inner = feature.feature if _is_sequence(feature) else feature
    return inner if isinstance(inner, tfds.features.ClassLabel) else None


def _label_feature(builder: Any, *, name: str, label: str) -> str:
    features = builder.info.features
    found = sorted(k for k, v in features.items() if _class_label(v) is not None)
    for wanted in [label] if label else ["label", "labels"]:
        if wanted in found:
            return wanted
    if len(found) == 1 and not label:
        return str(found[0])
    raise DataError(
        f"data.label: found {label!r}, accepted for {name} is "
        f"{_listed(found, 'nothing: it has no features of class labels')}"
    )


def _listed(words: Sequence[str], none: str) -> str:
    return " or ".join(repr(word) for word in words) or none


def _labels(
    builder: Any, *, name: str, feature: str
) -> tuple[Float32[np.ndarray, "N C"], tuple[str, ...]]:
    """Multi-hot labels of all splits `[N, C]`, from the cache if it is of this data."""
    class_label = _class_label(builder.info.features[feature])
    assert class_label is not None
    path = Path(builder.data_dir) / f"ssah_labels_{feature.replace('/', '_')}.npz"
    stamp = _stamp(builder, feature=feature, num_classes=class_label.num_classes)
    labels = label_cache.read(path, stamp=stamp)
    if labels is None:
        labels = _read_labels(builder, name, feature, class_label.num_classes)
        label_cache.write(path, labels, stamp=stamp)
    return labels.astype(np.float32), tuple(class_label.names)


def _read_labels(
    builder: Any, name: str, feature: str, num_classes: int
) -> UInt8[np.ndarray, "N C"]:
    sizes = _split_sizes(builder)
    records = Records(str(builder.data_dir), splits=tuple(sizes), feature=feature)
    labels = np.zeros((len(records), num_classes), np.uint8)
    try:
        for row, value in zip(labels, records, strict=True):
            classes = np.atleast_1d(np.asarray(value, np.int64))
            # TFDS writes -1 for a class that nobody knows.
            row[classes[classes >= 0]] = 1
    except OSError as error:
        raise DataError(
            f"{name}: {builder.data_dir}: found an {error}, expected whole files; "
            "delete the directory and prepare it again"
        ) from error
    return labels


def _check_labelled(source: Source, *, feature: str) -> None:
    """Raise DataError where single labels are hidden but for part `unlabelled`."""
    hidden = np.asarray(source.labels.sum(axis=1) == 0)
    for part, indices in source.parts.items():
        if not source.multi_label and part != "unlabelled" and hidden[indices].any():
            raise DataError(
                f"{source.name}: found {int(hidden[indices].sum())} of {len(indices)} "
                f"images of split {part!r} without a label in feature {feature!r}, "
                "accepted is a data set whose labels are public"
            )


def _stamp(builder: Any, *, feature: str, num_classes: int) -> str:
    """What the cached labels belong to."""
    info = builder.info
    return json.dumps(
        {
            "version": str(builder.version),
            "features": sorted(info.features),
            "feature": feature,
            "num_classes": num_classes,
            "splits": {
                split: [
                    [int(n) for n in info.splits[split].shard_lengths],
                    int(info.splits[split].num_bytes),
                ]
                for split in _split_sizes(builder)
            },
        },
        sort_keys=True,
    )
