"""NUS-WIDE as a builder of TensorFlow Datasets.

Preparing it needs no TensorFlow: images are copied, never encoded. What TFDS itself
asks of TensorFlow beyond a gigabyte of images, `ssah_jax.data.tensorflow_free` does.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from jaxtyping import Int64

from ssah_jax.data.nus_wide import (
    CONCEPTS,
    FREQUENT_CONCEPTS,
    Listing,
    read_listing,
)


@dataclasses.dataclass(eq=False)
class NusWideConfig(tfds.core.BuilderConfig):
    """Which images and labels of NUS-WIDE to prepare.

    Attributes:
        concepts: 21 (the most frequent ones) or 81.
        images: folder of the images, as in `ssah_jax.data.nus_wide.nus_wide`.
        max_missing: share of the images that may be absent, in [0, 1].
    """

    concepts: int = 21
    images: str = ""
    max_missing: float = 0.05


class Builder(tfds.core.GeneratorBasedBuilder):
    """NUS-WIDE, from files that its user has.

    Splits: `train` and `test` where the official lists are there, and `pool` for images
    in neither of them; TensorFlow Datasets itself makes `all` of their union. Images
    are stored as they are, without being decoded.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        NusWideConfig(
            name="top21",
            description="The 21 most frequent concepts; images that show any of them.",
            concepts=21,
        ),
        NusWideConfig(
            name="all81",
            description="All 81 concepts; images that show any of them.",
            concepts=81,
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    The folder must hold what NUS gave out:
      ImageList/Imagelist.txt (and, for the official parts, TrainImagelist.txt and
        TestImagelist.txt beside it);
      Groundtruth/AllLabels/Labels_airport.txt to Labels_zebra.txt, 81 files;
      Flickr/ with folders of images (Flickr/actor/0001_2124494179.jpg), or images/
        with all of them (images/0001_2124494179.jpg).
    The links on the original page of NUS-WIDE are dead. The authors' repository
    NExTplusplus/NUS-WIDE on GitHub says where they keep the labels now. Mirrors that
    users of the data name are Lxyhaha/NUS-WIDE on Hugging Face (labels and lists) and
    xinleili/nuswide on Kaggle (images); nothing here vouches for them. Mirrors made for
    hashing code, such as nuswide-for-deephash on Kaggle and jiuntian/OrthoHash on
    Hugging Face, come with lists of images and labels instead, which this builder does
    not read.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        names = (
            FREQUENT_CONCEPTS
            if self.builder_config.concepts == len(FREQUENT_CONCEPTS)
            else CONCEPTS
        )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "image/filename": tfds.features.Text(),
                    "labels": tfds.features.Sequence(
                        tfds.features.ClassLabel(names=list(names))
                    ),
                }
            ),
            supervised_keys=("image", "labels"),
            homepage="https://doi.org/10.1145/1646396.1646452",
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        config = self.builder_config
        listing = read_listing(
            str(dl_manager.manual_dir),
            concepts=config.concepts,
            images=config.images,
            max_missing=config.max_missing,
        )
        if listing.missing:
            logging.warning(
                "nus_wide: left out %d images that are not on the disk, such as %s",
                len(listing.missing),
                listing.missing[0],
            )
        parts = dict(listing.parts)
        pool = parts.pop("all")
        for indices in parts.values():
            pool = np.setdiff1d(pool, indices, assume_unique=True)
        parts["pool"] = pool
        return {
            part: self._generate_examples(listing, indices)
            for part, indices in parts.items()
            if len(indices)
        }

    def _generate_examples(
        self, listing: Listing, indices: Int64[np.ndarray, "n"]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for index in indices.tolist():
            name = listing.names[index]
            yield (
                name,
                {
                    "image": listing.root / name,
                    "image/filename": name,
                    "labels": np.flatnonzero(listing.labels[index]).tolist(),
                },
            )
