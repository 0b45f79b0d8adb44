"""`segkit corpora`: what can be read, and what is there."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from segkit.cli.console import PLAIN, Config, Set, of_corpus, out
from segkit.errors import UsageError

if TYPE_CHECKING:
    from segkit.schemas import Conversation, Problem


def corpora(
    name: Annotated[str | None, typer.Argument(help="Show this corpus.", show_default=False)] = None,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="ROOT", help="Count what is there, missing and odd.")
    ] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """List the corpora that can be read, or show one: licence, layout, options.

    Example: segkit corpora fisher --check /data/fisher
    """
    from rich.table import Table

    from segkit import corpora
    from segkit.settings.text import as_yaml

    if check is not None:
        if name is None:
            raise UsageError("--check got no corpus. Expected its name, such as: segkit corpora stereo --check ROOT.")
        adapter = corpora.get(name)
        options = adapter.Options().changed(of_corpus(config, set_), "corpus.")
        return _check(adapter(check, options).find())

    if set_ or config:
        raise UsageError("--set and --config choose options for --check, which is missing.")
    if name is None:
        table = Table("corpus", "what", "licence")
        for each in corpora.names():
            table.add_row(each, corpora.get(each).title, corpora.get(each).licence)
        out.print(table)
        return
    corpus = corpora.get(name)
    share = "may be published" if corpus.redistributable else "may not be published unless it is yours to publish"
    share = "may be published if that of the recordings allows it" if corpus.licence_of_each else share
    lines = [
        corpus.title,
        f"Licence: {corpus.licence} (audio {share})",
        f"Citation: {corpus.citation or 'none'}",
        f"How to get it: {corpus.how_to_get_it}",
        "",
        corpus.tree,
    ]
    if corpus.Options.names():
        lines += ["", "Options (--set corpus.NAME=VALUE):", "", as_yaml(corpus.Options(), sources=False)]
    out.print("\n".join(lines), **PLAIN)


def _check(found: Iterable["Conversation | Problem"]) -> None:
    """What an adapter finds, as a table: recordings with and without audio and words, and what is odd."""
    from rich.table import Table

    from segkit.schemas import Conversation

    kinds: dict[str, list[str]] = {}
    for item in found:
        if isinstance(item, Conversation):
            audio = "audio" if all(track.path for track in item.tracks) else "no audio"
            kind, example = f"{audio}, {'transcript' if item.transcripts else 'no transcript'}", item.id
        else:
            kind, example = f"odd: {item.reason}", f"{item.source}: {item.detail}"
        kinds.setdefault(kind, []).append(example)
    table = Table("what", "count", "for example")
    for kind, examples in sorted(kinds.items()):
        table.add_row(kind, f"{len(examples):,}", Text(examples[0]))
    out.print(table if kinds else "Nothing was found. Without --check, this command shows the expected layout.")
