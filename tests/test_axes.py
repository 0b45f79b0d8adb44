"""Timeline and axes against a brute-force oracle on frames of 1 ms, and what must not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.schemas import Axis
from segkit.segmenters import timeline
from segkit.segmenters.axes import find_patterns, find_segments
from segkit.settings import ExtractionSettings, SegmentSettings

PAPER = SegmentSettings()
LITERAL = ExtractionSettings.preset("paper-literal")

# Lengths in ms that lie on, and next to, every threshold.
LENGTHS = [1, 100, 199, 200, 201, 399, 400, 401, 999, 1000, 1001, 1500, 2999, 3000, 3001, 3999, 4000, 4001, 5000, 6500]
length_ms = st.one_of(st.sampled_from(LENGTHS), st.integers(1, 7000))


@st.composite
def tracks(draw: st.DrawFn) -> list[list[int]]:
    """Activity of one speaker as [start, end] in whole milliseconds."""
    gaps_and_lengths = draw(st.lists(st.tuples(length_ms, length_ms), max_size=7))
    edges = np.cumsum([0, *(ms for pair in gaps_and_lengths for ms in pair)])[1:]
    return edges.reshape(-1, 2).tolist()


@st.composite
def dialogues(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]]]:
    """Two speakers, the second independent of the first or placed around where the first starts and stops."""
    first = draw(tracks())
    if not first or draw(st.booleans()):
        return first, draw(tracks())
    edges = st.sampled_from([edge for interval in first for edge in interval])
    nearby = st.sampled_from([-1000, -201, -200, -1, 0, 1, 200, 400, 401, 1000, 1001])
    second: list[list[int]] = []
    for start in sorted(draw(st.lists(st.builds(int.__add__, edges, nearby), max_size=5))):
        if start >= (second[-1][1] + 1 if second else 0):
            ends = [edge for interval in first for edge in interval if edge > start]
            second.append(
                [start, draw(st.sampled_from(ends)) if ends and draw(st.booleans()) else start + draw(length_ms)]
            )
    return first, second


def seconds(track: list[list[int]], shift_ms: int = 0) -> np.ndarray:
    return (np.array(track, float).reshape(-1, 2) + shift_ms) / 1000


# --- the oracle: everything is counted on boolean frames of 1 ms ---


def runs(frames: np.ndarray) -> list[tuple[int, int]]:
    """[start, end) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], frames.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def as_frames(track: list[list[int]], total: int) -> np.ndarray:
    frames = np.zeros(total, bool)
    for start, end in track:
        frames[start:end] = True
    return frames


def oracle_utterances(frames: np.ndarray, cfg: SegmentSettings) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    filled = frames.copy()
    silences = [(a, b) for a, b in runs(~frames) if frames[:a].any() and frames[b:].any()]
    short = [(a, b) for a, b in silences if b - a <= cfg.timeline.max_pause_s * 1000]
    for a, b in short:
        filled[a:b] = True
    return runs(filled), [(a, b) for a, b in short if b - a >= cfg.timeline.min_pause_s * 1000]


def oracle(dialogue: tuple[list[list[int]], list[list[int]]], cfg: SegmentSettings) -> dict[tuple[Axis, int], list]:
    total = max([end for track in dialogue for _, end in track], default=0) + 1
    frames = [as_frames(track, total) for track in dialogue]
    found: dict[tuple[Axis, int], list] = {(axis, user): [] for axis in Axis for user in (0, 1)}
    for user in (0, 1):
        (x_turns, x_pauses), (y_turns, _) = (oracle_utterances(frames[k], cfg) for k in (user, 1 - user))
        y_frames = frames[1 - user]
        everyone = sorted([(s, 0, e) for s, e in x_turns] + [(s, 1, e) for s, e in y_turns])
        for a, b in x_turns:
            long = b - a >= cfg.pause.tau_min_s * 1000
            if long and any(a <= p and q <= b for p, q in x_pauses) and not y_frames[a:b].any():
                found[Axis.PAUSE, user].append([(a, b)])
            meanwhile = [(s, e) for s, e in y_turns if s < b and e > a]
            fine = [
                e - s <= cfg.backchannel.max_backchannel_s * 1000
                and (not cfg.backchannel.inside or (s >= a and e <= b))
                for s, e in meanwhile
            ]
            if b - a >= cfg.backchannel.tau_min_s * 1000 and fine and all(fine):
                found[Axis.BACKCHANNEL, user].append([(a, b)])
        for i, (a, who, b) in enumerate(everyone):
            after = everyone[i + 1 : i + 4]
            speakers = [who, *(w for _, w, _ in after)]
            spans = [(a, b), *((s, e) for s, _, e in after)]
            if speakers[:2] == [0, 1]:
                gap = spans[1][0] - b
                long = all(e - s >= cfg.turn_taking.tau_min_s * 1000 for s, e in spans[:2])
                if long and cfg.turn_taking.min_gap_s * 1000 <= gap <= cfg.turn_taking.max_gap_s * 1000:
                    found[Axis.TURN_TAKING, user].append(spans[:2])
            if speakers == [0, 1, 0, 1]:
                long = all(e - s >= cfg.interruption.tau_min_s * 1000 for s, e in spans)
                if long and spans[2][0] < spans[1][1]:
                    found[Axis.INTERRUPTION, user].append(spans)
    return found


def in_ms(found: dict) -> dict[tuple[Axis, int], list]:
    return {
        key: [[tuple(u) for u in p] for p in np.rint(f.kept * 1000).astype(int).tolist()] for key, f in found.items()
    }


CONFIGS = [
    PAPER,
    LITERAL,
    PAPER.changed({"interruption.tau_min_s": 0.5, "turn_taking.tau_min_s": 0.4, "pause.tau_min_s": 1}),
]


@pytest.mark.parametrize("cfg", CONFIGS, ids=["paper", "literal", "low"])
@settings(max_examples=600, deadline=None, derandomize=True)
@given(dialogue=dialogues())
def test_equals_the_oracle(dialogue, cfg):
    found = find_patterns((seconds(dialogue[0]), seconds(dialogue[1])), cfg)
    assert in_ms(found) == oracle(dialogue, cfg)
    for candidates in found.values():
        assert len(candidates.kept) + sum(candidates.dropped.values()) == len(candidates.candidates)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(track=tracks())
def test_utterances_and_pauses_equal_the_oracle(track):
    talk = timeline.speech(seconds(track), PAPER.timeline)
    total = max([end for _, end in track], default=0) + 1
    utterances, pauses = oracle_utterances(as_frames(track, total), PAPER)
    assert np.rint(talk.utterances * 1000).astype(int).tolist() == [list(u) for u in utterances]
    assert np.rint(talk.pauses * 1000).astype(int).tolist() == [list(p) for p in pauses]


def test_the_oracle_sees_every_axis():
    """Guards the tests above: hypothesis could miss an axis whose pattern is rare."""
    pause = ([[0, 2000], [2500, 4500]], [])
    turn = ([[0, 5000]], [[5200, 10200]])
    backchannel = ([[0, 6000]], [[3000, 3600]])
    interruption = ([[0, 3000], [6000, 9000]], [[3100, 6500], [9100, 12200]])
    for axis, dialogue in zip(Axis, (pause, turn, backchannel, interruption), strict=True):
        assert len(oracle(dialogue, PAPER)[axis, 0]) == 1
        assert in_ms(find_patterns((seconds(dialogue[0]), seconds(dialogue[1])), PAPER)) == oracle(dialogue, PAPER)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(dialogue=dialogues())
def test_channel_swap_swaps_roles(dialogue):
    first, second = seconds(dialogue[0]), seconds(dialogue[1])
    found, swapped = find_patterns((first, second), PAPER), find_patterns((second, first), PAPER)
    for axis in Axis:
        for user in (0, 1):
            assert np.array_equal(found[axis, user].kept, swapped[axis, 1 - user].kept)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(dialogue=dialogues(), shift_ms=st.integers(0, 10_000_000))
def test_time_shift_leaves_events_unchanged(dialogue, shift_ms):
    at_zero = in_ms(find_patterns((seconds(dialogue[0]), seconds(dialogue[1])), PAPER))
    later = find_patterns((seconds(dialogue[0], shift_ms), seconds(dialogue[1], shift_ms)), PAPER)
    shifted = {k: [[(a - shift_ms, b - shift_ms) for a, b in p] for p in v] for k, v in in_ms(later).items()}
    assert shifted == at_zero


def test_events_of_a_segment():
    segments = find_segments((seconds([[0, 2000], [2500, 6000]]), seconds([[3000, 3600]])), PAPER)
    (segment,) = segments
    assert segment.axis == Axis.BACKCHANNEL
    assert segment.backchannels.tolist() == [[3.0, 3.6]]
    assert segment.pauses is None
    assert (segment.start_s, segment.end_s) == (0.0, 6.0)


def test_reasons_name_the_first_failed_condition():
    found = find_patterns((seconds([[0, 3000], [5000, 9500]]), seconds([])), PAPER)
    assert found[Axis.PAUSE, 0].dropped == {"utterance too short": 1, "no pause inside": 1, "agent speaks": 0}


@pytest.mark.parametrize("gap_ms, kept", [(-201, 0), (-200, 1), (0, 1), (400, 1), (401, 0)])
def test_gap_limits_are_inclusive(gap_ms, kept):
    dialogue = seconds([[0, 5400]]), seconds([[5400 + gap_ms, 11_000]])
    assert len(find_patterns(dialogue, PAPER)[Axis.TURN_TAKING, 0].kept) == kept
