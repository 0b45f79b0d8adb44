"""What all commands share: the two consoles, options, and how settings are read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from segkit.errors import UsageError

if TYPE_CHECKING:
    from segkit.tasks import Hook

out, err = Console(), Console(stderr=True)
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output instead of tables.")]
Dataset = Annotated[Path, typer.Argument(help="A folder that `segkit extract` wrote.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting; `segkit settings` lists them all."),
]
Config = Annotated[
    Path | None, typer.Option("--config", help="A YAML file with settings, as `segkit settings` prints it.")
]
Workers = Annotated[int, typer.Option(min=0, help="Processes; 0 means one per core.")]


def values(config: Path | None, pairs: list[str] | None, flags: dict[str, Any] | None = None) -> dict[str, Any]:
    """Settings by dotted name: those of a file, changed by flags that were given, changed by --set NAME=VALUE.

    Raises:
        UsageError: the file is not such a file, or a pair not such a pair.
    """
    from segkit.settings.base import read_yaml

    found = read_yaml(config) if config else {}
    found |= {name: value for name, value in (flags or {}).items() if value is not None}
    return found | dict(map(_pair, pairs or []))


def of_corpus(config: Path | None, pairs: list[str] | None) -> dict[str, Any]:
    """The options of a corpus, for commands that have no other settings.

    Raises:
        UsageError: another setting is named.
    """
    found = values(config, pairs)
    if others := [name for name in values(None, pairs) if not name.startswith("corpus.")]:
        raise UsageError(f"--set got {others[0]!r}. Expected an option of the corpus here: --set corpus.NAME=VALUE.")
    return {name.removeprefix("corpus."): value for name, value in found.items() if name.startswith("corpus.")}


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set got {text!r}. Expected NAME=VALUE, such as pause.tau_min_s=3.")
    return key, value


@contextmanager
def progress(title: str) -> Iterator["Hook"]:
    """One bar, for a hook that counts one thing."""
    from rich.progress import Progress

    with Progress(console=err) as bars:
        task = bars.add_task(title, total=None)

        def hook(stage: str, done: int, total: int, facts: Mapping[str, Any] = MappingProxyType({})) -> None:
            bars.update(task, description=stage, completed=done, total=total)

        yield hook
