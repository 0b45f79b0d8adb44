"""The rewards: hand-made cases with each loophole in both readings, and what must not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.alignment.rewards import CHOICES, LITERAL, RewardSettings, backchannel, pad, score, utterances
from segkit.errors import UsageError
from segkit.schemas.settings import with_overrides
from segkit.segmenters import timeline

OURS = RewardSettings()
READINGS = pytest.mark.parametrize("reading", [OURS, LITERAL], ids=["ours", "literal"])

PAUSE = {"axis": "pause", "duration_s": 8.0}
TURN = {"axis": "turn_taking", "duration_s": 10.0, "turn_end_s": 5.0}
BACKCHANNEL = {"axis": "backchannel", "duration_s": 12.0, "backchannels": [[3.0, 3.5], [8.0, 8.4]]}
INTERRUPTION = {"axis": "interruption", "duration_s": 15.0, "interruption_start_s": 6.0, "interruption_end_s": 9.0}
SEGMENTS = [PAUSE, TURN, BACKCHANNEL, INTERRUPTION]

BURSTS = [[t, t + 0.8] for t in (1.0, 2.0, 3.0, 4.0)]  # 0.2 s of silence between them
NODS = [[2.0, 2.1], [4.5, 4.6]]

# name, segment, speech, reward of segkit, reward of the paper's text
CASES = [
    ("silence", PAUSE, [], 0, 0),
    ("a backchannel", PAUSE, [[2.0, 2.6]], 0, 0),
    ("exactly 1 s, at any offset", PAUSE, [[4.1, 5.1]], 0, 0),
    ("longer than 1 s", PAUSE, [[4.1, 5.101]], -1, -1),
    ("backchannels far apart", PAUSE, [[1.0, 1.8], [2.801, 3.6]], 0, 0),
    ("stuttering", PAUSE, BURSTS, -1, 0),
    ("joined at exactly 1 s", PAUSE, [[1.0, 1.4], [2.4, 2.8]], -1, 0),
    ("speech over the end is cut", PAUSE, [[7.5, 30.0]], 0, 0),
    ("speech over the start is cut", PAUSE, [[-9.0, 0.5]], 0, 0),
    #
    ("a response", TURN, [[5.4, 7.0]], -0.4, -0.4),
    ("silence", TURN, [], -5, -5),
    ("a backchannel is no response", TURN, [[5.2, 5.9]], -5, -5),
    ("exactly 1 s is none either", TURN, [[5.2, 6.2]], -5, -5),
    ("a backchannel before the response", TURN, [[2.0, 2.5], [5.7, 8.0]], -0.7, -0.7),
    ("a response in pieces is one utterance", TURN, [[5.3, 5.9], [6.2, 6.9]], -0.3, -0.3),
    ("a small overlap", TURN, [[4.8, 7.0]], 0, 0.2),
    ("barging in by a hair", TURN, [[4.799, 7.0]], -5, 0.201),
    ("barging in", TURN, [[1.0, 7.0]], -5, 4),
    ("barging in, then a response", TURN, [[1.0, 2.5], [5.2, 9.0]], -5, 4),
    ("talking all the time", TURN, [[-20.0, 20.0]], -5, 5),
    ("bursts from the user's turn on", TURN, BURSTS, -5, 4),
    ("too late to be seen as long", TURN, [[9.5, 12.0]], -5, -5),
    #
    ("both", BACKCHANNEL, [[3.1, 3.5], [8.2, 8.9]], 1, 1),
    ("one of two", BACKCHANNEL, [[3.1, 3.5]], 2 / 3, 2 / 3),
    ("silence", BACKCHANNEL, [], 0, 0),
    ("one too many", BACKCHANNEL, [[0.5, 0.9], [3.1, 3.5], [8.2, 8.9]], 0.8, 0.8),
    ("at the borders of the tolerance", BACKCHANNEL, [[2.0, 2.1], [9.4, 9.5]], 1, 1),
    ("exactly 1 s", BACKCHANNEL, [[3.2, 4.2]], 2 / 3, 2 / 3),
    ("3.4 - 4.4 is -1", BACKCHANNEL | {"backchannels": [[4.4, 4.6]]}, [[3.4, 3.5]], 1, 1),
    ("8.3 - 7.3 is 1", BACKCHANNEL | {"backchannels": [[7.0, 7.3]]}, [[8.3, 8.5]], 1, 1),
    ("just outside", BACKCHANNEL, [[1.999, 2.1], [9.401, 9.5]], 0, 0),
    ("a takeover hits nothing", BACKCHANNEL, [[3.0, 4.001]], 0, 0),
    ("a takeover is a false positive", BACKCHANNEL, [[3.0, 3.4], [5.0, 7.0], [8.2, 8.6]], 0.8, 0.8),
    ("talking all the time", BACKCHANNEL, [[0.0, 12.0]], 0, 0),
    ("the same one twice", BACKCHANNEL, NODS, 0.5, 4 / 5),
    ("stuttering", BACKCHANNEL, [[2.0, 2.2], [2.5, 2.7], [3.0, 3.2], [3.5, 3.7]], 0, 8 / 9),
    #
    ("a response", INTERRUPTION, [[1.0, 6.5], [9.3, 12.0]], -0.3, -0.3),
    ("at once", INTERRUPTION, [[1.0, 6.5], [9.0, 12.0]], 0, 0),
    ("a short response counts", INTERRUPTION, [[9.6, 9.9]], -0.6, -0.6),
    ("silence", INTERRUPTION, [], -6, -6),
    ("never stops talking", INTERRUPTION, [[0.0, 15.0]], -6, 0),
    ("talks through the end, then stops", INTERRUPTION, [[7.0, 9.5]], -6, 0),
    ("talks through the end, then responds", INTERRUPTION, [[7.0, 9.5], [9.8, 12.0]], -0.8, 0),
    ("ends with the interruption", INTERRUPTION, [[7.0, 9.0]], -6, -6),
    ("IPUs, not utterances", INTERRUPTION, [[8.0, 8.9], [9.2, 12.0]], -0.2, -0.2),
    ("outlasts the segment", INTERRUPTION | {"interruption_end_s": 16.0}, [[1.0, 15.0]], 0, 0),
]


def activity(intervals: list) -> np.ndarray:
    return np.array(intervals, float).reshape(-1, 2)


@pytest.mark.parametrize(
    "segment, speech, ours, literal", [case[1:] for case in CASES], ids=[f"{c[1]['axis']}: {c[0]}" for c in CASES]
)
def test_by_hand(segment, speech, ours, literal):
    for reading, expected in ((OURS, ours), (LITERAL, literal)):
        (value,) = score(segment, [activity(speech)], reading).value
        assert value == pytest.approx(expected, abs=1e-9)
        assert str(value + 0.0) == str(value)  # no -0.0 in the logs


def test_without_true_backchannels_silence_is_perfect():
    group = pad([activity([]), activity([[1.0, 1.5]])], 5.0)
    assert backchannel(group, activity([]), OURS).value.tolist() == [1.0, 0.0]


def test_true_backchannels_as_parquet_gives_them():
    nested = np.empty(2, object)
    nested[:] = [np.array([3.0, 3.5]), np.array([8.0, 8.4])]  # what pandas makes of a list of lists
    assert score(BACKCHANNEL | {"backchannels": nested}, [activity([[3.0, 3.2]])], OURS).value == pytest.approx(2 / 3)


# --- properties, on times of whole milliseconds ---

LENGTHS = [1, 199, 200, 201, 400, 999, 1000, 1001, 1500]
length_ms = st.one_of(st.sampled_from(LENGTHS), st.integers(1, 3000))


@st.composite
def tracks(draw: st.DrawFn) -> np.ndarray:
    """Activity of one completion, from 2 s before the segment on."""
    gaps_and_lengths = draw(st.lists(st.tuples(length_ms, length_ms), max_size=9))
    edges = np.cumsum([-2000, *(ms for pair in gaps_and_lengths for ms in pair)])[1:]
    return edges.reshape(-1, 2) / 1000


groups = st.lists(tracks(), min_size=1, max_size=5)


def same(left: tuple, right: tuple) -> bool:
    """Whether two rewards are equal, diagnostics included; NaN equals NaN."""
    return left[1].keys() == right[1].keys() and all(
        np.array_equal(a, b, equal_nan=True)
        for a, b in zip([left[0], *left[1].values()], [right[0], *right[1].values()], strict=True)
    )


@settings(max_examples=100, deadline=None, derandomize=True)
@given(group=groups)
def test_utterances_equal_the_timeline(group):
    speech = pad(group, 9.0)
    for joined, alone in zip(utterances(speech, OURS.timeline), group, strict=True):
        expected = timeline.speech(timeline.clip(alone, 0.0, 9.0), OURS.timeline).utterances
        assert np.array_equal(joined[: len(expected)], expected)
        assert np.isnan(joined[len(expected) :]).all()


@READINGS
@settings(max_examples=60, deadline=None, derandomize=True)
@given(group=groups)
def test_a_group_is_its_completions_one_by_one(group, reading):
    for segment in SEGMENTS:
        value, diagnostics = score(segment, group, reading)
        for g, completion in enumerate(group):
            alone = score(segment, [completion], reading)
            assert same((value[[g]], {name: d[[g]] for name, d in diagnostics.items()}), alone)


@READINGS
@settings(max_examples=60, deadline=None, derandomize=True)
@given(completion=tracks())
def test_speech_outside_the_segment_changes_nothing(completion, reading):
    for segment in SEGMENTS:
        end_s = segment["duration_s"]
        inside = timeline.clip(completion, 0.0, end_s)
        around = np.concatenate([[[-3.0, -0.1]], inside, [[end_s + 0.1, end_s + 4.0]]])
        assert same(score(segment, [inside], reading), score(segment, [around], reading))
        assert same(score(segment, [inside], reading), score(segment, [completion], reading))


def largest_matching(near: list[list[bool]], taken: frozenset[int] = frozenset()) -> int:
    """Brute force: the first row takes nothing or any free column, and so on."""
    if not near:
        return 0
    free = [j for j, close in enumerate(near[0]) if close and j not in taken]
    return max([largest_matching(near[1:], taken), *(1 + largest_matching(near[1:], taken | {j}) for j in free)])


@st.composite
def crowded(draw: st.DrawFn, most: int) -> np.ndarray:
    """Short intervals so close that many lie near each other."""
    steps = draw(st.lists(st.tuples(st.integers(1, 900), st.integers(1, 500)), max_size=most))
    return np.cumsum([draw(st.integers(0, 900)), *(ms for step in steps for ms in step)])[1:].reshape(-1, 2) / 1000


@settings(max_examples=300, deadline=None, derandomize=True)
@given(generated=crowded(5), truth=crowded(4), tolerance_ms=st.sampled_from([0, 100, 300, 1000]))
def test_matching_is_maximal(generated, truth, tolerance_ms):
    reading = RewardSettings(unit="ipu", tolerance_s=tolerance_ms / 1000)
    ms, truth_ms = np.rint(generated[:, 0] * 1000).astype(int), np.rint(truth * 1000).astype(int)
    near = [[a - tolerance_ms <= onset <= b + tolerance_ms for onset in ms] for a, b in truth_ms.tolist()]
    hits = largest_matching(near)
    reward = backchannel(pad([generated], 99.0), truth, reading)
    assert reward.diagnostics["true_positives"] == hits
    assert reward.diagnostics["false_positives"] == len(generated) - hits
    assert reward.diagnostics["false_negatives"] == len(truth) - hits
    total = len(generated) + len(truth)
    assert reward.value == pytest.approx(2 * hits / total if total else 1.0)


# --- diagnostics, settings, shapes ---


def diagnostics(segment: dict, speech: list, reading: RewardSettings = OURS) -> dict[str, float]:
    return {name: float(d[0]) for name, d in score(segment, [activity(speech)], reading).diagnostics.items()}


def test_diagnostics():
    approx, nan = pytest.approx, float("nan")
    assert diagnostics(PAUSE, []) == {"takeovers": 0, "longest_s": 0}
    assert diagnostics(PAUSE, [[0.5, 2.0], [3.5, 6.0]]) == {"takeovers": 2, "longest_s": 2.5}
    assert diagnostics(TURN, [[5.4, 7.0]]) == {"delay_s": 0.4, "responded": 1, "barged_in": 0}
    assert diagnostics(TURN, []) == approx({"delay_s": nan, "responded": 0, "barged_in": 0}, nan_ok=True)
    assert diagnostics(TURN, [[2.0, 7.0]]) == approx({"delay_s": nan, "responded": 0, "barged_in": 1}, nan_ok=True)
    assert diagnostics(TURN, [[2.0, 7.0]], LITERAL) == {"delay_s": -3, "responded": 1, "barged_in": 1}
    counts = diagnostics(BACKCHANNEL, [[0.1, 0.2], [3.0, 3.4], [5.0, 7.0]])
    assert counts == {"true_positives": 1, "false_positives": 2, "false_negatives": 1, "takeovers": 1}
    talks = [[5.0, 6.5], [8.0, 9.5], [10.0, 12.0]]
    assert diagnostics(INTERRUPTION, talks) == {"delay_s": 1, "responded": 1, "overlap_s": 1.5}
    assert diagnostics(INTERRUPTION, talks, LITERAL) == {"delay_s": 0, "responded": 1, "overlap_s": 1.5}
    assert diagnostics(INTERRUPTION, []) == approx({"delay_s": nan, "responded": 0, "overlap_s": 0}, nan_ok=True)


@READINGS
def test_shapes(reading):
    for segment in SEGMENTS:
        for size in (0, 1, 3):
            value, diagnostics = score(segment, [activity([])] * size, reading)
            assert {a.shape for a in (value, *diagnostics.values())} == {(size,)}
            assert {a.dtype for a in (value, *diagnostics.values())} == {np.dtype(np.float64)}


@pytest.mark.parametrize("name", CHOICES)
def test_unknown_choice(name):
    with pytest.raises(UsageError, match=rf"'{name}' got 'litteral'.*Known: {', '.join(sorted(CHOICES[name]))}"):
        with_overrides(OURS, {name: "litteral"})
