"""Train: `python train.py --config configs/digits.py`, the same as `ssah train`."""

import sys

from ssah_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
