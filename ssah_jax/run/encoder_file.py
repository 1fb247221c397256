"""A trained encoder as one file of safetensors: parameters, and in its header the rest.

The header has configuration, preprocessing, class names and fingerprint, so the file
needs neither a run nor this package to be read by others; here it is an encoder again,
and `config.hnet.weights` takes its backbone.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open

from ssah_jax import config as config_lib
from ssah_jax.config import Config
from ssah_jax.networks.pretrained import locate, read_tensors, write_tensors
from ssah_jax.retrieval.files import one_line
from ssah_jax.run.model_info import ModelInfo
from ssah_jax.run.workdir import is_pushed
from ssah_jax.types import Params

_ENTRY = "ssah_encoder"
_VERSION = 1
_KINDS = ("params", "batch_stats")


SHIPPED = {"small": Path(__file__).parent / "shipped" / "small.safetensors"}
"""Encoders that come with the package, by their words."""


class EncoderFileError(ValueError):
    """A file is no encoder, or a damaged one."""


@dataclasses.dataclass(frozen=True, eq=False)
class StoredEncoder:
    """What lies in the file.

    Attributes:
        config: of the run, but for where its data lay.
        info: of the run.
        params: H-Net's, of the teacher.
        stats: their running statistics.
        fingerprint: of the encoder.
        step: of the run's checkpoint.
        measured: figures of its evaluation, by key of `results.json`; may be empty.
    """

    config: Config
    info: ModelInfo
    params: Params
    stats: Params
    fingerprint: str
    step: int = 0
    measured: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes the file, whole or not at all.

        Raises:
            WeightsError: it cannot be written.
        """
        # Where somebody's photographs lay is nobody's business.
        data = dataclasses.replace(self.config.data, path="", images="")
        config = dataclasses.replace(self.config, data=data)
        made_by = self.info.made_by
        shape = made_by.image_shape if made_by else self.info.image_shape
        header = {
            "version": _VERSION,
            "fingerprint": self.fingerprint,
            "step": self.step,
            "preprocessing": {
                "image_shape": shape,
                "resize": made_by.resize if made_by else config.data.resize,
                "crop_size": made_by.crop_size if made_by else config.data.crop_size,
                "channels": "grey" if shape[2] == 1 else "RGB",
                "scale": "uint8 / 255",
            },
            "info": dataclasses.asdict(self.info),
            "config": json.loads(config_lib.to_json(config)),
            "measured": dict(self.measured),
        }
        trees = dict(zip(_KINDS, (self.params, self.stats), strict=True))
        tensors = {k: np.asarray(x) for k, x in flatten_dict(trees, sep="/").items()}
        metadata = {_ENTRY: json.dumps(header, sort_keys=True), "format": "pt"}
        write_tensors(path, tensors, metadata=metadata)


def find_encoder_file(spec: str | os.PathLike[str]) -> Path:
    """The file that is meant, downloaded if it is not on this machine yet.

    Args:
        spec: a file; where there is none, a word of `SHIPPED`; or
            `hf:OWNER/NAME[@REVISION][:FILE]`, as `ssah push` made it.

    Raises:
        WeightsError: it cannot be had from the hub.
    """
    text = os.fspath(spec)
    if is_pushed(text):
        return locate(text)
    path = Path(text)
    return SHIPPED[text] if text in SHIPPED and not path.exists() else path


def is_encoder_file(path: Path) -> bool:
    """Whether `StoredEncoder.write` wrote the file, by its header."""
    try:
        with safe_open(path, framework="numpy") as file:
            return _ENTRY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_encoder_file(path: Path) -> StoredEncoder:
    """Reads what `StoredEncoder.write` wrote.

    Raises:
        EncoderFileError: the file is something else, or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})[_ENTRY])
        if header["version"] != _VERSION:
            raise ValueError(
                f"version {header['version']!r} of the format, not {_VERSION}"
            )
        trees = unflatten_dict(read_tensors(path), sep="/")
        return StoredEncoder(
            config=config_lib.from_json(json.dumps(header["config"])),
            info=ModelInfo.of_json(header["info"]),
            params=trees.pop("params"),
            stats=trees.pop("batch_stats", {}),
            fingerprint=header["fingerprint"],
            # Earlier files name it with their figures alone.
            step=int(header.get("step", header["measured"].get("steps", 0))),
            measured=header["measured"],
        )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise EncoderFileError(
            f"{one_line(path)}: found {type(error).__name__} "
            f"({one_line(error)}), accepted is what `ssah export --to "
            "safetensors` wrote"
        ) from None
