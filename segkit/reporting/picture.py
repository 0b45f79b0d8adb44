"""One segment as a picture: two lanes of waveform, who speaks when, words, and the axis's events."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from segkit.audio import decode_flac
from segkit.dataset.statistics import is_known

COLOURS = {"user": "#2563a8", "agent": "#c2571a"}
EVENT = "#b3123f"
CONTEXT = "#8a8f98"
COLUMNS = 6000
"""Columns of the drawn waveform: each shows the smallest and the largest sample of its stretch."""
SHOWN_CONTEXT_S = 10.0
"""At most this much of the context is drawn, so that the segment itself stays legible."""


def draw_segment(row: Mapping[str, Any]) -> Figure:
    """Draw a row of a dataset (with its audio); save it with `figure.savefig(path)`."""
    context_s = min(row["context_s"], SHOWN_CONTEXT_S)
    length_s = context_s + row["duration_s"]
    figure = Figure(figsize=(min(max(0.45 * length_s, 11.0), 22.0), 5.6), dpi=110, layout="constrained")
    lanes = figure.subplots(2, 1, sharex=True)
    for role, axes in zip(("user", "agent"), lanes, strict=True):
        _draw_lane(axes, row, role)
    _draw_events(dict(zip(("user", "agent"), lanes, strict=True)), row)
    lanes[1].set_xlabel(
        f"seconds from the start of the segment (shaded: {context_s:.1f} of {row['context_s']:.1f} s of context)"
    )
    lanes[1].set_xlim(-context_s, row["duration_s"])
    figure.suptitle(
        f"{row['axis']}   {row['id']}   {row['corpus']}/{row['recording_id']}"
        f"   {row['start_s']:.2f}-{row['end_s']:.2f} s",
        fontsize=11,
        fontweight="bold",
    )
    return figure


def _draw_lane(axes: Axes, row: Mapping[str, Any], role: str) -> None:
    if row[role]:  # else these are annotations only
        samples, rate_hz = decode_flac(row[role]["bytes"])
        times_s, low, high = _envelope(samples, rate_hz)
        peak = max(float(np.abs(samples).max(initial=0.0)), 0.05)
        axes.fill_between(times_s - row["context_s"], low / peak, high / peak, color=COLOURS[role], lw=0)
    axes.axvspan(-row["context_s"], 0, color=CONTEXT, alpha=0.18, lw=0)
    for start_s, end_s in row[f"{role}_activity"]:
        axes.plot([start_s, end_s], [-1.12, -1.12], color=COLOURS[role], lw=5, solid_capstyle="butt")
    _draw_words(axes, row, role)
    axes.set_ylim(-1.25, 1.9)
    axes.set_yticks([])
    snr_db = row[f"{role}_snr_db"]
    label = f"{role}, track {row[f'{role}_channel']}"
    axes.set_ylabel(f"{label}\nSNR {snr_db:.0f} dB" if is_known(snr_db) else label, color=COLOURS[role])
    axes.spines[["top", "right", "left"]].set_visible(False)


def _envelope(
    samples: NDArray[np.float32], rate_hz: int
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Times (columns,) in seconds from the first sample, and the extremes of each column."""
    edges = np.unique(np.linspace(0, len(samples), COLUMNS, endpoint=False).astype(int))
    return edges / rate_hz, np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)


def _draw_words(axes: Axes, row: Mapping[str, Any], role: str) -> None:
    """Words in three staggered lines, so that neighbours do not run into each other."""
    spoken = [word for word in row["words"] or [] if word["speaker"] == role]
    for i, word in enumerate(spoken):
        height = 1.15 + 0.24 * (i % 3)
        axes.text(word["start_s"], height, word["text"], fontsize=7, clip_on=True, color="#333333")


def events(row: Mapping[str, Any]) -> Iterator[tuple[str, float, float, str]]:
    """What the axis of a row is about: in whose lane, start_s and end_s from the start of the segment, text."""
    match row["axis"]:
        case "pause":
            yield from (("user", a, b, f"{b - a:.2f} s") for a, b in row["pauses"])
        case "turn_taking":
            end_s, gap_s = row["turn_end_s"], row["gap_s"]
            yield "user", end_s, end_s + gap_s, "turn ends"
            yield "agent", end_s, end_s + gap_s, f"{'gap' if gap_s >= 0 else 'overlap'} {abs(gap_s):.2f} s"
        case "backchannel":
            yield from (("agent", a, b, f"{b - a:.2f} s") for a, b in row["backchannels"])
        case "interruption":
            yield "user", row["interruption_start_s"], row["interruption_end_s"], "interruption"
            yield "agent", row["interruption_start_s"], row["interruption_start_s"], "interrupted"


def _draw_events(lanes: dict[str, Axes], row: Mapping[str, Any]) -> None:
    """Events in the lane of the speaker who does them; a moment is a line."""
    for role, start_s, end_s, text in events(row):
        _mark(lanes[role], start_s, end_s, text)


def _mark(axes: Axes, start_s: float, end_s: float, text: str) -> None:
    left, right = min(start_s, end_s), max(start_s, end_s)
    axes.axvspan(left, right, ymax=0.76, color=EVENT, alpha=0.16, lw=0)
    for edge in (left, right):
        axes.plot([edge, edge], [-1.25, 1.1], color=EVENT, lw=0.9)
    axes.text((left + right) / 2, -0.98, text, fontsize=7.5, color=EVENT, ha="center", va="bottom")
