"""`ssah search`: the indexed images that are nearest to query images."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ssah_jax.cli.arguments import (
    add_index,
    add_root,
    as_images,
    as_path,
    check_html,
    write_html,
)
from ssah_jax.cli.encoders import (
    add_encoder,
    check_encoder,
    fingerprint_of,
    load_encoder,
)
from ssah_jax.cli.found import Hit, QueryResult, as_json, as_table
from ssah_jax.cli.images import find_and_tell, images_as_in_training
from ssah_jax.cli.two_stages import (
    OVERSAMPLE,
    QUERIES,
    add_two_stages,
    check_two_stages,
    describe_measure,
    distance_of,
    load_features,
    measure,
)
from ssah_jax.retrieval.codes import unpack
from ssah_jax.retrieval.feature_files import KeptFeatures
from ssah_jax.retrieval.files import CodeFileError
from ssah_jax.retrieval.index import Index, check_fingerprint, load_index
from ssah_jax.retrieval.reranking import rerank
from ssah_jax.retrieval.rows import among, matching

# As in ssah_jax.cli.encoding.
if TYPE_CHECKING:
    import ssah_jax.data.reading
    import ssah_jax.run.frozen_encoder
    import ssah_jax.run.image_encoder


_BATCH = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah search`."""
    add_encoder(parser)
    add_index(parser)
    parser.add_argument(
        "queries",
        metavar="QUERY",
        type=as_images,
        nargs="*",
        help="images to search for: files, folders, quoted patterns, or @FILE with a "
        "path a line",
    )
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument(
        "-k",
        metavar="N",
        type=int,
        default=10,
        help="how many images to find (default: 10)",
    )
    wanted.add_argument(
        "--radius",
        metavar="R",
        type=int,
        help="find all images within Hamming distance R instead, in an index that "
        "promises to: a flat one, or multihash up to its own radius",
    )
    parser.add_argument(
        "--label",
        metavar="NAME",
        action="append",
        default=[],
        help="only among images with this label; more than once: with one of them",
    )
    parser.add_argument(
        "--path",
        metavar="PATTERN",
        action="append",
        default=[],
        help="only among images whose path is like this, such as '*/2023/*'",
    )
    add_two_stages(parser)
    parser.add_argument(
        "--measure",
        action="store_true",
        help="print instead which share of the k nearest by cosine is found, with and "
        "without --rerank; without QUERY, by indexed images",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a JSON object a query instead of tables",
    )
    parser.add_argument(
        "--html",
        metavar="FILE",
        type=as_path,
        help="also write a page with thumbnails, complete in itself",
    )
    add_root(parser)


def run(options: argparse.Namespace) -> int:
    """Runs `ssah search`.

    Args:
        options: of the arguments above.

    Returns:
        0, or 1 if some queries could not be read.

    Raises:
        UserError: arguments, run, index, query or page do not fit.
    """
    from ssah_jax.cli.errors import UserError, setting_up
    from ssah_jax.data.reading import SkippedImages

    with setting_up():
        check_encoder(options)
        repeated: list[str] = []
        _check_two_stages(options)
        names = find_and_tell(options.queries, repeated) if options.queries else []
        check_html(options.html)
        index = load_index(options.index)
        if options.label or options.path:
            index = among(
                index, matching(index, labels=options.label, paths=options.path)
            )
        _check_wanted(index, k=options.k, radius=options.radius)
        features = None
        if options.rerank is not None or options.measure:
            features = load_features(options, index)
        if options.measure and not names:
            return _measure_stored(options, index, cast(KeptFeatures, features))
        encoder = load_encoder(options)
        check_fingerprint(index, encoder.fingerprint)
        images_as_in_training(encoder, names)
    if options.measure:
        return _measure_images(
            options, index, cast(KeptFeatures, features), encoder, names
        )
    skipped = SkippedImages(num_images=len(names), max_share=1.0)
    try:
        results = search_images(
            encoder,
            index,
            names,
            k=options.k,
            radius=options.radius,
            features=features,
            oversample=options.rerank or 1,
            skipped=skipped,
        )
    except CodeFileError as error:  # a query whose code is no number
        raise UserError(str(error)) from error
    if not results:
        raise UserError(
            skipped.reasons[0]
            if len(names) == 1
            else f"found none of {len(names)} queries readable (the first: "
            f"{skipped.reasons[0]})"
        )
    if options.html:
        _write_page(options, index, results)
    for number, result in enumerate(results):
        if options.json:
            print(json.dumps(as_json(result)))
        else:
            print("\n" * (number > 0) + as_table(result))
    sys.stdout.flush()
    for line in [*repeated, *skipped.reasons]:
        print(line, file=sys.stderr)
    return 1 if skipped.reasons else 0


def _write_page(
    options: argparse.Namespace, index: Index, results: Sequence[QueryResult]
) -> None:
    """`--html`."""
    from ssah_jax.cli.result_page import render

    page = render(
        results,
        about=f"{len(index.ids)} images, {index.bits} bits, {index.kind} index",
        root=None if options.root is None else Path(options.root),
    )
    write_html(options.html, page)


def search_images(
    encoder: "ssah_jax.run.image_encoder.ImageEncoder",
    index: Index,
    queries: Sequence[str],
    *,
    k: int = 10,
    radius: int | None = None,
    features: KeptFeatures | None = None,
    oversample: int = 1,
    skipped: "ssah_jax.data.reading.SkippedImages | None" = None,
) -> list[QueryResult]:
    """Searches an index for what is nearest to images.

    Args:
        encoder: of the model that encoded what is indexed.
        index: from `ssah_jax.retrieval.index.load_index`.
        queries: paths of images of any size and format.
        k: how many images to find, at least 1; more than there are finds all.
        radius: a Hamming distance in bits; finds all images within it instead of `k`.
            Only where the index finds all of them: a "flat" one does, "multihash" up
            to nhash * (nflip + 1) - 1.
        features: of the indexed images, in their order: what is found is ordered by
            the cosine of these.
        oversample: candidates by Hamming distance for each of the `k` that are then
            kept, at least 1.
        skipped: takes queries that cannot be read; None makes them an error.

    Returns:
        The results, in the order of `queries`, without those skipped.

    Raises:
        DataError: a query cannot be read.
        ValueError: the index is of another model, or cannot be searched so.
    """
    _check_wanted(index, k=k, radius=radius)
    check_fingerprint(index, encoder.fingerprint)
    images = images_as_in_training(encoder, queries)
    results = []
    # The encoder's own batch would be mostly filling.
    small = max(1, min(_BATCH, len(queries)))
    encode: Any = encoder.encode if features is None else encoder.encode_both
    for rows, codes, *theirs in encode(images, skipped=skipped, batch_size=small):
        wanted = len(index.ids) if radius is not None else k * oversample
        distances, found = index.search(codes, wanted)
        # Filling where fewer were found is farther than any code.
        near = distances <= (index.bits if radius is None else radius)
        cosines = np.full(found.shape, np.nan)
        if features is not None:
            cosines, ordered = rerank(
                theirs[0], features, np.where(near, found, -1), k=k
            )
            distances = distance_of(ordered, found, distances)
            found, near = ordered, ordered >= 0
        for row, query in enumerate(rows.tolist()):
            columns = (x[row, near[row]].tolist() for x in (distances, found, cosines))
            hits = tuple(
                Hit(
                    rank=rank,
                    distance=distance,
                    id=index.ids[image],
                    labels=index.labels[image] if index.labels else (),
                    similarity=None if features is None else cosine,
                )
                for rank, (distance, image, cosine) in enumerate(
                    zip(*columns, strict=True), start=1
                )
            )
            results.append(QueryResult(queries[query], hits))
    return results


def _measure_stored(
    options: argparse.Namespace, index: Index, features: KeptFeatures
) -> int:
    """`--measure` by indexed images, which needs no encoder."""
    from ssah_jax.run.frozen_encoder import sample_of

    if options.like is not None:
        check_fingerprint(index, fingerprint_of(options.like))
    own = sample_of(len(features), QUERIES, seed=0)
    found = measure(
        *(index, features, np.asarray(features[own], np.float32), own),
        codes=np.asarray(unpack(index.packed[own], bits=index.bits), np.float32),
        k=options.k,
        oversample=_oversample(options),
    )
    print(json.dumps(found) if options.json else describe_measure(found))
    return 0


def _measure_images(
    options: argparse.Namespace,
    index: Index,
    features: KeptFeatures,
    encoder: "ssah_jax.run.image_encoder.ImageEncoder",
    names: Sequence[str],
) -> int:
    """`--measure` by images; one that is indexed does not find itself."""
    batches = [*encoder.encode_both(encoder.image_files(names), batch_size=_BATCH)]
    where = {name: row for row, name in enumerate(index.ids)}
    own = np.array([where.get(name, -1) for name in names], np.int64)
    found = measure(
        *(index, features, np.concatenate([found for *_, found in batches]), own),
        codes=np.concatenate([codes for _, codes, _ in batches]),
        k=options.k,
        oversample=_oversample(options),
    )
    print(json.dumps(found) if options.json else describe_measure(found))
    return 0


def _oversample(options: argparse.Namespace) -> tuple[int, ...]:
    return OVERSAMPLE if options.rerank is None else tuple({1: 0, options.rerank: 0})


def _check_two_stages(options: argparse.Namespace) -> None:
    if not options.queries and not options.measure:
        raise ValueError("QUERY: found none, accepted are images to search for")
    check_two_stages(options)
    if options.rerank is not None and options.radius is not None:
        raise ValueError("--rerank: found --radius too, accepted is -k with it")
    if options.measure and options.radius is not None:
        raise ValueError("--measure: found --radius too, accepted is -k with it")


def _check_wanted(index: Index, *, k: int, radius: int | None) -> None:
    if radius is None and k < 1:
        raise ValueError(f"-k: found {k}, accepted is at least 1")
    if radius is not None and not 0 <= radius <= index.bits:
        raise ValueError(
            f"--radius: found {radius}, accepted is 0 to the code's {index.bits} bits"
        )
    if radius is not None:
        whole = index.bits if index.kind == "flat" else -1
        if index.kind == "multihash":
            whole = index.options["nhash"] * (index.options["nflip"] + 1) - 1
        if radius > whole:
            raise ValueError(
                f"--radius: found {radius}, accepted is "
                + (f"up to {whole} with this" if whole >= 0 else "-k instead with an")
                + f" {index.kind} index"
            )
