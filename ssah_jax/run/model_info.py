"""What a model is built from besides its configuration, so that no data is needed."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class FrozenBackbone:
    """What made the features that a run was trained on.

    Attributes:
        name: its config word.
        weights: where its weights came from.
        sha256: of their file.
        image_shape: `(H, W, ch)` of the images.
        crop_size: as of `ssah_jax.run.extractor.Extractor`.
        image_size: likewise.
        dtype: likewise.
        stored: type that features were kept in.
        resize: how images became square.
    """

    name: str
    weights: str
    sha256: str
    image_shape: tuple[int, int, int]
    crop_size: int
    image_size: int
    dtype: str
    stored: str
    resize: str


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What else than its configuration a model is built from.

    Attributes:
        image_shape: `(H, W, ch)` of the images before any crop.
        class_names: of the C classes.
        data_digest: of the data set and its split.
        weights: where the backbone's first weights came from; empty for random ones.
        weights_sha256: of their file.
        made_by: of a run on stored features, what computes them of images, if their
            size is known.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    data_digest: str
    weights: str = ""
    weights_sha256: str = ""
    made_by: FrozenBackbone | None = None

    @staticmethod
    def of_json(values: Mapping[str, Any]) -> "ModelInfo":
        """The record that `dataclasses.asdict` made an object for JSON of.

        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        made_by = values.get("made_by")
        if made_by is not None:
            shape = _three(made_by["image_shape"])
            made_by = FrozenBackbone(**{**made_by, "image_shape": shape})
        return ModelInfo(
            _three(values["image_shape"]),
            tuple(values["class_names"]),
            str(values["data_digest"]),
            str(values.get("weights", "")),
            str(values.get("weights_sha256", "")),
            made_by,
        )


def _three(found: Any) -> tuple[int, int, int]:
    height, width, channels = found
    return int(height), int(width), int(channels)
