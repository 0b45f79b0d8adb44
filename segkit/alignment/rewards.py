"""The four rewards on one page: how well a generated agent behaves in a segment.

Source: arXiv 2606.11167, section 3.4. Each reward scores a group of G completions of one segment at
once, from the voice activity of the generated audio. The paper's text leaves loopholes that
optimisation finds: an agent that barges in, stammers, or never stops talking. They are closed by
default; `LITERAL` is the text. Times are seconds from the start of the segment; speech outside the
segment is cut off before anything else, but for what says whether an utterance was under way when it began.

What people do is the measure of a reward: the agent of the recording, scored like a completion, should do
well (`segkit align` shows it beside the model; docs/align.md has figures).

    >>> answers, barges_in, is_silent = np.array([[5.5, 8.0]]), np.array([[2.0, 8.0]]), np.empty((0, 2))
    >>> segment = {"axis": "turn_taking", "duration_s": 10.0, "turn_end_s": 5.0}
    >>> score(segment, [answers, barges_in, is_silent], RewardSettings()).value.tolist()
    [-0.5, -5.0, -5.0]
    >>> from segkit.settings import LITERAL
    >>> score(segment, [answers, barges_in, is_silent], LITERAL).value.tolist()
    [-0.5, 3.0, -5.0]
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segkit.schemas import Axis, Intervals
from segkit.segmenters.timeline import as_intervals, clip, durations, seconds
from segkit.settings import RewardSettings, TimelineSettings

Speeches: TypeAlias = NDArray[np.float64]
"""Speech of G completions, shape (G, n, 2), seconds; each sorted and disjoint, with NaN after its end."""


class Reward(NamedTuple):
    """The reward of each completion, and what it came from.

    Attributes:
        value: shape (G,); the higher the better.
        diagnostics: each of shape (G,), NaN where undefined; names ending in `_s` are seconds, the others
            counts or 0 and 1.
    """

    value: NDArray[np.float64]
    diagnostics: dict[str, NDArray[np.float64]]


def score(segment: Mapping[str, Any], activities: Sequence[Intervals], settings: RewardSettings) -> Reward:
    """The reward of the segment's axis, arXiv 2606.11167, section 3.4.

    Args:
        segment: a row of `segkit.schemas.arrow.SEGMENTS`; only its events and its duration are read.
        activities: the generated speech of each of the G completions, sorted and disjoint, (n, 2) seconds.
        settings: thresholds and readings.
    """
    axis, duration_s = Axis(segment["axis"]), segment["duration_s"]
    looks_back = axis is Axis.TURN_TAKING and settings.response == "sustained"
    speech = pad(activities, duration_s, settings.timeline.max_pause_s if looks_back else 0.0)
    match axis:
        case Axis.PAUSE:
            return pause(speech, settings)
        case Axis.TURN_TAKING:
            return turn_taking(speech, segment["turn_end_s"], duration_s, settings)
        case Axis.BACKCHANNEL:
            return backchannel(speech, segment["backchannels"], settings)
        case Axis.INTERRUPTION:
            span_s = segment["interruption_start_s"], segment["interruption_end_s"]
            return interruption(speech, *span_s, duration_s, settings)


def human(segment: Mapping[str, Any], settings: RewardSettings) -> Reward:
    """What the agent of the recording gets in its own segment, G = 1: a reward by which people do badly is wrong.

    Args:
        segment: a row of `segkit.schemas.arrow.SEGMENTS`; also its `agent_activity` is read.
        settings: thresholds and readings.
    """
    return score(segment, [as_intervals(segment["agent_activity"])], settings)


def pause(speech: Speeches, settings: RewardSettings) -> Reward:
    """-1 for a takeover, speech longer than a backchannel, while the user pauses; else 0.

    Source: arXiv 2606.11167, section 3.4. Diagnostics: `takeovers` (how many), `longest_s` (0 in silence).

    Args:
        speech: (G, n, 2) seconds, cut to the segment.
        settings: `max_backchannel_s`, `unit`.
    """
    length_s = durations(_units(speech, settings))
    takeovers = np.sum(length_s > settings.max_backchannel_s, axis=1, dtype=float)
    longest_s = np.max(length_s, axis=1, initial=0.0, where=~np.isnan(length_s))
    return Reward(np.where(takeovers > 0, -1.0, 0.0), {"takeovers": takeovers, "longest_s": longest_s})


def turn_taking(speech: Speeches, turn_end_s: float, duration_s: float, settings: RewardSettings) -> Reward:
    """Minus the delay of the response: the first utterance with an IPU that is longer than a backchannel.

    Without one, the delay is the time from the end of the turn to the end of the segment. By default that is
    also what barging in costs: an utterance longer than a backchannel, in whatever pieces, that begins during
    the turn, or was under way when it began and goes on for more than `max_carry_over_s` (of 143 such of people,
    142 do not). One that overlaps the end of the turn a little has no delay. In the paper's text ("literal", and
    "onset"), any utterance longer than a backchannel is a response.

    Source: arXiv 2606.11167, section 3.4. Diagnostics: `delay_s` (NaN without a response), `responded`,
    `barged_in`, `longest_s` and `speech_share` of the response.

    Args:
        speech: (G, n, 2) seconds, cut to the segment and `max_pause_s` before it.
        turn_end_s: the end of the user's turn.
        duration_s: the end of the segment.
        settings: `max_backchannel_s`, `max_overlap_s`, `max_carry_over_s`, `barge_in`, `response`; utterances
            whatever the `unit`.
    """
    turns = utterances(speech, settings.timeline)
    response = long = durations(turns.spans) > settings.max_backchannel_s
    if settings.response == "sustained":
        begins_here = turns.spans[..., 0] >= 0
        long = long & (begins_here | (turns.spans[..., 1] > settings.max_carry_over_s))
        response = begins_here & (turns.longest_s > settings.max_backchannel_s)
    barged_in = seconds(_first(turns.spans, long) - turn_end_s) < -settings.max_overlap_s
    delay_s = _first(turns.spans, response) - turn_end_s
    if settings.barge_in == "no-response":
        delay_s = np.where(barged_in, np.inf, np.maximum(delay_s, 0.0))
    return _minus_delay(delay_s, duration_s - turn_end_s, turns, response, barged_in=barged_in.astype(float))


def backchannel(speech: Speeches, truth: Intervals, settings: RewardSettings) -> Reward:
    """F1 of the generated backchannels against the true ones; takeovers are false positives.

    A generated one is near a true one if its onset lies in [start - tolerance, end + tolerance]. By
    default each matches one at most, and as many are matched as possible.

    Source: arXiv 2606.11167, section 3.4. Diagnostics: `true_positives`, `false_positives` (takeovers
    included), `false_negatives`, `takeovers`.

    Args:
        speech: (G, n, 2) seconds, cut to the segment.
        truth: the agent's backchannels in the recording, (m, 2) seconds or the list that Parquet gives,
            sorted and disjoint; if there is none, silence is perfect.
        settings: `max_backchannel_s`, `tolerance_s`, `unit`, `matching`.
    """
    truth = as_intervals(truth)
    units = _units(speech, settings)
    short = durations(units) <= settings.max_backchannel_s
    takeovers = np.sum(durations(units) > settings.max_backchannel_s, axis=1)
    onsets = units[:, :, None, 0]
    not_late = seconds(onsets - truth[:, 1]) <= settings.tolerance_s
    not_early = seconds(onsets - truth[:, 0]) >= -settings.tolerance_s
    near = short[:, :, None] & not_early & not_late  # (G, n, m)
    if settings.matching == "one-to-one":
        hits = _match(near)
        missed = len(truth) - hits
    else:
        hits, missed = near.any(axis=2).sum(axis=1), (~near.any(axis=1)).sum(axis=1)
    false = short.sum(axis=1) - hits + takeovers
    total = 2 * hits + false + missed
    value = np.divide(2 * hits, total, out=np.ones(len(speech)), where=total > 0)
    counts = {"true_positives": hits, "false_positives": false, "false_negatives": missed, "takeovers": takeovers}
    return Reward(value, {name: count.astype(float) for name, count in counts.items()})


def interruption(speech: Speeches, start_s: float, end_s: float, duration_s: float, settings: RewardSettings) -> Reward:
    """Minus the delay of the response: the first utterance, with an IPU longer than a backchannel, that begins
    after the interruption has begun and ends after it has ended.

    Without one, the delay is the time from the end of the interruption to the end of the segment: an
    agent that never stops does not respond. People answer before the end as often as after it, so an early start is a
    response, but costs as much as one that is late by the same time. With "onset", any IPU that starts after the
    interruption is a response; in the paper's text, any speech after it, also that of whoever speaks through its end.

    Source: arXiv 2606.11167, section 3.4. Diagnostics: `delay_s` (early or late; NaN without a response),
    `responded`, `overlap_s` (how long the agent speaks while the user interrupts), `longest_s` and
    `speech_share` of the response.

    Args:
        speech: (G, n, 2) seconds, cut to the segment.
        start_s: the start of the user's interrupting utterance.
        end_s: its end.
        duration_s: the end of the segment.
        settings: `max_backchannel_s`, `max_overlap_s`, `barge_in`, `response`; whatever the `unit`.
    """
    overlap_s = seconds(np.nansum(durations(np.clip(speech, start_s, end_s)), axis=1))
    rest_s = max(duration_s - end_s, 0.0)
    if settings.response == "sustained":
        units = utterances(speech, settings.timeline)
        meanwhile = (seconds(units.spans[..., 0] - start_s) <= 0) | (seconds(units.spans[..., 1] - end_s) <= 0)
        response = ~meanwhile & (units.longest_s > settings.max_backchannel_s)
        delay_s = _first(units.spans, response) - end_s
        if settings.barge_in == "no-response":
            early = seconds(delay_s) < -settings.max_overlap_s
            delay_s = np.where(early, np.minimum(-delay_s, rest_s), delay_s)
    else:
        units = Utterances(speech, durations(speech), durations(speech))
        begins_s, ends_s = seconds(speech[..., 0] - end_s), seconds(speech[..., 1] - end_s)
        response = ends_s > 0 if settings.response == "literal" else begins_s >= 0
        delay_s = _first(units.spans, response) - end_s
    return _minus_delay(np.maximum(delay_s, 0.0), rest_s, units, response, overlap_s=overlap_s)


def pad(activities: Sequence[Intervals], duration_s: float, before_s: float = 0.0) -> Speeches:
    """The activity of G completions, each (n, 2) seconds, cut to [-before_s, duration_s], as one array."""
    cut = [clip(activity, -before_s, duration_s) for activity in activities]
    padded = np.full((len(cut), max(map(len, cut), default=0), 2), np.nan)
    for row, activity in zip(padded, cut, strict=True):
        row[: len(activity)] = activity
    return padded


class Utterances(NamedTuple):
    """The utterances of G completions, as in `segkit.segmenters.timeline.speech`, and what they consist of.

    Attributes:
        spans: (G, n, 2) seconds, with NaN after the last one.
        longest_s: the longest IPU of each, (G, n) seconds; NaN where there is none.
        speech_s: the length of all IPUs of each, (G, n) seconds; NaN where there is none.
    """

    spans: Speeches
    longest_s: NDArray[np.float64]
    speech_s: NDArray[np.float64]


def utterances(speech: Speeches, timeline: TimelineSettings) -> Utterances:
    """The utterances of each completion, whose IPUs are (G, n, 2) seconds."""
    ends_utterance = seconds(speech[:, 1:, 0] - speech[:, :-1, 1]) > timeline.max_pause_s
    real = ~np.isnan(speech[..., 0])
    first, last = real.copy(), real.copy()
    first[:, 1:] &= ends_utterance
    last[:, :-1] &= ends_utterance | ~real[:, 1:]
    rank = np.cumsum(first, axis=1) - 1
    spans = np.full_like(speech, np.nan)
    spans[np.nonzero(first)[0], rank[first]] = np.stack([speech[first, 0], speech[last, 1]], axis=1)
    longest_s = np.where(np.isnan(spans[..., 0]), np.nan, 0.0)
    speech_s = longest_s.copy()
    np.maximum.at(longest_s, (np.nonzero(real)[0], rank[real]), durations(speech[real]))
    np.add.at(speech_s, (np.nonzero(real)[0], rank[real]), durations(speech[real]))
    return Utterances(spans, longest_s, speech_s)


def _units(speech: Speeches, settings: RewardSettings) -> Speeches:
    return utterances(speech, settings.timeline).spans if settings.unit == "utterance" else speech


def _first(speech: Speeches, wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Start of the first wanted interval of each completion, (G,) seconds; infinity without one."""
    return np.min(speech[..., 0], axis=1, initial=np.inf, where=wanted)


def _minus_delay(
    delay_s: NDArray[np.float64],
    rest_s: float,
    units: Utterances,
    response: NDArray[np.bool_],
    **diagnostics: NDArray[np.float64],
) -> Reward:
    """Minus the delay (G,) of the response; infinity stands for none, and costs the rest of the segment.

    Args:
        delay_s: (G,).
        rest_s: what no response costs.
        units: the intervals that can be a response.
        response: which of them could be, (G, n): the first one is it.
        **diagnostics: of the axis, each (G,).
    """
    responded = np.isfinite(delay_s)
    value = -seconds(np.where(responded, delay_s, max(rest_s, 0.0))) + 0.0  # 0.0, not -0.0

    def of_response(each: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(responded, np.min(each, axis=1, initial=np.inf, where=is_first), np.nan)

    is_first = response & (np.cumsum(response, axis=1) == 1)
    share = units.speech_s / np.where(durations(units.spans) > 0, durations(units.spans), np.nan)
    return Reward(
        value,
        {
            "delay_s": np.where(responded, seconds(delay_s), np.nan),
            "responded": responded.astype(float),
            **diagnostics,
            "longest_s": of_response(units.longest_s),
            "speech_share": of_response(share),
        },
    )


def _match(near: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Size of a maximum one-to-one matching of generated and true backchannels, near (G, n, m), as (G,).

    Onsets are sorted, and so are the windows around the true ones, by both ends. Then it is never worse
    to give each true one, in order, the earliest onset that is left.
    """
    left = np.ones(near.shape[:2], bool)
    hits = np.zeros(len(near), np.intp)
    for k in range(near.shape[2]):
        free = near[:, :, k] & left
        taken = free & (np.cumsum(free, axis=1) == 1)
        left &= ~taken
        hits += taken.any(axis=1)
    return hits
