"""`segkit corpora`, `stats`, `inspect`, `doctor`: what there is."""

import json
from collections.abc import Iterable
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.text import Text

from segkit.cli.console import PLAIN, Json, out, pair
from segkit.errors import UsageError

if TYPE_CHECKING:
    from segkit.schemas import Conversation, Problem

Dataset = Annotated[Path, typer.Argument(help="A folder that `segkit extract` wrote.", show_default=False)]


def corpora(
    name: Annotated[str | None, typer.Argument(help="Show this corpus.", show_default=False)] = None,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="ROOT", help="Count what is there, missing and odd.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="An option of the corpus, for --check.")
    ] = None,
) -> None:
    """List the corpora that can be read, or show one: licence, layout, options.

    Example: segkit corpora fisher --check /data/fisher
    """
    from rich.table import Table

    from segkit import corpora
    from segkit.schemas.settings import with_overrides

    if check is not None:
        if name is None:
            raise UsageError("--check got no corpus. Expected its name, such as: segkit corpora stereo --check ROOT.")
        adapter = corpora.get(name)
        options = with_overrides(adapter.Options(), dict(map(pair, set_ or [])))
        return _check(adapter(check, options).find())

    if set_:
        raise UsageError("--set chooses options for --check, which is missing.")
    if name is None:
        table = Table("corpus", "what", "licence")
        for each in corpora.names():
            table.add_row(each, corpora.get(each).title, corpora.get(each).licence)
        out.print(table)
        return
    corpus = corpora.get(name)
    share = "may be published" if corpus.redistributable else "may not be published unless it is yours to publish"
    lines = [
        corpus.title,
        f"Licence: {corpus.licence} (audio {share})",
        f"Citation: {corpus.citation}",
        f"How to get it: {corpus.how_to_get_it}",
        "",
        corpus.tree,
    ]
    if defaults := vars(corpus.Options()):
        lines += ["", cleandoc(corpus.Options.__doc__ or ""), ""]
        lines += ["Defaults: " + " ".join(f'--set "{name}={value}"' for name, value in defaults.items())]
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


def stats(dataset: Dataset, as_json: Json = False) -> None:
    """Counts, hours and distributions of a dataset, per axis and corpus."""
    from segkit.report import stats as report

    found = report.statistics(dataset)
    if as_json:
        return typer.echo(json.dumps(report.as_json(found), indent=2))
    out.print(*report.tables(found), sep="\n")


def inspect(
    dataset: Dataset,
    segment: Annotated[str, typer.Argument(help="Its id, the beginning of it, or an axis.", show_default=False)],
    png: Annotated[Path, typer.Option(help="The picture to write.")] = Path("segment.png"),
) -> None:
    """Draw one segment: waveforms, who speaks when, words, and the events of its axis."""
    from segkit.dataset import read_segment
    from segkit.report.picture import draw_segment

    row = read_segment(dataset, segment)
    png.parent.mkdir(parents=True, exist_ok=True)
    draw_segment(row).savefig(png)
    out.print(f"{row['axis']} {row['id']} is drawn in {png}", **PLAIN)


def report(
    source: Annotated[
        Path, typer.Argument(help="A dataset folder, or a run folder of `segkit align`.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    per_axis: Annotated[int, typer.Option(min=1, help="At most this many segments per axis, to see and to hear.")] = 10,
) -> None:
    """One page that works offline: counts, distributions, and segments to see and to hear; or how training went.

    Example: segkit report segments -o report.html
    """
    from segkit.report.page import write_report

    write_report(source, output, per_axis)
    out.print(f"The page is {output}, {output.stat().st_size / 2**20:.1f} MiB", **PLAIN)


def doctor(as_json: Json = False) -> None:
    """Versions, extras, GPU, decoders, and conflicts between packages."""
    from rich.table import Table

    from segkit.doctor import examine

    found = examine()
    if as_json:
        return typer.echo(json.dumps(found, indent=2))
    table = Table("what", "found")
    table.add_row("segkit, Python", f"{found['segkit']}, {found['python']} on {found['platform']}")
    table.add_row("cores, GPU", f"{found['cores']}, {found['gpu'] or 'no GPU that torch can use'}")
    for group, packages in {"core": found["core"], **found["extras"]}.items():
        versions = ", ".join(f"{name} {version or '[red]missing[/]'}" for name, version in packages.items())
        table.add_row(group if group == "core" else f"\\[{group}]", versions)
    answers = {True: "yes", False: "[red]no[/]"}
    readable = [f"{kind}: {answers.get(there) or escape(there)}" for kind, there in found["decoders"].items()]
    table.add_row("decoders", "\n".join(readable))
    table.add_row("conflicts", "\n".join(found["conflicts"]) or "none")
    out.print(table)
