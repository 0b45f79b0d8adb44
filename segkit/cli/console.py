"""What all commands share: the two consoles, and how numbers and names in options are read."""

from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from segkit.errors import UsageError, nearest

out, err = Console(), Console(stderr=True)
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output instead of tables.")]
N = TypeVar("N", int, float)


def name(kind: Any, text: str, option: str) -> Any:
    """`text` as a member of an enumeration."""
    if text not in list(kind):
        raise UsageError(f"{option} got {text!r}. {nearest(text, list(kind))}")
    return kind(text)


def number(kind: type[N], text: str, option: str, expected: str) -> N:
    """`text` as a number."""
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{option} got {text!r}. Expected {expected}.") from None


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE, as --set takes it."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set got {text!r}. Expected NAME=VALUE, such as pause.tau_min_s=3.")
    return key, value
