"""`python -m ssah_jax`, the same as `ssah`."""

import sys

from ssah_jax.cli import main

sys.exit(main())
