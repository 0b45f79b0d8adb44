"""The events of a plan: which segments the criteria of the preset `paper` must find in it.

Read off the planned utterances of `segkit.synthesis.script`, on purpose without the code that
extracts segments from activity: this is what that code is measured against. Both assignments of
the channels to user and agent count. Thresholds: arXiv 2606.11167, section 4.1.
"""

from itertools import pairwise
from typing import Any

from segkit.synthesis.script import Utterance

PAUSE_S, TURN_S, BACKCHANNEL_S, INTERRUPTION_S = 4.0, 5.0, 5.0, 3.0
GAP_RANGE_S = (-0.2, 0.4)
SHORT_S = 1.0


def events(utterances: list[Utterance], rate_hz: int) -> list[dict[str, Any]]:
    """The events of all axes by start, as in the truth file: seconds of the recording."""
    plan = sorted(utterances, key=lambda u: u.start)
    found = _pauses_and_backchannels(plan, rate_hz) + _turns(plan, rate_hz) + _interruptions(plan, rate_hz)
    return sorted(found, key=lambda e: (e["start_s"], e["axis"]))


def _event(axis: str, pattern: tuple[Utterance, ...], rate_hz: int, **more: Any) -> dict[str, Any]:
    start_s, end_s = pattern[0].start / rate_hz, pattern[-1].end / rate_hz
    return {"axis": axis, "user": pattern[0].channel, "start_s": start_s, "end_s": end_s, **more}


def _seconds(spans: list[tuple[int, int]], rate_hz: int) -> list[list[float]]:
    return [[a / rate_hz, b / rate_hz] for a, b in spans]


def _pauses_and_backchannels(plan: list[Utterance], rate_hz: int) -> list[dict[str, Any]]:
    found = []
    for i, turn in enumerate(plan):
        touching = [u for u in _around(plan, i) if u.end > turn.start and u.start < turn.end]
        if not touching and turn.pauses and len(turn) >= PAUSE_S * rate_hz:
            found.append(_event("pause", (turn,), rate_hz, pauses=_seconds(turn.pauses, rate_hz)))
        inside = all(turn.start <= u.start and u.end <= turn.end for u in touching)
        short = all(len(u) <= SHORT_S * rate_hz for u in touching)
        if touching and inside and short and len(turn) >= BACKCHANNEL_S * rate_hz:
            spans = _seconds([(u.start, u.end) for u in touching], rate_hz)
            found.append(_event("backchannel", (turn,), rate_hz, backchannels=spans))
    return found


def _around(plan: list[Utterance], i: int) -> list[Utterance]:
    """The other speaker's utterances that may touch number `i`: the last before it and all during it."""
    turn = plan[i]
    before = next((u for u in reversed(plan[:i]) if u.channel != turn.channel), None)
    during = [u for u in plan[i + 1 : i + 64] if u.channel != turn.channel and u.start < turn.end]
    return ([before] if before else []) + during


def _turns(plan: list[Utterance], rate_hz: int) -> list[dict[str, Any]]:
    found = []
    for first, second in pairwise(plan):
        gap = second.start - first.end
        long = min(len(first), len(second)) >= TURN_S * rate_hz
        smooth = GAP_RANGE_S[0] * rate_hz <= gap <= GAP_RANGE_S[1] * rate_hz
        if first.channel != second.channel and long and smooth:
            times = {"turn_end_s": first.end / rate_hz, "gap_s": gap / rate_hz}
            found.append(_event("turn_taking", (first, second), rate_hz, **times))
    return found


def _interruptions(plan: list[Utterance], rate_hz: int) -> list[dict[str, Any]]:
    found = []
    for four in zip(plan, plan[1:], plan[2:], plan[3:], strict=False):
        alternating = all(a.channel != b.channel for a, b in pairwise(four))
        long = min(map(len, four)) >= INTERRUPTION_S * rate_hz
        if alternating and long and four[2].start < four[1].end:
            span = _seconds([(four[2].start, four[2].end)], rate_hz)[0]
            times = {"interruption_start_s": span[0], "interruption_end_s": span[1]}
            found.append(_event("interruption", four, rate_hz, **times))
    return found
