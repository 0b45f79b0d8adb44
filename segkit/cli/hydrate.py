"""`segkit hydrate`: a dataset of others, with your own audio."""

from pathlib import Path
from typing import Annotated

import typer

from segkit.cli.console import PLAIN, Config, Set, Workers, err, of_corpus, out, progress


def hydrate(
    source: Annotated[
        str, typer.Argument(help="A published dataset: its name on the Hub, or a folder.", show_default=False)
    ],
    root: Annotated[Path, typer.Argument(help="Your copy of the corpus.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The dataset folder to write.")] = Path("segments"),
    corpus: Annotated[str, typer.Option(help="Which corpus of the dataset, if it has several.")] = "",
    config: Config = None,
    set_: Set = None,
    workers: Workers = 0,
) -> None:
    """Rebuild the audio of a dataset that was published without, from your own copy of the corpus.

    The options of the corpus are those of the publisher, unless set by --set corpus.NAME=VALUE.

    Example: segkit hydrate me/turns /data/fisher -o turns
    """
    from segkit import api

    options = of_corpus(config, set_)
    with progress("rebuilding") as hook:
        dataset = api.hydrate(source, root, output, corpus=corpus, options=options, workers=workers, hook=hook)
    for axis, counts in dataset.record.segments.items():
        out.print(f"{axis}: {counts.kept:,} segments", **PLAIN)
    gone = dataset.record.hydrated
    for what, of in (("Left out", gone.lost), ("Without words", gone.without_words)) if gone else ():
        for recording, reasons in of.items():
            each = ", ".join(f"{reason} (segments: {n:,})" for reason, n in reasons.items())
            err.print(f"{what}: {recording}: {each}", style="yellow", **PLAIN)
    out.print(f"The dataset is in {output}. Audio was compared with the hashes of the rows that have any.", **PLAIN)
