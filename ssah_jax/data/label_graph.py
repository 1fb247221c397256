"""Labels that spread over a graph of alike images: what unlabelled ones may show.

A network that has seen a hundred labels knows little; which images are alike is known
before any training. Labels therefore spread from image to image over the graph of
nearest neighbours (Zhou et al., "Learning with Local and Global Consistency", NeurIPS
2003; Iscen et al., "Label Propagation for Deep Semi-supervised Learning",
https://arxiv.org/abs/1904.04717), once, before the first step. What they say of an
image is one of the two opinions that the consistent loss hears.
"""

from collections.abc import Callable

import faiss
import numpy as np
import scipy.sparse
from jaxtyping import Float32, Int64
from sklearn.decomposition import PCA

from ssah_jax.data.reading import Reader, SkippedImages
from ssah_jax.data.source import ImageSequence

_AFFINITY_POWER = 3
_BLOCK = 1024
_COMPONENTS = 64
_LONGEST_SIDE = 32

Progress = Callable[[int], object]
"""Is told how many more images are done."""


def spread_labels(
    features: Float32[np.ndarray, "N D"],
    labels: Float32[np.ndarray, "L C"],
    labelled: Int64[np.ndarray, "L"],
    *,
    multi_label: bool = False,
    neighbours: int = 10,
    alpha: float = 0.99,
    iterations: int = 30,
) -> Float32[np.ndarray, "N C"]:
    """Probabilities of the classes of all images, from the labels of some.

    Affinities are `max(cos, 0)^3` of each image's nearest neighbours, made symmetric
    and normalised by both degrees; labels spread by `Z <- alpha S Z + (1 - alpha) Y`.
    Each class is then scaled so that its share over all images is that among the
    labelled ones (class mass normalisation). Several labels: presence and absence of
    each class spread apart, and compete.

    Cost: O(N^2 D) time for the exact neighbours, O(N (neighbours + C)) memory.

    Args:
        features: any real, `[N, D]`; only their directions count.
        labels: multi-hot `[L, C]` in {0, 1}.
        labelled: rows of `features` that they belong to, `[L]`.
        multi_label: whether classes are independent.
        neighbours: of each image, at least 1.
        alpha: share that an image takes from its neighbours, in [0, 1).
        iterations: of the spreading, at least 1.

    Returns:
        `[N, C]` in [0, 1]; rows sum to 1 unless `multi_label`. An image that no label
        reaches has the shares of the labels.
    """
    graph = _graph(features, neighbours)
    prior = labels.mean(axis=0)
    present = _spread(graph, labels, labelled, alpha, iterations)
    present = prior * present / np.maximum(present.mean(axis=0), 1e-12)
    if multi_label:
        absent = _spread(graph, 1.0 - labels, labelled, alpha, iterations)
        absent = (1.0 - prior) * absent / np.maximum(absent.mean(axis=0), 1e-12)
        total = present + absent
    else:
        total = np.broadcast_to(present.sum(axis=1, keepdims=True), present.shape)
        prior = prior / prior.sum()
    reached = total > 1e-12
    found = np.where(reached, present / np.where(reached, total, 1.0), prior)
    return found.astype(np.float32)


def image_points(
    images: ImageSequence,
    indices: Int64[np.ndarray, "N"],
    *,
    skipped: SkippedImages | None = None,
    progress: Progress | None = None,
) -> Float32[np.ndarray, "N D"]:
    """Images as points whose directions tell which ones are alike, `[N, D]`.

    Means over blocks of pixels, at most 32 a side; their 64 largest principal
    components, each divided by the root of its standard deviation, which is halfway
    to whitening. Stored features go the same way. It serves images that are aligned
    and alike in light; for photographs use features of a pretrained backbone.

    Args:
        images: where they are.
        indices: which of them, `[N]`.
        skipped: takes images that cannot be read, whose rows are then zero; None
            makes them an error.
        progress: is told how many more images are done.

    Raises:
        DataError: an image cannot be read.
    """
    reader = Reader(images, skipped=skipped)
    rows, readable = [], []
    for start in range(0, len(indices), _BLOCK):
        batch, good = reader(indices[start : start + _BLOCK])
        if np.issubdtype(batch.dtype, np.floating):
            # Of features of several views, those of the image itself.
            batch = batch[:, :1]
        rows.append(_shrink(batch))
        readable.append(good)
        if progress is not None:
            progress(len(batch))
    points, good = np.concatenate(rows), np.concatenate(readable)
    number = min(_COMPONENTS, points.shape[1], int(good.sum()))
    pca = PCA(number, svd_solver="randomized", random_state=0).fit(points[good])
    found = pca.transform(points)
    found /= np.sqrt(np.maximum(found[good].std(axis=0), 1e-6))
    found[~good] = 0.0
    return found.astype(np.float32)


def _shrink(batch: np.ndarray) -> Float32[np.ndarray, "B D"]:
    """Means over square blocks of pixels, at most 32 blocks a side."""
    number, height, width, channels = batch.shape
    side = -(-max(height, width) // _LONGEST_SIDE)
    height, width = height // side, width // side
    batch = batch[:, : height * side, : width * side].astype(np.float32)
    blocks = batch.reshape(number, height, side, width, side, channels)
    return blocks.mean(axis=(2, 4)).reshape(number, -1)


def _graph(
    features: Float32[np.ndarray, "N D"], neighbours: int
) -> scipy.sparse.csr_matrix:
    """Normalised affinities between neighbours, symmetric `[N, N]`."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = np.ascontiguousarray(features / np.maximum(lengths, 1e-12), np.float32)
    number = len(unit)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    alike, columns = index.search(unit, min(neighbours + 1, number))
    rows = np.repeat(np.arange(number), columns.shape[1])
    # An image is its own neighbour, unless it has many doubles.
    weight = np.maximum(alike.ravel(), 0.0) ** _AFFINITY_POWER
    weight[rows == columns.ravel()] = 0.0
    graph = scipy.sparse.csr_matrix(
        (weight, (rows, columns.ravel())), shape=(number, number)
    )
    graph = graph + graph.T
    degree = np.asarray(graph.sum(axis=1)).ravel()
    scale = scipy.sparse.diags(1.0 / np.sqrt(np.maximum(degree, 1e-12)))
    return scale @ graph @ scale


def _spread(
    graph: scipy.sparse.csr_matrix,
    labels: Float32[np.ndarray, "L C"],
    labelled: Int64[np.ndarray, "L"],
    alpha: float,
    iterations: int,
) -> np.ndarray:
    """What reaches each image of each class, `[N, C]`, at least 0."""
    start = np.zeros((graph.shape[0], labels.shape[1]))
    start[labelled] = labels
    found = start
    for _ in range(iterations):
        found = alpha * (graph @ found) + (1.0 - alpha) * start
    return found
