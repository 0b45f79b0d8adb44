"""Settings to read: as YAML with their meaning, and as the tables of docs/settings.md.

>>> from segkit.settings import TimelineSettings
>>> print(as_yaml(TimelineSettings()))
# a longer silence of the speaker ends the utterance [a number, 0 or more (seconds); paper 3.3]
max_pause_s: 1.0
# a shorter silence is not a pause; the usual threshold of IPUs [a number, 0 or more (seconds); Heldner and Edlund 2010]
min_pause_s: 0.2
"""

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

import yaml

from segkit.settings.base import Named, Settings, group_of


def as_yaml(settings: Settings, depth: int = 0, sources: bool = True) -> str:
    """Settings as YAML that `--config` reads, each below a comment that says what it is.

    Args:
        settings: to print.
        depth: how far to indent.
        sources: whether to name the source of each.
    """
    return "\n".join(_lines(settings, depth, sources)).lstrip("\n")


def _lines(settings: Settings, depth: int, sources: bool) -> Iterator[str]:
    indent = "  " * depth
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if group_of(field):
            yield from ["", f"{indent}# {cleandoc(type(value).__doc__ or '').splitlines()[0]}"]
            yield f"{indent}{name}:"
            yield from _lines(value, depth + 1, sources)
        else:
            named = Named(name, name, field)
            facts = [named.expected, *([named.extra["source"]] if sources else [])]
            yield f"{indent}# {field.description} [{'; '.join(facts)}]"
            yield f"{indent}{name}: {scalar(value)}"


def as_table(kind: type[Settings], prefix: str = "", sources: bool = True) -> str:
    """A Markdown table of all settings of a kind."""
    heads = ["name", "default", "what", "range", *(["source"] if sources else [])]
    rows = [heads, ["---"] * len(heads)]
    for each in kind.fields():
        cells = [
            f"`{prefix}{each.name}`",
            f"`{scalar(each.field.default)}`",
            each.field.description or "",
            each.expected,
        ]
        rows.append([*cells, *([each.extra["source"]] if sources else [])])
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def scalar(value: Any) -> str:
    """A value as YAML writes it.

    >>> scalar(float("-inf")), scalar(None), scalar("")
    ('-.inf', 'null', "''")
    """
    plain = [str(each) if isinstance(each, str) else each for each in value] if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")
