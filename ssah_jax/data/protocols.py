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
but `unseen`, and never anything else.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float32, Int64

from ssah_jax.data import seeded
from ssah_jax.data.source import Source
from ssah_jax.data.splits import Split, either, without


def make_split(
    source: Source,
    *,
    protocol: str = "low_label",
    labels_per_class: int,
    num_queries: int,
    num_validation: int,
    seed: int,
    num_labelled: int = 0,
    unseen_share: float = 0.25,
    num_unlabelled: int | None = None,
    on_leak: str = "raise",
) -> Split:
    """Draws a split by a named protocol; the module says what each of them does.

    Labelled images: a random order of the images is walked until each class has
    `labels_per_class` of them. An image of several classes counts for the first of
    them, by column, that still has room; one without any is never taken.

    Queries: the same walk, with as equal a room for all classes as their sizes allow;
    images without any class come last.

    Validation queries are drawn like queries, from database images that are not
    labelled, and stay in the database; `low_label` draws them from the rest of part
    `test` instead. Where all labels are used and too few other images are left, they
    come first and the labelled images are the rest. Training never sees them, not even
    without labels: they are to do what queries do. In `unseen` they show unseen
    classes, the only ones that its database can answer for; model selection by them
    uses labels that the protocol hides, and a strict run does without.

    Each draw has its own random stream: a change of `num_validation` changes nothing
    that is drawn, save that `unlabelled` (and `labelled` where all labels are used)
    leaves out other images, and one of `labels_per_class` does not change the
    queries. Protocols share the streams, so `54k` and `59k` differ in the database
    alone.

    Args:
        source: the data set.
        protocol: the name of the rule, one of `PROTOCOLS`.
        labels_per_class: labelled images of each class; 0 for all, where labelled
            images stay in the database.
        num_queries: queries; 0 for all of the part they come from, where they come
            from one.
        num_validation: validation queries; may be 0.
        seed: of the draws; any integer.
        num_labelled: labelled images of any class, for `nus_wide_81` only; 0 for all.
        unseen_share: share of classes that `unseen` holds out, in (0, 1); at least one
            class is, and at least two are not.
        num_unlabelled: how many unlabelled images to train with; None for all.
        on_leak: what queries do that the data set also has in the part of the labelled
            or the database, as some published lists do: "raise", or "drop" takes them
            out of these and counts them in `Split.num_leaks`.

    Returns:
        A split that has passed its `check`.

    Raises:
        ValueError: an unknown protocol, a part that it needs and the source lacks, a
            number that the source cannot serve, labels that are not multi-hot, or
            queries that lie in the database.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(
            f"protocol: found {protocol!r}, accepted are {', '.join(PROTOCOLS)}"
        )
    if on_leak not in ON_LEAK:
        raise ValueError(f"on_leak: found {on_leak!r}, accepted are raise, drop")
    numbers = _Numbers(
        protocol=protocol,
        labels_per_class=labels_per_class,
        num_labelled=num_labelled,
        num_queries=num_queries,
        num_validation=num_validation,
        num_unlabelled=num_unlabelled,
        unseen_share=unseen_share,
        seed=seed,
    )
    _check_numbers(numbers)
    _check_labels(source)
    roles, num_leaks = PROTOCOLS[protocol](source, numbers), 0
    if on_leak == "drop":
        roles, num_leaks = _without_leaks(roles)
    split = _draw(source, roles, numbers)
    split = dataclasses.replace(split, num_leaks=num_leaks)
    split.check(source)
    return split


def _without_leaks(roles: "_Roles") -> tuple["_Roles", int]:
    """The roles without queries that are something else too; how many there were."""
    sets = ("training", "database", "unlabelled")
    other = {name: getattr(roles, name) for name in sets}
    leaks = np.isin(roles.query, np.concatenate(list(other.values())))
    kept = {name: without(rows, roles.query) for name, rows in other.items()}
    return dataclasses.replace(roles, **kept), int(leaks.sum())


@dataclasses.dataclass(frozen=True)
class _Numbers:
    """The arguments of `make_split`."""

    protocol: str
    labels_per_class: int
    num_labelled: int
    num_queries: int
    num_validation: int
    num_unlabelled: int | None
    unseen_share: float
    seed: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Roles:
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


def _low_label(source: Source, numbers: _Numbers) -> _Roles:
    """Roles of `low_label`."""
    train, test = _official_parts(source, numbers)
    own = _validation(source)
    found = (numbers.num_queries, numbers.num_validation)
    if own is None and sum(found) > len(test):
        raise ValueError(
            f"num_queries + num_validation: found {found[0]} + {found[1]} = "
            f"{sum(found)}, expected at most {len(test)}, the number of test images"
        )
    query = _draw_queries(source, test, numbers, of="test images")
    unlabelled = either(train, _part(source, "unlabelled"))
    rest = without(test, query) if own is None else own
    return _Roles(query, train, train, unlabelled, validation=rest)


def _pooled(source: Source, numbers: _Numbers) -> _Roles:
    """Roles of the protocols that split the whole pool anew."""
    everything = np.arange(len(source))
    known = without(everything, _part(source, "unlabelled"))
    query = _draw_queries(source, known, numbers, of="images with known labels")
    rest = without(known, query)
    return _Roles(query, rest, rest, without(everything, query))


def _official(source: Source, numbers: _Numbers) -> _Roles:
    """Roles of `official` and `full`."""
    train, test = _official_parts(source, numbers)
    query = _draw_queries(source, test, numbers, of="test images")
    unlabelled = either(train, _part(source, "unlabelled"))
    return _Roles(query, train, train, unlabelled, _validation(source))


def _listed(source: Source, numbers: _Numbers) -> _Roles:
    """Roles of `listed`."""
    train, test = _official_parts(source, numbers)
    query = _draw_queries(source, test, numbers, of="test images")
    database = _part(source, "database") if "database" in source.parts else train
    unlabelled = either(database, _part(source, "unlabelled"))
    return _Roles(query, train, database, unlabelled, _validation(source))


def _unseen(source: Source, numbers: _Numbers) -> _Roles:
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
    query = _draw_queries(source, test[only_hidden[test]], numbers, of=of)
    seen, unseen = train[~shows_hidden[train]], train[only_hidden[train]]
    return _Roles(query, seen, unseen, seen, hidden=hidden)


ON_LEAK = ("raise", "drop")
"""What may become of queries that are in the database too."""

PROTOCOLS: Mapping[str, Callable[[Source, _Numbers], _Roles]] = {
    "low_label": _low_label,
    "54k": _pooled,
    "59k": _pooled,
    "pooled": _pooled,
    "nus_wide_21": _pooled,
    "nus_wide_81": _pooled,
    "full": _official,
    "official": _official,
    "unseen": _unseen,
    "listed": _listed,
}
"""The rules by name; each says who may be what, and `make_split` draws from that."""

_LABELLED_LEAVE_DATABASE = ("low_label", "54k")
_UNIFORM = ("nus_wide_81",)


def _draw(source: Source, roles: _Roles, numbers: _Numbers) -> Split:
    """Draws everything but the queries."""
    database, validation = roles.database, roles.validation
    labelled = _draw_labelled(source, roles, numbers)
    if numbers.protocol in _LABELLED_LEAVE_DATABASE:
        database = without(database, labelled)
        if not len(database):
            raise ValueError(
                f"labels_per_class: found {numbers.labels_per_class}, expected fewer: "
                f"all {len(labelled)} images are labelled and the database is empty"
            )
    free = without(database if validation is None else validation, labelled)
    all_labelled = not (numbers.labels_per_class or numbers.num_labelled)
    if validation is None and all_labelled and len(free) < numbers.num_validation:
        free = database
    most = len(free) if validation is not None else min(len(free), len(database) - 1)
    if numbers.num_validation > max(most, 0):
        where = f"of {len(database)} database images"
        if roles.validation is not None:
            where = f"of {len(roles.validation)} images of the part they come from"
        none = "; 0 is for none, with eval.every=0" if most < 1 else ""
        raise ValueError(
            f"num_validation: found {numbers.num_validation}, expected at most "
            f"{max(most, 0)} {where}{none}"
        )
    validation = _draw_some(
        source.labels, free, numbers.num_validation, numbers, name="validation"
    )
    # An order of all, then without the validation images: fewer of those change little.
    unlabelled = without(roles.unlabelled, labelled)
    if numbers.num_unlabelled is not None:
        order = seeded.permutation(numbers.seed, len(unlabelled), "unlabelled")
        unlabelled = unlabelled[order]
    unlabelled = unlabelled[~np.isin(unlabelled, validation)]
    if (numbers.num_unlabelled or 0) > len(unlabelled):
        raise ValueError(
            f"num_unlabelled: found {numbers.num_unlabelled}, expected at most "
            f"{len(unlabelled)}, the number of training images without labels"
        )
    split = Split(
        protocol=numbers.protocol,
        seed=numbers.seed,
        query=roles.query,
        validation=validation,
        labelled=np.sort(without(labelled, validation)),
        unlabelled=np.sort(unlabelled[: numbers.num_unlabelled]),
        database=database,
    )
    for name in ("labelled", "database"):
        if not len(getattr(split, name)):
            raise ValueError(
                f"protocol {numbers.protocol!r}: found no {name} images, expected at "
                "least 1"
            )
    return split


def _draw_queries(
    source: Source, candidates: Int64[np.ndarray, "M"], numbers: _Numbers, *, of: str
) -> Int64[np.ndarray, "Q"]:
    """Draws the queries, or takes all candidates for 0; `of` is what these are."""
    if not len(candidates):
        raise ValueError(
            f"protocol {numbers.protocol!r}: found no {of}, expected at least 1"
        )
    if numbers.num_queries > len(candidates):
        raise ValueError(
            f"num_queries: found {numbers.num_queries}, expected at most "
            f"{len(candidates)}, the number of {of}"
        )
    if not numbers.num_queries:
        return candidates
    return _draw_some(
        source.labels, candidates, numbers.num_queries, numbers, name="query"
    )


def _draw_labelled(
    source: Source, roles: _Roles, numbers: _Numbers
) -> Int64[np.ndarray, "L"]:
    """Draws labelled images, sorted, before validation queries may leave them."""
    training = roles.training
    if numbers.num_labelled > len(training):
        raise ValueError(
            f"num_labelled: found {numbers.num_labelled}, expected at most "
            f"{len(training)}, the number of images that are not queries"
        )
    if numbers.num_labelled:
        return _draw_some(
            source.labels, training, numbers.num_labelled, numbers, name="labelled"
        )
    if not numbers.labels_per_class:
        return training
    order = training[seeded.permutation(numbers.seed, len(training), "labelled")]
    open_classes = np.ones(source.num_classes, np.int64)
    if roles.hidden is not None:
        open_classes[roles.hidden] = 0
    room = numbers.labels_per_class * open_classes
    taken, room = _walk(source.labels[order], room)
    if room.any():
        raise ValueError(_too_many_labels(source, order, room, open_classes, numbers))
    return np.sort(order[taken])


def _too_many_labels(
    source: Source,
    order: Int64[np.ndarray, "M"],
    room: Int64[np.ndarray, "C"],
    open_classes: Int64[np.ndarray, "C"],
    numbers: _Numbers,
) -> str:
    """Why some class has too few labelled images, and how many it can have."""
    wanted, labels = numbers.labels_per_class, source.labels[order]
    lacking = int(np.argmax(room))
    name = repr(source.class_names[lacking])
    showing = int(np.sum(labels[:, lacking] > 0))
    zero = "" if numbers.protocol in _LABELLED_LEAVE_DATABASE else ", or 0 for all"
    if not showing:
        return (
            f"labels_per_class: found {wanted}, but no training image of class {name} "
            f"is left, expected some of each class{zero}"
        )
    if not source.multi_label:
        return (
            f"labels_per_class: found {wanted}, expected at most {showing}, the number "
            f"of training images left for class {name}{zero}"
        )
    least, most = 0, wanted
    while most - least > 1:
        middle = (least + most) // 2
        if _walk(labels, middle * open_classes)[1].any():
            most = middle
        else:
            least = middle
    elsewhere = showing - (wanted - int(room[lacking]))
    return (
        f"labels_per_class: found {wanted}, expected at most {least}{zero}: {showing} "
        f"training images show class {name}, and {elsewhere} of them count for another "
        "class of theirs"
    )


def _part(source: Source, name: str) -> Int64[np.ndarray, "n"]:
    """The indices of a part, none where the source lacks it."""
    return source.parts.get(name, np.zeros(0, np.int64))


def _validation(source: Source) -> Int64[np.ndarray, "n"] | None:
    """Part `validation`, which validation queries are drawn from; None without it."""
    return source.parts.get("validation")


def _official_parts(
    source: Source, numbers: _Numbers
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "m"]]:
    """Parts `train` and `test`, or a ValueError that says which there are."""
    train, test = _part(source, "train"), _part(source, "test")
    if not (len(train) and len(test)):
        found = [name for name, indices in source.parts.items() if len(indices)]
        raise ValueError(
            f"protocol {numbers.protocol!r}: found parts "
            f"{', '.join(sorted(found)) or 'none'}, expected train and test"
        )
    return train, test


def _check_numbers(numbers: _Numbers) -> None:
    """Raises ValueError for numbers that no source could serve."""
    why = f"because of protocol {numbers.protocol!r}"
    least = {"labels_per_class": 0, "num_labelled": 0, "num_validation": 0}
    least |= {"num_queries": 0, "num_unlabelled": 1}
    for name, smallest in least.items():
        found = getattr(numbers, name)
        if found is not None and found < smallest:
            raise ValueError(f"{name}: found {found}, expected at least {smallest}")
    if not 0 < numbers.unseen_share < 1:
        raise ValueError(
            f"unseen_share: found {numbers.unseen_share}, expected more than 0 and "
            "less than 1"
        )
    needed = []
    if numbers.protocol in _LABELLED_LEAVE_DATABASE:
        needed.append("labels_per_class")
    if numbers.protocol == "low_label" or PROTOCOLS[numbers.protocol] is _pooled:
        needed.append("num_queries")
    for name in needed:
        if not getattr(numbers, name):
            raise ValueError(f"{name}: found 0, expected at least 1 {why}")
    unused, other = "num_labelled", "labels_per_class"
    if numbers.protocol in _UNIFORM:
        unused, other = other, unused
    if getattr(numbers, unused):
        raise ValueError(
            f"{unused}: found {getattr(numbers, unused)}, expected 0 {why}, which "
            f"takes {other}"
        )


def _check_labels(source: Source) -> None:
    """Raises ValueError unless labels are multi-hot, or one-hot where they must be."""
    labels = source.labels
    wrong = (labels != 0) & (labels != 1)
    if wrong.any():
        raise ValueError(
            f"source.labels: found the value {labels[wrong][0]}, expected 0 or 1"
        )
    counts = labels.sum(axis=1)
    unknown = _part(source, "unlabelled")
    if counts[unknown].any():
        image = unknown[np.argmax(counts[unknown] > 0)]
        raise ValueError(
            f"source.labels: found {counts[image]:.0f} labels of image {image}, "
            "expected none because it is in part 'unlabelled'"
        )
    if not source.multi_label:
        counts[unknown] = 1
        if (counts != 1).any():
            image = np.argmax(counts != 1)
            raise ValueError(
                f"source.labels: found {counts[image]:.0f} labels of image {image}, "
                "expected 1 because the source is not multi-label"
            )


def _draw_some(
    labels: Float32[np.ndarray, "N C"],
    candidates: Int64[np.ndarray, "M"],
    number: int,
    numbers: _Numbers,
    *,
    name: str,
) -> Int64[np.ndarray, "n"]:
    """Draws `number <= M` of the candidates, sorted, in the manner of the protocol."""
    seed = numbers.seed
    if numbers.protocol not in _UNIFORM:
        return _draw_balanced(labels, candidates, number, seed=seed, name=name)
    order = candidates[seeded.permutation(seed, len(candidates), name)]
    # An image without any class is no use as a query, nor for its label.
    shown = labels[order].any(axis=1)
    return np.sort(np.concatenate([order[shown], order[~shown]])[:number])


def _walk(
    labels: Float32[np.ndarray, "N C"], room: Int64[np.ndarray, "C"]
) -> tuple[Bool[np.ndarray, "N"], Int64[np.ndarray, "C"]]:
    """Takes images in order, each for its first class with room, until all is full.

    Args:
        labels: multi-hot labels in the order of the walk, `[N, C]`.
        room: how many images each class may take, `[C]`.

    Returns:
        Which images were taken, `[N]`, and the room that is left, `[C]`.
    """
    left = room.tolist()
    places = sum(left)
    taken = np.zeros(len(labels), bool)
    rows, classes = np.nonzero(labels)
    for row, label in zip(rows.tolist(), classes.tolist(), strict=True):
        if not places:
            break
        if left[label] and not taken[row]:
            taken[row] = True
            left[label] -= 1
            places -= 1
    return taken, np.array(left, np.int64)


def _draw_balanced(
    labels: Float32[np.ndarray, "N C"],
    candidates: Int64[np.ndarray, "M"],
    number: int,
    *,
    seed: int,
    name: str,
) -> Int64[np.ndarray, "n"]:
    """Draws `number <= M` of the candidates, sorted, as equally from all classes.

    Places go equally to the classes that still have images, those that have taken
    fewest first, until all places are filled; images without any label come last.
    """
    num_classes = labels.shape[1]
    class_order = seeded.permutation(seed, num_classes, name, "classes")
    left = candidates[seeded.permutation(seed, len(candidates), name)]
    filled = np.zeros(num_classes, np.int64)
    drawn = left[:0]
    while len(drawn) < number:
        missing = number - len(drawn)
        open_classes = class_order[labels[left].any(axis=0)[class_order]]
        if not len(open_classes):
            return np.sort(np.concatenate([drawn, left[:missing]]))
        fewest_first = open_classes[np.argsort(filled[open_classes], kind="stable")]
        room = np.zeros(num_classes, np.int64)
        room[fewest_first] = missing // len(fewest_first)
        room[fewest_first[: missing % len(fewest_first)]] += 1
        taken, unused = _walk(labels[left], room)
        filled += room - unused
        drawn = np.concatenate([drawn, left[taken]])
        left = left[~taken]
    return np.sort(drawn)
