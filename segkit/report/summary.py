"""What became of a run, from its `run.json`: kept, dropped and skipped, with reasons."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from segkit.schemas import SPLITS


def tables(report: dict[str, Any]) -> list[Table]:
    """Segments kept and candidates dropped per axis, and recordings skipped, each by reason."""
    segments = Table(title="Segments", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    segments.add_column("axis", style="bold")
    segments.add_column("kept", justify="right")
    segments.add_column("train/val/test", justify="right")
    segments.add_column("dropped candidates, by the first condition they failed")
    for axis, counts in report["segments"].items():
        splits = "/".join(str(counts["splits"].get(split, 0)) for split in SPLITS)
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in counts["dropped"].items())
        segments.add_row(axis, f"{counts['kept']:,}", splits, reasons)
    if not report["problems"]["list"]:
        return [segments]
    skipped = Table(title="Skipped inputs", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    skipped.add_column("reason", style="bold")
    skipped.add_column("count", justify="right")
    skipped.add_column("for example")
    for reason, n in report["problems"]["counts"].items():
        example = next(p for p in report["problems"]["list"] if p["reason"] == reason)
        skipped.add_row(reason, f"{n:,}", f"{example['source']}: {example['detail']}")
    return [segments, skipped]
