"""What the loader and the builder of NUS-WIDE should say of a drawn tree."""

from ssah_jax.data.nus_wide import (
    CONCEPTS,
    FREQUENT_CONCEPTS,
)

NAMES = {21: FREQUENT_CONCEPTS, 81: CONCEPTS}


def expected(drawn, concepts, *, missing=True):
    """Rows of the list that belong in the source, and their label rows, by loops."""
    columns = [CONCEPTS.index(name) for name in NAMES[concepts]]
    rows, labels = [], []
    for row in range(len(drawn.names)):
        bits = [int(drawn.labels[row, column]) for column in columns]
        if any(bits) and not (missing and row in drawn.missing):
            rows.append(row)
            labels.append(bits)
    return rows, labels


def official(drawn, rows, part):
    wanted = part == "train"
    return [index for index, row in enumerate(rows) if (row in drawn.train) == wanted]
