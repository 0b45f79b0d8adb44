"""`segkit inspect`: one segment as a picture."""

from pathlib import Path
from typing import Annotated

import typer

from segkit.cli.console import PLAIN, Dataset, out


def inspect(
    dataset: Dataset,
    segment: Annotated[str, typer.Argument(help="Its id, the beginning of it, or an axis.", show_default=False)],
    png: Annotated[Path, typer.Option(help="The picture to write.")] = Path("segment.png"),
) -> None:
    """Draw one segment: waveforms, who speaks when, words, and the events of its axis."""
    from segkit import api
    from segkit.reporting.picture import draw_segment

    row = api.open_dataset(dataset).segment(segment)
    png.parent.mkdir(parents=True, exist_ok=True)
    draw_segment(row).savefig(png)
    out.print(f"{row['axis']} {row['id']} is drawn in {png}", **PLAIN)
