"""Write docs/config.md from the fields: `python docs/make_config.py`."""

import itertools
from pathlib import Path

from ssah_jax.config import Config
from ssah_jax.config.describe import kind_name
from ssah_jax.config.fields import Field, get, walk
from ssah_jax.config.presets import SMOKE, VARIANTS

PAGE = Path(__file__).with_name("config.md")

_HEAD = """\
# Every field of a configuration

Made by `python docs/make_config.py` from `ssah_jax/config`; change it there.

`--config.FIELD=VALUE` sets a field on the command line, `configs/NAME.py:FIELD=VALUE`
by its full name or, where that is unique, its last part; `config.json` in the workdir
holds them all. A tuple accepts a single value too; each item has to be accepted.
Rules between fields stand beside the groups in `ssah_jax/config`: a configuration
that breaks one is refused in one line, like a value out of range.
`config.json_schema()` is the same list as a JSON Schema.
"""

_PRESETS = """
## Presets

Words after the colon of `--config configs/NAME.py:WORD,...`. The file adds to `smoke`
what its data set needs.

| word | sets |
| --- | --- |
"""


def page() -> str:
    """The text of docs/config.md."""
    parts = [_HEAD]
    for name, fields in itertools.groupby(walk(Config), _group):
        group = get(Config(), name) if name else Config()
        title = f"`{name}`" if name else "The run"
        first = (group.__doc__ or "").partition("\n")[0]
        parts.append(f"\n## {title}\n\n{first}\n\n")
        parts.append("| field | type | default | accepted | |\n")
        parts.append("| --- | --- | --- | --- | --- |\n")
        parts.extend(map(_row, fields))
    words = {"smoke": SMOKE} | VARIANTS
    rows = [
        f"| `{word}` | {', '.join(f'`{k}={v}`' for k, v in values.items())} |\n"
        for word, values in words.items()
    ]
    return "".join([*parts, _PRESETS, *rows])


def _group(field: Field) -> str:
    return field.name.rpartition(".")[0]


def _row(field: Field) -> str:
    default = str(field.default).replace("|", "\\|")
    cells = (
        f"`{field.name.rpartition('.')[2]}`",
        kind_name(field),
        f"`{default}`" if default else "",
        field.accepted,
        field.sentence,
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
