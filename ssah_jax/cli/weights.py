"""`ssah weights`: weights that others trained, downloaded, verified and counted."""

import argparse
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from ssah_jax.cli.arguments import add_overwrite, as_path

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Last parts of the names of PyTorch's tensors that are counted, not trained."""


@dataclasses.dataclass(frozen=True)
class WeightsSummary:
    """A file of weights.

    Attributes:
        path: of the file.
        sha256: of its bytes, 64 hexadecimal digits.
        tensors: how many of each type, such as `{"float32": 161}`.
        parameters: how many numbers they hold, without `statistics`.
        statistics: how many numbers are a batch normalisation's means, variances
            and counters.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, int]
    parameters: int
    statistics: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ssah weights`."""
    parser.add_argument(
        "spec",
        metavar="WEIGHTS",
        type=as_path,
        help="hf:OWNER/NAME[@REVISION][:FILE], torchvision:NAME, a URL that ends in "
        "-SHA256.pth, or a file of safetensors' or PyTorch's",
    )
    parser.add_argument(
        "--entry",
        metavar="KEY",
        default="",
        help="which dictionary of tensors, for files of PyTorch's with several",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=as_path,
        help="write the tensors in safetensors' format too, such as for a machine "
        "without internet",
    )
    add_overwrite(parser)


def run(options: argparse.Namespace) -> int:
    """Runs `ssah weights`.

    Args:
        options: of the arguments above.

    Returns:
        0.

    Raises:
        UserError: there are no such weights, or they cannot be downloaded, read or
            written.
    """
    from ssah_jax.cli.errors import setting_up
    from ssah_jax.retrieval.files import one_line

    with setting_up():
        summary, written = fetch_weights(
            options.spec,
            out=options.out,
            entry=options.entry,
            overwrite=options.overwrite,
        )
    types = ", ".join(f"{number} {kind}" for kind, number in summary.tensors.items())
    counted = f" (and {summary.statistics:,} statistics)" if summary.statistics else ""
    print(f"file        {one_line(str(summary.path))}")
    print(f"sha256      {summary.sha256}")
    print(f"tensors     {sum(summary.tensors.values())} ({types})")
    print(f"parameters  {summary.parameters:,}{counted}")
    if written is not None:
        print(f"written     {one_line(str(written.path))}")
        print(f"its sha256  {written.sha256}")
    return 0


def fetch_weights(
    spec: str,
    *,
    out: str | os.PathLike[str] | None = None,
    entry: str = "",
    overwrite: bool = False,
) -> tuple[WeightsSummary, WeightsSummary | None]:
    """Downloads weights if need be, and reads all of them.

    Args:
        spec: as for `ssah_jax.networks.pretrained.locate`.
        out: a file to write in safetensors' format, atomically; None writes none.
        entry: as for `ssah_jax.networks.pretrained.read_tensors`.
        overwrite: whether `out` may be replaced.

    Returns:
        The file of `spec`, and that of `out` if there is one.

    Raises:
        ValueError: `out` is there already, or there is no folder for it.
        WeightsError: there are no such weights, or they cannot be downloaded, read
            or written.
    """
    from ssah_jax.cli.arguments import check_out
    from ssah_jax.networks.pretrained import digest, locate, read_tensors, write_tensors

    if out is not None:
        check_out(Path(out), overwrite=overwrite)
    path = locate(spec)
    tensors = read_tensors(path, entry=entry)
    kinds = sorted(str(array.dtype) for array in tensors.values())
    statistics = sum(
        array.size
        for name, array in tensors.items()
        if name.rpartition(".")[2] in STATISTICS
    )
    summary = WeightsSummary(
        path=path,
        sha256=digest(path),
        tensors={kind: kinds.count(kind) for kind in kinds},
        parameters=sum(array.size for array in tensors.values()) - statistics,
        statistics=statistics,
    )
    if out is None:
        return summary, None
    source = {"source": spec, "sha256": summary.sha256}
    write_tensors(out, tensors, metadata=source)
    return summary, dataclasses.replace(summary, path=Path(out), sha256=digest(out))
