"""The documentation site: `sphinx-build -W --keep-going docs docs/_build`.

Nothing is fetched while it is built or read: formulas become MathML, fonts are the
reader's. Text in `docs/*.md` links files of the repository as GitHub does.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import ssah_jax

project = "ssah_jax"
author = "the ssah_jax developers"
version = release = ssah_jax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "site_parts",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4
# Markdown of the repository begins with what fits its place there.
suppress_warnings = ["myst.header"]

# Notebooks are computed once, and again when they change.
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_in_temp = True
nb_merge_streams = True

# Docstrings write code between single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 72
