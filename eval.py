"""Evaluate a run: `python eval.py --workdir DIR`, the same as `ssah eval`."""

import sys

from ssah_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
