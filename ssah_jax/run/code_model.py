"""What makes codes without a run: a frozen backbone and a binariser, in a file.

The file is that of the binariser (safetensors), and says in its header which backbone
and weights its features are of; the weights themselves are not in it.
"""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ssah_jax.data.images import RESIZES
from ssah_jax.networks.backbones import SPECS
from ssah_jax.retrieval.binarisers import Binariser
from ssah_jax.retrieval.files import one_line

_VERSION = 1
_ENTRY = "ssah_code_model"


@dataclasses.dataclass(frozen=True)
class CodeModel:
    """A frozen backbone, what it is shown, and how its features become bits.

    Attributes:
        backbone: a word of `weight_tables.CONVERTIBLE`, or what somebody calls a
            function of theirs.
        weights: where its weights came from; empty for a function.
        sha256: of the weights' file; empty for a function.
        image_size: side of the square images that it sees, in pixels.
        resize: how images become square, of `ssah_jax.data.images.RESIZES`.
        binariser: learnt from its features.
        learnt_from: a digest of which images; empty where nobody said.
    """

    backbone: str
    weights: str
    sha256: str
    image_size: int
    resize: str
    binariser: Binariser
    learnt_from: str = ""

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with anything that codes depend on."""
        spec = SPECS.get(self.backbone) if self.sha256 else None
        normalised = (spec.mean, spec.std) if spec else ()
        seen = (self.backbone, self.sha256, self.image_size, self.resize, normalised)
        digest = hashlib.sha256(repr((seen, self.binariser.fingerprint)).encode())
        return digest.hexdigest()[:16]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one file, which appears when it is whole."""
        recipe = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name != "binariser"
        }
        recipe |= {"version": _VERSION, "fingerprint": self.fingerprint}
        self.binariser.save(path, metadata={_ENTRY: json.dumps(recipe)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "CodeModel":
        """Reads what `save` wrote.

        Raises:
            ValueError: the file is absent, damaged or something else.
        """
        where = one_line(os.fspath(path))
        if not Path(path).is_file():
            raise ValueError(
                f"{where}: found no such file, accepted is a model that `ssah encode "
                "--backbone` wrote beside its codes, an encoder of `ssah export --to "
                "safetensors`, hf:OWNER/NAME, or small"
            )
        try:
            with safe_open(os.fspath(path), framework="np") as file:
                recipe = json.loads((file.metadata() or {})[_ENTRY])
            fingerprint, version = recipe.pop("fingerprint"), recipe.pop("version")
            if version != _VERSION:
                raise ValueError(f"version {version!r} of the format, not {_VERSION}")
            model = cls(binariser=Binariser.load(path), **recipe)
            if model.resize not in RESIZES or model.fingerprint != fingerprint:
                raise ValueError(f"fingerprint {model.fingerprint}, not {fingerprint}")
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{where}: found {type(error).__name__} ({one_line(error)}), "
                "accepted is a model that `ssah encode --backbone` wrote beside its "
                "codes"
            ) from None
        return model
