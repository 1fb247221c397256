"""Pages for people, from templates: each complete in itself, all text in it escaped.

The templates lie in `templates/`. What Python hands them is text as it is, numbers and
bytes of pictures; Jinja escapes it all but the SVG of `plots`, which escapes its own.
"""

import base64
import functools
from typing import Any

import jinja2

from ssah_jax.retrieval.files import one_line


def render(template: str, **values: Any) -> str:
    """A page.

    Args:
        template: the name of a file in `templates/`.
        values: what it shows, by the names it uses.
    """
    return _environment().get_template(template).render(values)


def _data_url(content: bytes, *, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ssah_jax.run.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "one_line": one_line,
        "png": functools.partial(_data_url, kind="png"),
        "jpeg": functools.partial(_data_url, kind="jpeg"),
    }
    return environment
