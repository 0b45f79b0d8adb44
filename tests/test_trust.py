"""Interval arithmetic against brute force, and what makes a segment untrustworthy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.schemas import NO_INTERVALS, Axis
from segkit.segmenters.axes import find_patterns
from segkit.segmenters.timeline import common, covered_s, merged
from segkit.segmenters.trust import Evidence, measure, screen
from segkit.settings import SegmentSettings, TrustCriteria

TICK = 0.25
SLOTS = 40
grids = st.lists(st.booleans(), min_size=SLOTS, max_size=SLOTS).map(np.array)
"""Activity on a grid of ticks: the brute force."""
pieces = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=12).map(
    lambda spans: np.array([[a, a + n] for a, n in spans], float).reshape(-1, 2) * TICK
)


def intervals(grid):
    """The runs of a grid, (n, 2) seconds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], grid, [False]]).astype(int)))
    return edges.reshape(-1, 2) * TICK


def on_grid(spans):
    """Which ticks are inside of some intervals, in any order."""
    middles = (np.arange(SLOTS) + 0.5) * TICK
    return ((middles[:, None] > spans[:, 0]) & (middles[:, None] < spans[:, 1])).any(axis=1)


@given(pieces)
def test_merged_is_the_union(spans):
    longer = spans[spans[:, 1] > spans[:, 0]]
    assert np.array_equal(merged(longer), intervals(on_grid(longer)))
    assert np.array_equal(merged(longer[::-1]), merged(longer))


@given(pieces, st.integers(1, 5))
def test_merged_closes_short_silences_only(spans, ticks):
    silence_s = ticks * TICK
    found, union = merged(spans, silence_s), merged(spans)
    gaps = union[1:, 0] - union[:-1, 1]
    assert np.array_equal(found[1:, 0] - found[:-1, 1], gaps[gaps >= silence_s])
    assert np.array_equal(on_grid(union) | on_grid(found), on_grid(found))


@given(grids, grids)
def test_common_is_the_intersection(a, b):
    found = common(intervals(a), intervals(b))
    assert np.array_equal(on_grid(found), a & b)
    assert found.tolist() == sorted(found.tolist())


@given(grids, st.integers(0, SLOTS), st.integers(0, SLOTS))
def test_covered_counts_the_ticks(grid, start, end):
    start, end = sorted((start, end))
    window = np.array([[start, end]]) * TICK
    assert covered_s(intervals(grid), window) == pytest.approx(grid[start:end].sum() * TICK)


@given(grids, grids, grids, grids, grids)
def test_measures_against_the_grid(user, agent, user_words, agent_words, others):
    evidence = Evidence(
        (intervals(user), intervals(agent)), (intervals(user_words), intervals(agent_words)), intervals(others)
    )
    found = {name: value[0] for name, value in measure(np.array([[1.0, 8.0]]), evidence).items()}
    speech, words = (np.stack(pair)[:, 4:32] for pair in ((user, agent), (user_words, agent_words)))
    assert found["overlap_share"] == pytest.approx((speech[0] & speech[1]).mean(), abs=1e-6)
    assert found["third_party_s"] == pytest.approx(others[4:32].sum() * TICK)
    for name, whole, part in (("speech_without_words", speech, words), ("words_without_speech", words, speech)):
        missing = (whole & ~part).sum() / whole.sum() if whole.any() else 0
        assert found[name] == pytest.approx(missing, abs=1e-6)


TALK = (np.array([[0.0, 2.5], [3.0, 6.0]]), NO_INTERVALS)


def dropped(evidence, **criteria):
    """Why the pause segment of `TALK` is dropped."""
    ((_, found),) = [
        item for item in find_patterns(TALK, SegmentSettings()).items() if item[0] == ("pause", 0) and item[1].kept.size
    ]
    return {reason for reason, n in screen(found, Axis.PAUSE, evidence, TrustCriteria(**criteria)).dropped.items() if n}


def test_reasons():
    words = (np.array([[0.0, 2.5]]), NO_INTERVALS)
    assert dropped(Evidence(TALK)) == set()
    assert dropped(Evidence(TALK, others=np.array([[5.0, 5.1]]))) == {"somebody else speaks"}
    assert dropped(Evidence(TALK, others=np.array([[6.0, 9.0]]))) == set()
    assert dropped(Evidence(TALK, others=np.array([[5.0, 5.1]])), max_third_party_s=0.2) == set()
    assert dropped(Evidence(TALK, words), max_speech_without_words=0.5) == {"speech without words"}
    assert dropped(Evidence(TALK, words), max_words_without_speech=0.0) == set()
    extra = (np.array([[0.0, 6.0]]), NO_INTERVALS)
    assert dropped(Evidence(TALK, extra), max_words_without_speech=0.05) == {"words without speech"}
    unknown = Evidence(TALK, words, transcribed_s=(0.0, 5.0))
    assert dropped(unknown, max_speech_without_words=0.1) == set()  # part of it has no transcript
    assert np.isnan(measure(np.array([[0.0, 6.0]]), unknown)["speech_without_words"]).all()


def test_overlap_in_one_signal():
    """Of what diarization divided, only pauses and turns without overlap are kept."""
    rng = np.random.default_rng(0)
    tracks = [merged(rng.uniform(0, 900, (80, 1)) + np.array([[0.0, 2.0]])) for _ in range(2)]
    settings = SegmentSettings().changed({"pause.tau_min_s": 1, "turn_taking.tau_min_s": 1, "turn_taking.max_gap_s": 5})
    kept = {}
    for (axis, user), found in find_patterns((tracks[0], tracks[1]), settings).items():
        apart = Evidence((tracks[0], tracks[1]))
        assert np.array_equal(screen(found, axis, apart, TrustCriteria()).kept, found.kept)
        one = apart._replace(one_signal=True)
        assert np.array_equal(screen(found, axis, one, TrustCriteria(overlap_in_one_signal=True)).kept, found.kept)
        left = screen(found, axis, one, TrustCriteria()).kept
        kept[axis, user] = len(left), len(found.kept)
        windows = np.stack([left[:, 0, 0], left[:, -1, 1]], axis=1)
        assert not measure(windows, one)["overlap_share"].any()
    for user in (0, 1):
        assert kept[Axis.PAUSE, user][0] == kept[Axis.PAUSE, user][1]
        assert kept[Axis.BACKCHANNEL, user][0] == kept[Axis.INTERRUPTION, user][0] == 0
        assert 0 < kept[Axis.TURN_TAKING, user][0] < kept[Axis.TURN_TAKING, user][1]
