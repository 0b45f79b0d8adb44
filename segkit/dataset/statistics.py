"""Statistics of a dataset: counts, hours, and distributions of what each axis is about."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from segkit.schemas import SPLITS, Axis
from segkit.segmenters.axes import consecutive
from segkit.segmenters.timeline import durations, speech
from segkit.settings import TimelineSettings

BARS = " ▁▂▃▄▅▆▇█"
BINS = 12
LEVELS_DB = {"SNR of the user": "user_snr_db", "SNR of the agent": "agent_snr_db", "crosstalk": "bleed_db"}
"""What is measured in decibels, and the columns that hold it."""


@dataclass(frozen=True)
class Distribution:
    """Quantiles in a unit, and a histogram of 12 equal bins between the 2nd and 98th percentile."""

    unit: str
    count: int
    p10: float
    median: float
    p90: float
    histogram: list[int]
    histogram_range: tuple[float, float]

    @classmethod
    def of(cls, numbers: list[float], unit: str = "s") -> "Distribution":
        """The distribution of some numbers, at least one."""
        values = np.array(numbers)
        low, p10, median, p90, high = np.percentile(values, [2, 10, 50, 90, 98]).round(3).tolist()
        high = max(high, low + 1e-3)
        counts, _ = np.histogram(values.clip(low, high), bins=BINS, range=(low, high))
        return cls(unit, values.size, p10, median, p90, counts.tolist(), (low, high))

    def __str__(self) -> str:
        """`0.12 ▁▃█▅▂ 0.80`: the histogram between its ends."""
        top = max(self.histogram)
        bars = "".join(BARS[-(-count * (len(BARS) - 1) // top)] for count in self.histogram)
        return f"{self.histogram_range[0]:.2f} {bars} {self.histogram_range[1]:.2f}"


@dataclass(frozen=True)
class Statistics:
    """One axis of one corpus.

    Attributes:
        splits: segments in each of SPLITS.
        hours: of the segments, without their context.
        lengths: of segments; of gaps, where the floor goes to the other speaker (negative for an overlap); of
            pauses; and of what else the axis is about. Seconds.
        levels: noise and crosstalk, where they were measured. Decibels.
    """

    corpus: str
    axis: str
    segments: int
    splits: dict[str, int]
    recordings: int
    speakers: int
    hours: float
    clipped: int
    lengths: dict[str, Distribution]
    levels: dict[str, Distribution]


def statistics(rows: Iterable[dict[str, Any]], timeline: TimelineSettings) -> list[Statistics]:
    """Statistics of segments, by corpus and axis.

    Args:
        rows: of `SEGMENTS`; audio is not needed.
        timeline: what the segments were found with.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (row["corpus"], list(Axis).index(row["axis"]))):
        groups.setdefault((row["corpus"], row["axis"]), []).append(row)
    return [_of(corpus, axis, group, timeline) for (corpus, axis), group in groups.items()]


def is_known(value: float | None) -> bool:
    """Whether a number was measured: silence has no level."""
    return value is not None and math.isfinite(value)


def _of(corpus: str, axis: str, rows: list[dict[str, Any]], timeline: TimelineSettings) -> Statistics:
    splits = [row["split"] for row in rows]
    lengths: dict[str, list[float]] = {}
    for row in rows:
        for name, values_s in _lengths(row, timeline).items():
            lengths.setdefault(name, []).extend(values_s)
    levels = {name: [row[column] for row in rows if is_known(row[column])] for name, column in LEVELS_DB.items()}
    return Statistics(
        corpus,
        axis,
        segments=len(rows),
        splits={split: splits.count(split) for split in SPLITS},
        recordings=len({row["recording_id"] for row in rows}),
        speakers=len({row[f"{role}_speaker"] for row in rows for role in ("user", "agent")}),
        hours=round(sum(row["duration_s"] for row in rows) / 3600, 4),
        clipped=sum(row["clipped"] or False for row in rows),
        lengths={name: Distribution.of(values_s) for name, values_s in lengths.items() if values_s},
        levels={name: Distribution.of(values_db, "dB") for name, values_db in levels.items() if values_db},
    )


def _lengths(row: dict[str, Any], timeline: TimelineSettings) -> dict[str, list[float]]:
    """Lengths in seconds of what is inside one segment, its context left out."""
    user, agent = (speech(np.array(row[f"{role}_activity"]).reshape(-1, 2), timeline) for role in ("user", "agent"))
    first, second = np.concatenate([consecutive(user, agent, 2), consecutive(agent, user, 2)]).transpose(1, 2, 0)
    takes_floor = (second[0] > 0) & (second[1] > first[1])  # else it began in the context, or lies inside the first
    pauses = np.concatenate([user.pauses, agent.pauses])
    found = {
        "segments": [row["duration_s"]],
        "gaps": (second[0] - first[1])[takes_floor].tolist(),
        "pauses": durations(pauses[pauses[:, 0] >= 0]).tolist(),
    }
    if row["axis"] == Axis.BACKCHANNEL:
        found["backchannels"] = [end - start for start, end in row["backchannels"]]
    if row["axis"] == Axis.INTERRUPTION:
        found["interruptions"] = [row["interruption_end_s"] - row["interruption_start_s"]]
    return found
