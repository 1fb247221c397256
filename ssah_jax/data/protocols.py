"""Which images are queries, labelled, unlabelled and database: named, seeded splits.

The protocols, with their sizes on the data sets that they were made for, in the order
query / labelled / unlabelled / database, without validation:

- `low_label`, for few labels: queries and validation from part `test`, labelled from
  part `train`, whose other images are both unlabelled and database. This project's
  own.
- `54k`: the whole pool is split anew: queries equally from all classes, labelled
  equally from all classes, all others are both unlabelled and database. CIFAR-10:
  1,000 / 5,000 / 54,000 / 54,000. DCH, HashGAN and GPQ
  (https://github.com/youngkyunJang/GPQ) use it.
- `59k`: the same draws, but labelled images stay in the database. CIFAR-10: 1,000 /
  5,000 / 54,000 / 59,000. GreedyHash, OrthoHash, DSDH and, for semi-supervised
  hashing, SSDPH use it; "cifar10-1" of
  https://github.com/swuxyj/DeepHash-pytorch.
- `pooled`: the rule of `59k` for a data set of any size, such as one's own folder.
- `nus_wide_21`: the rule of `59k` for the 21 most frequent concepts of NUS-WIDE:
  2,100 / 10,500 / 183,234 / 193,734. Each image counts for one of its classes only
  (see `make_split`), first in the walk for the queries, then in that for the labelled
  images. Others draw these 100 and 500 a class differently, so that numbers compare
  only roughly: DeepHash-pytorch fills both sets in one walk; TALR
  (https://github.com/kunhe/TALR) goes from class to class and picks among the images
  not chosen yet; DSDH_PyTorch (https://github.com/TreezzZ/DSDH_PyTorch) has a fixed
  list of queries and draws the labelled images uniformly.
- `nus_wide_81`: uniform draws from the whole pool, whatever the classes; labelled
  images stay in the database. All 81 concepts of NUS-WIDE, in the numbers of "HashNet:
  Deep Learning to Hash by Continuation" (https://arxiv.org/abs/1702.00758): 5,000 /
  10,000 / 158,692 / 168,692. HashNet's own lists of images are read by `listed`.
- `full` and `official`, one rule: queries from part `test`, labelled from part `train`,
  all of which is the database. CIFAR-10 ("cifar10-2" of DeepHash-pytorch): 10,000 /
  50,000 / 0 / 50,000; CUB-200-2011: 5,794 / 5,994 / 0 / 5,994; Stanford Dogs: 8,580 /
  12,000 / 0 / 12,000, both as in https://github.com/aassxun/DSH_Analysis.
- `unseen`, retrieval of classes that training never saw: a share of all classes, drawn
  at random, is held out. Training takes images of part `train` that show none of
  these; queries are images of part `test`, and the database is those of part `train`,
  that show nothing else. Images of part `unlabelled` are left out, because they may
  show anything. DSH_Analysis does this with the last classes instead of random ones.
- `listed`: as the lists of a data set say: queries are part `test`, labelled is part
  `train` and the database is part `database`, or `train` where there is none. Lists
  of HashNet; in those of COCO queries lie in the database, and the split is refused.

Where there is a part `validation`, validation queries come from it in those that take
queries from part `test` (but `unseen`).

Images of part `unlabelled`, whose labels nobody knows, are unlabelled in all of them
but `unseen`, and never anything else. A data set without classes is not split: all its
images are unlabelled and the database, and there are no queries.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Int64

from ssah_jax.data import seeded
from ssah_jax.data.draws import Numbers, draw_queries
from ssah_jax.data.source import Source
from ssah_jax.data.splits import either, without


@dataclasses.dataclass(frozen=True, eq=False)
class Roles:
    """The queries, and who may be what else; sorted indices into the pool.

    Attributes:
        query: the queries.
        training: those that labelled images are drawn from.
        database: what is searched.
        unlabelled: those to train with if they are neither labelled nor validation.
        validation: those that validation queries are drawn from; None for `database`.
        hidden: classes that no labelled image is drawn for, `[C]`; None for none.
    """

    query: Int64[np.ndarray, "Q"]
    training: Int64[np.ndarray, "L"]
    database: Int64[np.ndarray, "N"]
    unlabelled: Int64[np.ndarray, "U"]
    validation: Int64[np.ndarray, "V"] | None = None
    hidden: Bool[np.ndarray, "C"] | None = None


def _official_parts(
    source: Source, numbers: Numbers
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "m"]]:
    """Parts `train` and `test`, or a ValueError that says which there are."""
    train, test = source.part("train"), source.part("test")
    if not (len(train) and len(test)):
        found = [name for name, indices in source.parts.items() if len(indices)]
        raise ValueError(
            f"protocol {numbers.protocol!r}: found parts "
            f"{', '.join(sorted(found)) or 'none'}, expected train and test"
        )
    return train, test


def _low_label(source: Source, numbers: Numbers) -> Roles:
    """Roles of `low_label`."""
    train, test = _official_parts(source, numbers)
    own = source.parts.get("validation")
    found = (numbers.num_queries, numbers.num_validation)
    if own is None and sum(found) > len(test):
        raise ValueError(
            f"num_queries + num_validation: found {found[0]} + {found[1]} = "
            f"{sum(found)}, expected at most {len(test)}, the number of test images"
        )
    query = draw_queries(source, test, numbers, of="test images")
    unlabelled = either(train, source.part("unlabelled"))
    rest = without(test, query) if own is None else own
    return Roles(query, train, train, unlabelled, validation=rest)


def pooled(source: Source, numbers: Numbers) -> Roles:
    """Roles of the protocols that split the whole pool anew."""
    everything = np.arange(len(source))
    known = without(everything, source.part("unlabelled"))
    query = draw_queries(source, known, numbers, of="images with known labels")
    rest = without(known, query)
    return Roles(query, rest, rest, without(everything, query))


def _official(source: Source, numbers: Numbers) -> Roles:
    """Roles of `official` and `full`."""
    train, test = _official_parts(source, numbers)
    query = draw_queries(source, test, numbers, of="test images")
    unlabelled = either(train, source.part("unlabelled"))
    return Roles(query, train, train, unlabelled, source.parts.get("validation"))


def _listed(source: Source, numbers: Numbers) -> Roles:
    """Roles of `listed`."""
    train, test = _official_parts(source, numbers)
    query = draw_queries(source, test, numbers, of="test images")
    database = source.part("database") if "database" in source.parts else train
    unlabelled = either(database, source.part("unlabelled"))
    return Roles(query, train, database, unlabelled, source.parts.get("validation"))


def _unseen(source: Source, numbers: Numbers) -> Roles:
    """Roles of `unseen`."""
    train, test = _official_parts(source, numbers)
    num_classes, share = source.num_classes, numbers.unseen_share
    if num_classes < 3:
        raise ValueError(
            f"protocol 'unseen': found {num_classes} classes, expected at least 3"
        )
    number = min(max(round(share * num_classes), 1), num_classes - 2)
    hidden = np.zeros(num_classes, bool)
    hidden[seeded.permutation(numbers.seed, num_classes, "unseen")[:number]] = True
    shows_hidden = source.labels @ hidden > 0
    only_hidden = shows_hidden & (source.labels @ ~hidden == 0)
    of = "test images that show only unseen classes"
    query = draw_queries(source, test[only_hidden[test]], numbers, of=of)
    seen, unseen = train[~shows_hidden[train]], train[only_hidden[train]]
    return Roles(query, seen, unseen, seen, hidden=hidden)


PROTOCOLS: Mapping[str, Callable[[Source, Numbers], Roles]] = {
    "low_label": _low_label,
    "54k": pooled,
    "59k": pooled,
    "pooled": pooled,
    "nus_wide_21": pooled,
    "nus_wide_81": pooled,
    "full": _official,
    "official": _official,
    "unseen": _unseen,
    "listed": _listed,
}
"""The rules by name; each says who may be what, and `make_split` draws from that."""
