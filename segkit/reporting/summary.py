"""Tables for a terminal: what became of a run, and what a dataset holds."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from segkit.dataset.record import Problems, Record
from segkit.dataset.statistics import Statistics
from segkit.schemas import SPLITS


def of_record(record: Record) -> list[Table]:
    """Segments kept and candidates dropped per axis, recordings skipped, and recordings used with a warning."""
    segments = Table(title="Segments", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    segments.add_column("axis", style="bold")
    segments.add_column("kept", justify="right")
    segments.add_column("train/val/test", justify="right")
    segments.add_column("dropped candidates, by the first condition they failed")
    for axis, counts in record.segments.items():
        splits = "/".join(str(counts.splits.get(split, 0)) for split in SPLITS)
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in counts.dropped.items())
        segments.add_row(axis, f"{counts.kept:,}", splits, reasons)
    told = {"Skipped inputs": record.problems, "Used all the same": record.warnings}
    return [segments, *(_by_reason(title, problems) for title, problems in told.items() if problems.inputs)]


def _by_reason(title: str, problems: Problems) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("reason", style="bold")
    table.add_column("count", justify="right")
    table.add_column("for example")
    for reason, n in problems.counts.items():
        example = next(p for p in problems.inputs if p.reason == reason)
        table.add_row(reason, f"{n:,}", f"{example.source}: {example.detail}")
    return table


def of_statistics(stats: list[Statistics]) -> list[Table]:
    """The statistics to look at: for each corpus the counts, and the distributions."""
    corpora = dict.fromkeys(s.corpus for s in stats)
    return [view for corpus in corpora for view in _tables_of(corpus, [s for s in stats if s.corpus == corpus])]


def _tables_of(corpus: str, stats: list[Statistics]) -> tuple[Table, Table]:
    counts, shapes = (
        Table(title=f"{corpus}: {what}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for what in ("segments", "seconds")
    )
    for view in (counts, shapes):
        view.add_column("axis", style="bold")
    for name in ("segments", "train", "val", "test", "recordings", "speakers", "hours", "clipped"):
        counts.add_column(name, justify="right")
    for name in ("of", "count", "median"):
        shapes.add_column(name, justify="right")
    shapes.add_column("2nd to 98th percentile", no_wrap=True)
    for s in stats:
        numbers = [s.segments, *s.splits.values(), s.recordings, s.speakers]
        counts.add_row(s.axis, *[f"{n:,}" for n in numbers], f"{s.hours:.2f}", f"{s.clipped:,}")
        for name, lengths in s.lengths.items():
            shapes.add_row(s.axis, name, f"{lengths.count:,}", f"{lengths.median:.2f}", str(lengths))
    return counts, shapes
