"""From who spoke when to utterances and pauses, and the interval arithmetic for it.

Definitions: arXiv 2606.11167, section 3.3. An inter-pausal unit (IPU) is a stretch of speech of one
speaker, as VAD gives it. An utterance is a run of IPUs with no silence longer than `max_pause_s`
(1 s) between them; a pause is a silence inside an utterance, of at least `min_pause_s`.

All functions are vectorised over sorted disjoint intervals, shape (n, 2), in seconds: O(n log n).

    >>> talk = speech(np.array([[0.0, 2.0], [2.5, 4.0], [6.0, 7.0]]), TimelineSettings())
    >>> talk.utterances.tolist()
    [[0.0, 4.0], [6.0, 7.0]]
    >>> talk.pauses.tolist()
    [[2.0, 2.5]]
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segkit.schemas import Intervals
from segkit.settings import TimelineSettings


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """What one speaker says over a recording: three views of one activity, each (n, 2) seconds."""

    ipus: Intervals
    utterances: Intervals
    pauses: Intervals


def speech(activity: Intervals, settings: TimelineSettings) -> Speech:
    """Utterances and pauses of one speaker from the speaker's sorted disjoint `activity`, (n, 2)."""
    silences = np.stack([activity[:-1, 1], activity[1:, 0]], axis=1)
    silence_s = seconds(silences[:, 1] - silences[:, 0])
    ends_utterance = silence_s > settings.max_pause_s
    first = np.concatenate([np.ones(min(len(activity), 1), bool), ends_utterance])
    last = np.concatenate([ends_utterance, np.ones(min(len(activity), 1), bool)])
    return Speech(
        ipus=activity,
        utterances=np.stack([activity[first, 0], activity[last, 1]], axis=1),
        pauses=silences[~ends_utterance & (silence_s >= settings.min_pause_s)],
    )


def as_intervals(nested: Iterable[Iterable[float]]) -> Intervals:
    """`[[start_s, end_s], ...]`, as Parquet and JSON give it, as an array, (n, 2)."""
    return np.array(list(nested), float).reshape(-1, 2)


def seconds(difference_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences of times, rounded to the microsecond: 5.4 - 5.0 is then 0.4, at any clock offset."""
    return np.round(difference_s, 6)


def durations(intervals: Intervals) -> NDArray[np.float64]:
    """Lengths in seconds of intervals (..., 2)."""
    return seconds(intervals[..., 1] - intervals[..., 0])


def count_touching(intervals: Intervals, windows: Intervals) -> NDArray[np.intp]:
    """How many of `intervals` share time with each of `windows`, shape (len(windows),)."""
    begun = np.searchsorted(intervals[:, 0], windows[:, 1], side="left")
    over = np.searchsorted(intervals[:, 1], windows[:, 0], side="right")
    return np.subtract(begun, over)


def count_inside(intervals: Intervals, windows: Intervals) -> NDArray[np.intp]:
    """How many of `intervals` lie inside each of `windows`, borders included, shape (len(windows),)."""
    ended = np.searchsorted(intervals[:, 1], windows[:, 1], side="right")
    not_begun = np.searchsorted(intervals[:, 0], windows[:, 0], side="left")
    return np.maximum(ended - not_begun, 0)


def merged(intervals: Intervals, min_silence_s: float = 0.0) -> Intervals:
    """The union of intervals in any order, (n, 2), and of the silences between them shorter than `min_silence_s`.

    >>> merged(np.array([[2.0, 3.0], [0.0, 1.0], [0.5, 1.5], [3.05, 4.0]]), min_silence_s=0.1).tolist()
    [[0.0, 1.5], [2.0, 4.0]]
    """
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    ends = np.maximum.accumulate(intervals[:, 1]) if len(intervals) else intervals[:, 1]
    silence_s = seconds(intervals[1:, 0] - ends[:-1])
    apart = (silence_s > 0) & (silence_s >= min_silence_s)
    first = np.concatenate([np.ones(min(len(intervals), 1), bool), apart])
    last = np.concatenate([apart, np.ones(min(len(intervals), 1), bool)])
    return np.stack([intervals[first, 0], ends[last]], axis=1)


def common(a: Intervals, b: Intervals) -> Intervals:
    """Where two activities overlap, sorted and disjoint."""
    edges = np.unique(np.concatenate([a.ravel(), b.ravel()]))
    pieces = np.stack([edges[:-1], edges[1:]], axis=1)
    return pieces[(count_touching(a, pieces) > 0) & (count_touching(b, pieces) > 0)]


def covered_s(intervals: Intervals, windows: Intervals) -> NDArray[np.float64]:
    """How long an activity lasts within each of `windows`, shape (len(windows),)."""
    so_far = np.concatenate([[0.0], np.cumsum(intervals[:, 1] - intervals[:, 0])])

    def until(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        begun = np.searchsorted(intervals[:, 0], times_s, side="right")
        running = np.maximum(np.append(intervals[:, 1], -np.inf)[begun - 1] - times_s, 0.0)
        return so_far[begun] - np.where(begun > 0, running, 0.0)

    return until(windows[:, 1]) - until(windows[:, 0])


def touching(intervals: Intervals, start_s: float, end_s: float) -> Intervals:
    """Those of `intervals` that share time with one window, whole."""
    return intervals[(intervals[:, 0] < end_s) & (intervals[:, 1] > start_s)]


def clip(intervals: Intervals, start_s: float, end_s: float) -> Intervals:
    """`intervals` cut to one window."""
    return np.clip(touching(intervals, start_s, end_s), start_s, end_s)
