"""`segkit merge`: several datasets as one."""

from pathlib import Path
from typing import Annotated

import typer

from segkit.cli.console import out, progress


def merge(
    datasets: Annotated[list[Path], typer.Argument(help="Two or more dataset folders.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The dataset folder to write.", show_default=False)],
) -> None:
    """Put the segments and recordings of several datasets into one, which says where they are from.

    Example: segkit merge fisher-segments seamless-segments -o both
    """
    from segkit import api

    with progress("merging") as hook:
        dataset = api.merge(datasets, output, hook=hook)
    out.print(repr(dataset), markup=False, highlight=False)
