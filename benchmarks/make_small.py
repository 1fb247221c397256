"""The encoder that comes with the package: trained, exported, and what it is worth.

    python benchmarks/make_small.py PATH [--workdir RUN]

PATH is CIFAR-10 as a folder of JPEG files with `train/` and `test/`, a folder a class
in each. Writes `ssah_jax/run/shipped/small.safetensors`, its card and
`benchmarks/results/small.json`. A finished RUN is not trained again.
"""

import argparse
import hashlib
import sys

import records

from ssah_jax import cli
from ssah_jax.run.encoder_file import SHIPPED
from ssah_jax.run.report.card import write_card
from ssah_jax.run.workdir import Workdir

FIELDS = (
    "source=folder,store=memory,protocol=low_label,num_queries=1000,"
    "num_validation=1000,hnet.widths=(32,64,128),batch.labelled=64,"
    "batch.unlabelled=128,mean=(0.491,0.482,0.447),std=(0.247,0.243,0.262),"
    "max_shift=4,flip=True,eval.every=0,steps=1000,labels_per_class=500,draws=1,"
    "seed=0"
)


def main() -> int:
    """Returns 0, or the status of what failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--workdir", default="runs/small")
    options = parser.parse_args()
    workdir, target = Workdir(options.workdir), SHIPPED["small"]
    if not workdir.results.exists():
        config = f"configs/cifar10.py:{FIELDS},path={options.path}"
        status = cli.main(["train", "--config", config, "--workdir", options.workdir])
        if status:
            return status
    target.parent.mkdir(exist_ok=True)
    words = ["--workdir", options.workdir, "--to=safetensors", "--out", str(target)]
    if status := cli.main(["export", *words, "--overwrite"]):
        return status
    card = write_card(workdir).read_text()
    images = "- Images: CIFAR-10, a copy as JPEG files.\n"
    card = card.replace("## Data\n\n", f"## Data\n\n{images}", 1)
    target.with_suffix(".md").write_text(card.replace("--model FILE", "--model small"))
    content = target.read_bytes()
    records.write(
        "small",
        {
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            **workdir.read_measured(),
            "precision_at": workdir.read_results()["precision_at"],
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
