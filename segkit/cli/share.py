"""`segkit publish`, `segkit hydrate`: datasets for others, and from others."""

import re
from pathlib import Path
from typing import Annotated

import typer

from segkit.cli.console import PLAIN, err, out, pair
from segkit.errors import UsageError


def publish(
    dataset: Annotated[Path, typer.Argument(help="A folder that `segkit extract` wrote.", show_default=False)],
    name: Annotated[str, typer.Argument(help="user/name on the Hugging Face Hub.", show_default=False)],
    private: Annotated[bool, typer.Option("--private/--public", help="Who can see a new repository.")] = True,
    annotations_only: Annotated[
        bool,
        typer.Option("--annotations-only", help="Without audio, and without words where the licence forbids them."),
    ] = False,
    declare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CORPUS=LICENCE: REASON", help="Why you may pass a corpus's audio on; the card quotes it."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the card, say what would be sent, send nothing.")
    ] = False,
) -> None:
    """Send a dataset to the Hugging Face Hub, as far as its licences allow.

    Log in with `hf auth login`, or set HF_TOKEN. Example: segkit publish segments me/turns --annotations-only
    """
    from segkit.dataset import shards
    from segkit.publish import gate, package
    from segkit.publish.upload import upload

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UsageError(f"NAME got {name!r}. Expected user/name, as on the Hugging Face Hub.")
    dataset = dataset.resolve()  # "." has no name to put beside it
    shards(dataset)  # says so if this is no dataset
    found = gate.shares(dataset, map(gate.Declaration.parse, declare or []))
    if not annotations_only:
        gate.expect_open(found)
    folder = package.prepare(dataset, name, found, annotations_only)
    paths = package.files(folder)
    total = 0
    for path in paths:
        size = path.stat().st_size
        total += size
        if dry_run:
            out.print(f"{size:>14,} bytes  {path.relative_to(folder)}", **PLAIN)
    kind = "private" if private else "public"
    what = f"{len(paths)} files, {total / 2**20:.1f} MiB, to the {kind} dataset {name}"
    if dry_run:
        return out.print(f"Would send {what}, from {folder}. Nothing was sent.", **PLAIN)
    out.print(f"Sending {what}.", **PLAIN)
    out.print(f"Done: {upload(folder, name, private)}", **PLAIN)


def hydrate(
    source: Annotated[
        str, typer.Argument(help="A published dataset: its name on the Hub, or a folder.", show_default=False)
    ],
    root: Annotated[Path, typer.Argument(help="Your copy of the corpus.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The dataset folder to write.")] = Path("segments"),
    corpus: Annotated[str, typer.Option(help="Which corpus of the dataset, if it has several.")] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of the corpus; else those of the publisher."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 means one per core.")] = 0,
) -> None:
    """Rebuild the audio of a dataset that was published without, from your own copy of the corpus.

    Example: segkit hydrate me/turns /data/fisher -o turns
    """
    from rich.progress import Progress

    from segkit.cli.extract import cores
    from segkit.publish.fetch import fetched
    from segkit.publish.hydrate import hydrate

    folder = fetched(source)
    with Progress(console=err) as progress:
        task = progress.add_task("rebuilding", total=None)
        report = hydrate(
            folder,
            root,
            output,
            corpus,
            dict(map(pair, set_ or [])),
            workers or cores(),
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    for axis, counts in report["segments"].items():
        out.print(f"{axis}: {counts['kept']:,} segments", **PLAIN)
    for what, key in (("Left out", "lost"), ("Without words", "without_words")):
        for recording, reasons in report["hydrated"][key].items():
            each = ", ".join(f"{reason} (segments: {n:,})" for reason, n in reasons.items())
            err.print(f"{what}: {recording}: {each}", style="yellow", **PLAIN)
    out.print(f"The dataset is in {output}. Audio was compared with the hashes of the rows that have any.", **PLAIN)
