"""`segkit publish`: a dataset for others."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

import typer

from segkit.cli.console import PLAIN, Dataset, out


def publish(
    dataset: Dataset,
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
    from segkit import api

    kind = "private" if private else "public"

    def hook(stage: str, done: int, total: int, facts: Mapping[str, Any] = MappingProxyType({})) -> None:
        out.print(f"Sending {_amount(total, facts['bytes'])}, to the {kind} dataset {name}.", **PLAIN)

    found = api.publish(
        dataset,
        name,
        private=private,
        annotations_only=annotations_only,
        declarations=declare or [],
        dry_run=dry_run,
        hook=hook,
    )
    if not dry_run:
        return out.print(f"Done: {found.url}", **PLAIN)
    for path, size in found.files.items():
        out.print(f"{size:>14,} bytes  {path}", **PLAIN)
    amount = _amount(len(found.files), sum(found.files.values()))
    out.print(f"Would send {amount}, to the {kind} dataset {name}, from {found.folder}. Nothing was sent.", **PLAIN)


def _amount(files: int, size: int) -> str:
    return f"{files} files, {size / 2**20:.1f} MiB"
