"""`segkit doctor`: what is installed, and what does not fit together."""

import json

import typer
from rich.markup import escape

from segkit.cli.console import Json, out


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
