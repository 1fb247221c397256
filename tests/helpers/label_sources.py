"""Sources that are nothing but labels, and what a split of them holds."""

import numpy as np

from ssah_jax.data.source import Source, consecutive_parts

FIELDS = ("query", "validation", "labelled", "unlabelled", "database")


POOLED = ("54k", "59k", "pooled", "nus_wide_21", "nus_wide_81")


def source_of(labels, parts, *, multi_label=False):
    """A source of blank images, which take no memory, with multi-hot labels."""
    labels = np.asarray(labels, np.float32)
    blank = np.zeros((1, 1, 1, 1), np.uint8)
    return Source(
        name="toy",
        images=np.broadcast_to(blank, (len(labels), 1, 1, 1)),
        labels=labels,
        parts=parts,
        class_names=tuple(f"c{index}" for index in range(labels.shape[1])),
        multi_label=multi_label,
    )


def train_and_test(train, test, *, unlabelled=0, multi_label=False):
    """A source of official parts that follow one another in the pool."""
    unknown = np.zeros((unlabelled, np.shape(train)[1]))
    sizes = dict(train=len(train), test=len(test), unlabelled=unlabelled)
    return source_of(
        np.concatenate([train, test, unknown]),
        consecutive_parts(**sizes),
        multi_label=multi_label,
    )


def shuffled_one_hot(counts, seed):
    classes = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(seed).shuffle(classes)
    return np.eye(len(counts), dtype=np.float32)[classes]


def random_multi_hot(number, shares, seed):
    random = np.random.default_rng(seed).random((number, len(shares)))
    return (random < shares).astype(np.float32)


def in_part(source, part):
    """Images and labels of a part."""
    return source.images[source.parts[part]], source.labels[source.parts[part]]


def sizes_of(split):
    return [len(getattr(split, name)) for name in FIELDS]


def sets_of(split):
    return {name: set(getattr(split, name).tolist()) for name in FIELDS}


SIZES = dict(labels_per_class=5, num_queries=12, num_validation=6, seed=0)


def arguments_of(protocol):
    """SIZES as the protocol takes them."""
    if protocol == "nus_wide_81":
        return SIZES | dict(protocol=protocol, labels_per_class=0, num_labelled=15)
    return SIZES | dict(protocol=protocol)


def cifar10(*, official=True):
    train, test = shuffled_one_hot([5000] * 10, 0), shuffled_one_hot([1000] * 10, 1)
    if official:
        return train_and_test(train, test)
    return source_of(np.concatenate([train, test]), {"all": np.arange(60_000)})


NO_LEAKS = {
    f"query_in_{name}": 0
    for name in ("labelled", "database", "validation", "unlabelled")
}
