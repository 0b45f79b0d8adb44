"""`segkit corpora`, `stats`, `inspect`, `doctor`: what there is."""

import json
from inspect import cleandoc
from pathlib import Path
from typing import Annotated

import typer

from segkit.cli.console import PLAIN, Json, out

Dataset = Annotated[Path, typer.Argument(help="A folder that `segkit extract` wrote.", show_default=False)]


def corpora(
    name: Annotated[str | None, typer.Argument(help="Show this corpus.", show_default=False)] = None,
) -> None:
    """List the corpora that can be read, or show one: licence, layout, options."""
    from rich.table import Table

    from segkit import corpora

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
        "",
        cleandoc(corpus.Options.__doc__ or ""),
        "",
        "Defaults: " + " ".join(f'--set "{name}={value}"' for name, value in vars(corpus.Options()).items()),
    ]
    out.print("\n".join(lines), **PLAIN)


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
    readable = ", ".join(f"{kind}: {'yes' if there else '[red]no[/]'}" for kind, there in found["decoders"].items())
    table.add_row("decoders", readable)
    table.add_row("conflicts", "\n".join(found["conflicts"]) or "none")
    out.print(table)
