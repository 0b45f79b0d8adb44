"""`segkit stats`: what a dataset holds, in numbers."""

import json
from dataclasses import asdict

import typer

from segkit.cli.console import Dataset, Json, out


def stats(dataset: Dataset, as_json: Json = False) -> None:
    """Counts, hours and distributions of a dataset, per axis and corpus."""
    from segkit import api
    from segkit.reporting import summary

    found = api.open_dataset(dataset).statistics()
    if as_json:
        return typer.echo(json.dumps([asdict(one) for one in found], indent=2))
    out.print(*summary.of_statistics(found), sep="\n")
