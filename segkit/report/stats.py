"""Statistics of a dataset: counts, hours, and distributions of what each axis is about."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from segkit.report.dataset import read_table

BARS = " ▁▂▃▄▅▆▇█"
BINS = 12


@dataclass(frozen=True)
class Distribution:
    """Quantiles in seconds, and a histogram of 12 equal bins between the 2nd and 98th percentile."""

    count: int
    p10_s: float
    median_s: float
    p90_s: float
    histogram: list[int]
    histogram_range_s: tuple[float, float]

    @classmethod
    def of(cls, values_s: Iterable[float]) -> "Distribution | None":
        """The distribution of some lengths; None of nothing."""
        values: NDArray[np.float64] = np.fromiter(values_s, np.float64)
        if values.size == 0:
            return None
        low, p10, median, p90, high = np.percentile(values, [2, 10, 50, 90, 98]).round(3).tolist()
        high = max(high, low + 1e-3)
        counts, _ = np.histogram(values.clip(low, high), bins=BINS, range=(low, high))
        return cls(values.size, p10, median, p90, counts.tolist(), (low, high))

    def __str__(self) -> str:
        """`0.12 ▁▃█▅▂ 0.80`: the histogram between its ends."""
        top = max(self.histogram)
        bars = "".join(BARS[-(-count * (len(BARS) - 1) // top)] for count in self.histogram)
        return f"{self.histogram_range_s[0]:.2f} {bars} {self.histogram_range_s[1]:.2f}"


@dataclass(frozen=True)
class Statistics:
    """One axis of one corpus.

    Attributes:
        hours: of the segments alone; `context_hours` of what stands in front of them.
        event: what the axis is about: pauses, gaps, backchannels or interruptions.
    """

    corpus: str
    axis: str
    segments: int
    splits: dict[str, int]
    recordings: int
    speakers: int
    hours: float
    context_hours: float
    clipped: int
    duration: Distribution | None
    event: str
    event_length: Distribution | None


EVENTS = {
    "pause": "pauses",
    "turn_taking": "gaps",
    "backchannel": "backchannels",
    "interruption": "interruptions",
}


def statistics(out: Path) -> list[Statistics]:
    """Statistics of a dataset folder, by corpus and axis."""
    rows = read_table(out).to_pylist()
    keys = sorted({(row["corpus"], row["axis"]) for row in rows}, key=lambda k: (k[0], list(EVENTS).index(k[1])))
    return [_of(*key, [row for row in rows if (row["corpus"], row["axis"]) == key]) for key in keys]


def _of(corpus: str, axis: str, rows: list[dict[str, Any]]) -> Statistics:
    splits = [row["split"] for row in rows]
    return Statistics(
        corpus,
        axis,
        segments=len(rows),
        splits={split: splits.count(split) for split in ("train", "validation", "test")},
        recordings=len({row["recording_id"] for row in rows}),
        speakers=len({row[f"{role}_speaker"] for row in rows for role in ("user", "agent")}),
        hours=round(sum(row["duration_s"] for row in rows) / 3600, 4),
        context_hours=round(sum(row["context_s"] for row in rows) / 3600, 4),
        clipped=sum(row["clipped"] for row in rows),
        duration=Distribution.of(row["duration_s"] for row in rows),
        event=EVENTS[axis],
        event_length=Distribution.of(length for row in rows for length in _event_lengths(axis, row)),
    )


def _event_lengths(axis: str, row: dict[str, Any]) -> list[float]:
    """Lengths in seconds of what the axis is about; a gap's is negative where the turns overlap."""
    if axis == "turn_taking":
        return [row["gap_s"]]
    if axis == "interruption":
        return [row["interruption_end_s"] - row["interruption_start_s"]]
    return [end - start for start, end in row[EVENTS[axis]]]


def as_json(stats: list[Statistics]) -> list[dict[str, Any]]:
    """Plain values for `--json`."""
    return [asdict(one) for one in stats]


def tables(stats: list[Statistics]) -> list[Table]:
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
        for name, lengths in (("segments", s.duration), (s.event, s.event_length)):
            if lengths:
                shapes.add_row(s.axis, name, f"{lengths.count:,}", f"{lengths.median_s:.2f}", str(lengths))
    return counts, shapes
