"""Where a backbone begins if not at random: others' weights, or an earlier run."""

import dataclasses
import hashlib
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from ssah_jax.config import Config, ConfigError, HNetConfig, check_others_weights
from ssah_jax.method.codes import build_hnet
from ssah_jax.method.steps import hnet_variables
from ssah_jax.networks import backbone_scope, pretrained
from ssah_jax.networks.backbones import SPECS, build_backbone
from ssah_jax.networks.weight_tables import WeightsError, convert
from ssah_jax.run.encoder_file import (
    StoredEncoder,
    is_encoder_file,
    read_encoder_file,
)
from ssah_jax.run.run_encoder import RunEncoder, load_encoder
from ssah_jax.run.workdir import Workdir
from ssah_jax.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class StartingWeights:
    """Variables that a backbone begins with.

    Attributes:
        variables: "params" and "batch_stats" of the backbone, float32.
        spec: where they come from, as `pretrained.locate` takes it, or a workdir.
        sha256: of the file; of a workdir, of the variables themselves.
    """

    variables: Params
    spec: str
    sha256: str


def load_backbone(config: Config, image_shape: tuple[int, int, int]) -> StartingWeights:
    """Find, verify, read and convert the weights that the configuration asks for.

    Args:
        config: one whose `hnet.weights` is not empty.
        image_shape: (H, W, ch) of the images as the networks see them.

    Raises:
        ValueError: one line: no such weights, or they do not fit the backbone.
    """
    hnet = config.hnet
    spec = SPECS[hnet.backbone].weights if hnet.weights == "default" else hnet.weights
    if spec.startswith("~"):
        spec = str(Path(spec).expanduser())
    try:
        path = pretrained.locate(spec)
        if (path / "config.json").is_file():
            variables = _of_run(Workdir(path), config)
            sha256 = _digest(variables)
        elif is_encoder_file(path):
            stored = read_encoder_file(path)
            RunEncoder.of_stored(stored)
            variables = _of_encoder(stored, path, config)
            sha256 = pretrained.digest(path)
        else:
            check_others_weights(config.hnet)
            network = build_backbone(
                hnet.backbone, norm=hnet.norm, share_stats=hnet.share_stats
            )
            tensors = pretrained.read_tensors(path)
            variables = convert(hnet.backbone, tensors, network=network)
            sha256 = pretrained.digest(path)
        _check_shapes(variables, config, image_shape)
    except ConfigError:
        raise
    except ValueError as error:
        raise WeightsError(f"config.hnet.weights: {error}") from error
    return StartingWeights(variables, spec, sha256)


def _of_run(workdir: Workdir, config: Config) -> Params:
    """The backbone of the teacher of a run's last checkpoint."""
    return _of_encoder(load_encoder(workdir).stored(), workdir.path, config)


def _of_encoder(stored: StoredEncoder, where: Path, config: Config) -> Params:
    """The backbone of an encoder that others trained, if it is the one asked for."""
    found = stored.config
    theirs, ours = _identity(found.hnet), _identity(config.hnet)
    for name, value in theirs.items():
        if value != ours.get(name, value):
            raise WeightsError(
                f"{where}: hnet.{name} is {value!r} there, accepted is "
                f"{ours[name]!r} as here"
            )
    seen, wanted = build_hnet(found), build_hnet(config)
    for name in ("mean", "std"):
        there, here = getattr(seen, name), getattr(wanted, name)
        if there != here:
            raise WeightsError(
                f"{where}: images were normalised by the {name} {there} there, "
                f"accepted is {here} as here"
            )
    scope = backbone_scope(config.hnet.backbone)
    both = {"params": stored.params, "batch_stats": stored.stats}
    return {kind: tree.get(scope, {}) for kind, tree in both.items()}


def _identity(hnet: HNetConfig) -> dict[str, object]:
    """Fields that say which variables a backbone has, and what they mean."""
    fields: dict[str, object] = {"backbone": hnet.backbone}
    if hnet.backbone == "small_conv":
        fields["widths"] = hnet.widths
    if SPECS[hnet.backbone].normalised:
        fields |= {"norm": hnet.norm, "share_stats": hnet.share_stats}
    return fields


def _check_shapes(
    variables: Params, config: Config, image_shape: tuple[int, int, int]
) -> None:
    """Raise WeightsError unless `variables` are just those of the backbone."""
    scope = backbone_scope(config.hnet.backbone)
    wanted = jax.eval_shape(
        lambda key: hnet_variables(key, config=config, image_shape=image_shape),
        jax.random.key(0),
    )
    for kind in ("params", "batch_stats"):
        ours = flatten_dict(wanted.get(kind, {}).get(scope, {}), sep="/")
        theirs = flatten_dict(variables[kind], sep="/")
        for name in ours | theirs:
            here, there = (
                str(tree[name].shape) if name in tree else "none"
                for tree in (ours, theirs)
            )
            if here != there:
                raise WeightsError(
                    f"found {name} of shape {there}, accepted is {here} for images "
                    f"of shape {image_shape}"
                )


def _digest(variables: Params) -> str:
    """The sha256 of all variables with their names, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, leaf in sorted(flatten_dict(variables, sep="/").items()):
        digest.update(name.encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()
