"""`segkit report`: one page about a dataset or a run."""

from pathlib import Path
from typing import Annotated

import typer

from segkit.cli.console import PLAIN, out


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
    from segkit import api

    api.report(source, output, per_axis=per_axis)
    out.print(f"The page is {output}, {output.stat().st_size / 2**20:.1f} MiB", **PLAIN)
