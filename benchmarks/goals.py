"""What was hoped for before anything was run, beside what records say, as a table.

python benchmarks/goals.py   # Markdown, for docs/results/ssah.md
"""

import statistics

import records
from study_record import SETS, paired, points

SUPERVISED, CHANCE, SSAH = "supervised", "random, whole family", "SSAH"
FOUR = "SSAH, hardest of 4 draws"
NUMBERS = ("none", "one seed", "two seeds", "three seeds", "four seeds", "five seeds")


def row_of(study: str, row: str, column: str) -> dict:
    """A row of a study's record."""
    (found,) = (
        line
        for line in records.read(study)["cells"]
        if (line["row"], line["column"]) == (row, column)
    )
    return found


def listed(values: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(values[:-1]), values[-1]]))


def beside(
    study: str,
    row: str,
    other: str,
    column: str,
    sets: tuple[str, ...] = ("map", *SETS),
) -> str:
    """Points of a row from another on clean, occluded and rotated queries; seeds."""
    lines = [row_of(study, each, column) for each in (row, other)]
    found = [paired(*lines, each) for each in sets]
    seeds = listed([NUMBERS[n] for n in dict.fromkeys(map(len, found))])
    return f"{listed(list(map(points, found)))} ({seeds})"


def lost(study: str, row: str, column: str) -> str:
    """Points by which occluded and rotated queries are below clean ones."""
    line = row_of(study, row, column)
    means = []
    for each in SETS:
        both = zip(line["map"], line[each], strict=True)
        means.append(statistics.mean(a - b for a, b in both if b is not None))
    return listed([f"{100 * mean:.1f}" for mean in means])


def goals() -> dict[str, str]:
    """What was hoped for, and what was measured."""
    clean = ("map",)
    return {
        "above chance in the same family by 2 on clean, 4 on occluded and rotated "
        "queries": "four draws, 50 labels a class of Fashion-MNIST: "
        f"{beside('adversary', FOUR, CHANCE, '50')}; 500 of CIFAR-10: "
        f"{beside('length_cifar10', FOUR, CHANCE, '3000')} after 3,000 steps, "
        f"{beside('length_cifar10', FOUR, CHANCE, '10000')} after 10,000",
        "no more than half a point below the best of four ranges made by hand": (
            "Fashion-MNIST "
            + beside("adversary", SSAH, "random, 45 degrees, windows to 0.6", "50")
            + "; CIFAR-10 "
            + beside(
                "adversary_cifar10", SSAH, "random, 30 degrees, windows to 0.5", "500"
            )
        ),
        "above supervised hashing on clean queries by 5, 3 and 1 with 10, 50 and 500 "
        "labels a class of Fashion-MNIST": listed(
            [
                beside("adversary", SSAH, SUPERVISED, column, clean)
                for column in ("10", "50", "500")
            ]
        ),
        "by 5 and 3 with 50 and 500 of CIFAR-10": "with 50 "
        f"{beside('adversary_cifar10', SSAH, SUPERVISED, '50', clean)} after 1,000 "
        "steps; with 500 "
        f"{beside('length_cifar10', SSAH, SUPERVISED, '1000', clean)} after 1,000, "
        f"{beside('length_cifar10', SSAH, SUPERVISED, '10000', clean)} after 10,000",
        "occluded and rotated queries within 4 points of clean ones": (
            "with 10, 50 and 500 of Fashion-MNIST below by "
            + "; ".join(lost("adversary", SSAH, n) for n in ("10", "50", "500"))
            + f"; with 500 of CIFAR-10 by {lost('length_cifar10', SSAH, '1000')}, and, "
            f"four draws and 10,000 steps, {lost('length_cifar10', FOUR, '10000')}"
        ),
        "above other semi-supervised methods, each tuned by five trials": (
            "50 labels a class of Fashion-MNIST: "
            + "; ".join(
                f"{beside('peers', SSAH, row, '50')} from {name}"
                for name, row in (
                    ("SSDPH", "SSDPH, weight 20"),
                    ("SSDH", "SSDH, weight 0.1"),
                    ("pseudo-labels", "pseudo-labels to 30 degrees, weight 1"),
                )
            )
        ),
        "0.86 with 32 bits of CIFAR-10 from ImageNet's weights": (
            f"{row_of('lite0_stages', SSAH, '500')['mean']:.3f}, the last stages of "
            "EfficientNet-Lite0 at 96 pixels, on one core"
        ),
    }


if __name__ == "__main__":
    print("| hoped for | measured |")
    print("| --- | --- |")
    for hoped, measured in goals().items():
        print(f"| {hoped} | {measured} |")
