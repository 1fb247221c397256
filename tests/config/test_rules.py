"""Rules between fields: what does not fit together, in which words."""

import inspect

import pytest
from config_values import refusal

from ssah_jax.config import Config, from_config_dict
from ssah_jax.config.fields import RULES

FEATURES = {
    "data": {"source": "features"},
    "hnet": {"backbone": "features"},
    "anet": {"kind": "none"},
}
NO_LABELS = {
    "batch": {"labelled": 0},
    "anet": {"kind": "none"},
    "loss": {"consistent": 0.0, "cross_view": 1.0},
}


def with_features(group, **fields):
    return FEATURES | {group: FEATURES[group] | fields}


# What is refused, the line, and the nearest that is accepted.
CASES = {
    "validation_has_queries": [
        (
            {"data": {"num_validation": 0}, "eval": {"every": 10}},
            "config.data.num_validation: found 0, accepted is at least 1 while "
            "config.eval.every is 10",
            {"data": {"num_validation": 0}, "eval": {"every": 0}},
        )
    ],
    "crop_fits_image": [
        (
            {"data": {"image_size": 32, "crop_size": 33}},
            "config.data.crop_size: found 33, accepted is at most "
            "config.data.image_size = 32",
            {"data": {"image_size": 32, "crop_size": 32}},
        )
    ],
    "moments_go_together": [
        (
            {"data": {"mean": (0.1, 0.2, 0.3)}},
            "config.data.std: found 1 values, accepted are as many as in "
            "config.data.mean, 3",
            {"data": {"mean": (0.1, 0.2, 0.3), "std": (1, 1, 1)}},
        )
    ],
    "only_what_is_made_is_drawn": [
        (
            {"anet": {"kind": "none", "draws": 2}},
            "config.anet.draws: found 2, accepted is 1 with anet.kind = 'none'",
            {"anet": {"kind": "random", "draws": 2}},
        )
    ],
    "frozen_stages_exist": [
        (
            {"hnet": {"backbone": name, "frozen": wrong}},
            f"config.hnet.frozen: found {wrong}, accepted for {name} are 0 to {stages} "
            "stages, or -1 for all",
            {"hnet": {"backbone": name, "frozen": stages}},
        )
        for name, wrong, stages in (
            ("small_conv", -2, 3),
            ("small_conv", 4, 3),
            ("resnet50", 6, 5),
        )
    ],
    "backbone_takes_image_size": [
        (
            {"hnet": {"backbone": "resnet18", "image_size": 31}},
            "config.hnet.image_size: resnet18 accepts images of at least 32 pixels, "
            "found 31",
            {"hnet": {"backbone": "resnet18", "image_size": 32}},
        ),
        (
            {"hnet": {"backbone": "vit_s14", "image_size": 225}},
            "config.hnet.image_size: vit_s14 accepts sides that are multiples of 14 "
            "pixels, found 225",
            {"hnet": {"backbone": "vit_s14", "image_size": 224}},
        ),
    ],
    "weights_exist": [
        (
            {"hnet": {"weights": "default"}},
            "config.hnet.weights: found 'default', accepted for small_conv is none or "
            "the workdir of a run; others' weights exist for alexnet, vgg16, ",
            {"hnet": {"weights": "runs/earlier"}},
        ),
        (
            {"hnet": {"weights": "hf:timm/resnet18.a1_in1k", "backbone": "vgg_f"}},
            "config.hnet.weights: found 'hf:timm/resnet18.a1_in1k', accepted for vgg_f",
            {"hnet": {"weights": "hf:timm/resnet18.a1_in1k", "backbone": "resnet18"}},
        ),
        (
            {"hnet": {"weights": "default", "backbone": "resnet18", "norm": "group"}},
            "config.hnet.norm: found group, accepted is batch with weights of resnet18",
            {"hnet": {"weights": "default", "backbone": "resnet18"}},
        ),
    ],
    "features_go_together": [
        (
            {"hnet": {"backbone": "features"}},
            "config.hnet.backbone: found features with the data source digits, "
            "accepted is features with features, and no other",
            FEATURES,
        ),
        (
            {"data": {"source": "features"}},
            "config.hnet.backbone: found small_conv with the data source features",
            FEATURES,
        ),
    ],
    "features_are_no_images": [
        (
            with_features(group, **{field: value}),
            f"config.{group}.{field}: found {value!r}, accepted {wanted} with stored "
            "features",
            with_features("anet", kind="stored"),
        )
        for group, field, value, wanted in (
            ("anet", "kind", "random", "are none and stored"),
            ("data", "crop_size", 1, "is 0"),
            ("hnet", "image_size", 8, "is 0"),
            ("hnet", "weights", "x", "is ''"),
        )
    ],
    "one_image_has_no_pair": [
        (
            {"batch": {"labelled": 1}},
            "config.batch.labelled: found 1, accepted is 0 or at least 2",
            {"batch": {"labelled": 2}},
        )
    ],
    "something_learns_without_labels": [
        (
            NO_LABELS | {group: NO_LABELS[group] | {field: value}},
            f"config.{group}.{field}: found {value}, accepted is ",
            NO_LABELS,
        )
        for group, field, value in (
            ("loss", "consistent", 0.5),
            ("loss", "bank", 5),
            ("loss", "cross_view", 0.0),
            ("anet", "kind", "random"),
        )
    ],
    "options_are_of_the_hash_loss": [
        (
            {"loss": {"name": "dsh", "dch": {"gamma": 10}}},
            "config.loss.dch.gamma: found 10.0, accepted is 20.0 while "
            "config.loss.name is dsh",
            {"loss": {"name": "dch", "dch": {"gamma": 10}}},
        )
    ],
    "bank_is_of_pairs": [
        (
            {"loss": {"name": "csq", "bank": 5}},
            "config.loss.bank: found 5, accepted is 0 with csq, which compares no "
            "codes",
            {"loss": {"name": "dsh", "bank": 5}},
        )
    ],
}


def test_every_rule_has_a_case_and_says_what_it_refuses():
    assert {check.__name__ for check in RULES} == set(CASES)
    for check in RULES:
        assert inspect.getdoc(check).startswith("Raise ConfigError ")
        # Its parameters are fields of the whole configuration.
        assert all(hasattr(Config(), x) for x in inspect.signature(check).parameters)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_refuses_what_does_not_fit_and_nothing_else(name):
    for values, message, good in CASES[name]:
        assert refusal(values).startswith(message)
        from_config_dict(good)


@pytest.mark.parametrize(
    ("hnet", "count"),
    [
        ({"frozen": -1}, 3),
        ({"frozen": -1, "widths": (4, 8)}, 2),
        ({"frozen": 1}, 1),
        ({"frozen": -1, "backbone": "resnet18"}, 5),
        ({"frozen": -1, "backbone": "vit_b16"}, 14),
    ],
)
def test_frozen_stages_are_counted(hnet, count):
    assert from_config_dict({"hnet": hnet}).hnet.frozen_stages == count
