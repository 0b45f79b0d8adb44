"""The four criteria of the method on one page: what counts as a segment of each axis.

Source: arXiv 2606.11167, sections 3.3 and 4.1; the numbers stand in `segkit.settings.extraction`. X is
the user, Y the agent. A pattern is a row of consecutive utterances; the segment lasts from the
start of its first utterance to the end of its last. Times are seconds; every criterion returns the
candidates, shape (n, utterances in the pattern, 2), and names the reasons to drop some of them.

    >>> asks = np.array([[0.0, 2.5], [3.0, 6.0]])  # one utterance with a pause of 0.5 s
    >>> answers = np.array([[6.2, 12.0]])
    >>> found = find_segments((asks, answers), SegmentSettings())
    >>> [(str(s.axis), s.user, s.start_s, s.end_s) for s in found]
    [('pause', 0, 0.0, 6.0), ('turn_taking', 0, 0.0, 12.0)]
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkit.schemas import Axis, Intervals, Segment
from segkit.segmenters.timeline import (
    Speech,
    count_inside,
    count_touching,
    durations,
    seconds,
    speech,
    touching,
)
from segkit.settings import (
    BackchannelCriteria,
    InterruptionCriteria,
    PauseCriteria,
    SegmentSettings,
    TurnTakingCriteria,
)

Patterns = NDArray[np.float64]
"""Utterances of each segment's pattern, shape (segments, utterances, 2), seconds."""


class Found(NamedTuple):
    """The candidates for one axis, and which of them meet each condition.

    Attributes:
        candidates: all patterns of the axis's form, shape (n, utterances, 2).
        passes: for each condition, named by the reason of those that fail it, a mask of shape (n,).
    """

    candidates: Patterns
    passes: dict[str, NDArray[np.bool_]]

    @property
    def kept(self) -> Patterns:
        """The candidates that meet every condition: the segments."""
        return self.candidates[np.logical_and.reduce(list(self.passes.values()))]

    @property
    def dropped(self) -> dict[str, int]:
        """How many candidates failed, by the first condition that they failed."""
        left = np.ones(len(self.candidates), bool)
        counts = {}
        for reason, passed in self.passes.items():
            counts[reason] = int(np.count_nonzero(left & ~passed))
            left &= passed
        return counts


def pause(x: Speech, y: Speech, criteria: PauseCriteria) -> Found:
    """X pauses and goes on, Y waits."""
    turns = x.utterances
    return Found(
        turns[:, None],
        {
            "utterance too short": durations(turns) >= criteria.tau_min_s,
            "no pause inside": count_inside(x.pauses, turns) > 0,
            "agent speaks": count_touching(y.ipus, turns) == 0,
        },
    )


def turn_taking(x: Speech, y: Speech, criteria: TurnTakingCriteria) -> Found:
    """X ends a turn, Y takes the next one after a short gap."""
    pairs = consecutive(x, y, length=2)
    gap_s = seconds(pairs[:, 1, 0] - pairs[:, 0, 1])
    return Found(
        pairs,
        {
            "utterance too short": durations(pairs).min(axis=1) >= criteria.tau_min_s,
            "gap too long": gap_s <= criteria.max_gap_s,
            "overlap too long": gap_s >= criteria.min_gap_s,
        },
    )


def backchannel(x: Speech, y: Speech, criteria: BackchannelCriteria) -> Found:
    """X holds a turn, and all that Y says meanwhile is short."""
    turns = x.utterances
    short = y.utterances[durations(y.utterances) <= criteria.max_backchannel_s]
    said = count_touching(y.utterances, turns)
    said_short = count_touching(short, turns)
    said_short_inside = count_inside(short, turns)
    return Found(
        turns[:, None],
        {
            "utterance too short": durations(turns) >= criteria.tau_min_s,
            "agent says nothing": said > 0,
            "agent speaks too long": said_short == said,
            "agent's utterance sticks out": (said_short_inside == said_short) | (not criteria.inside),
        },
    )


def interruption(x: Speech, y: Speech, criteria: InterruptionCriteria) -> Found:
    """X speaks, Y answers, X comes in before Y has ended, and Y speaks again."""
    quads = consecutive(x, y, length=4)
    return Found(
        quads,
        {
            "utterance too short": durations(quads).min(axis=1) >= criteria.tau_min_s,
            "agent has ended": quads[:, 2, 0] < quads[:, 1, 1],
        },
    )


def consecutive(x: Speech, y: Speech, length: int) -> Patterns:
    """Runs of `length` utterances X, Y, X, ... that follow each other in the order of their starts.

    The order is over both speakers, so an utterance of anyone in between breaks a run. Of two that
    start together, X's comes first.
    """
    turns = np.concatenate([x.utterances, y.utterances])
    order = np.argsort(turns[:, 0], kind="stable")
    turns, of_user = turns[order], order < len(x.utterances)
    runs = max(len(turns) - length + 1, 0)
    wanted = np.arange(length) % 2 == 0
    fits = np.all([of_user[i : i + runs] == wanted[i] for i in range(length)], axis=0)
    first = np.flatnonzero(fits)
    return turns[first[:, None] + np.arange(length)]


def find_patterns(
    activity: tuple[Intervals, Intervals], settings: SegmentSettings, axes: Iterable[Axis] = tuple(Axis)
) -> dict[tuple[Axis, int], Found]:
    """The candidates of every axis under both role assignments, keyed by (axis, track of the user).

    Args:
        activity: the speech of track 0 and of track 1, each sorted and disjoint, (n, 2) seconds.
        settings: all thresholds.
        axes: which axes to look for.
    """
    tracks = [speech(track, settings.timeline) for track in activity]

    def find(axis: Axis, x: Speech, y: Speech) -> Found:
        match axis:
            case Axis.PAUSE:
                return pause(x, y, settings.pause)
            case Axis.TURN_TAKING:
                return turn_taking(x, y, settings.turn_taking)
            case Axis.BACKCHANNEL:
                return backchannel(x, y, settings.backchannel)
            case Axis.INTERRUPTION:
                return interruption(x, y, settings.interruption)

    return {(axis, user): find(axis, tracks[user], tracks[1 - user]) for axis in axes for user in (0, 1)}


def describe(
    axis: Axis, user: int, pattern: Intervals, activity: tuple[Intervals, Intervals], settings: SegmentSettings
) -> Segment:
    """One pattern, shape (k, 2), as a `Segment` with the events of its axis."""
    x, y = (speech(activity[track], settings.timeline) for track in (user, 1 - user))
    window = pattern[0, 0], pattern[-1, 1]
    return Segment(
        axis,
        user,
        pattern,
        pauses=touching(x.pauses, *window) if axis is Axis.PAUSE else None,
        backchannels=touching(y.utterances, *window) if axis is Axis.BACKCHANNEL else None,
    )


def find_segments(activity: tuple[Intervals, Intervals], settings: SegmentSettings) -> list[Segment]:
    """All segments of a recording, sorted by axis, user and start; for notebooks and tests.

    `find_patterns` gives the same as arrays, without a Python object per segment.
    """
    return [
        describe(axis, user, pattern, activity, settings)
        for (axis, user), found in find_patterns(activity, settings).items()
        for pattern in found.kept
    ]
