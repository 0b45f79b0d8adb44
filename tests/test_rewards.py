"""The rewards: hand-made cases with each loophole in both readings, and what must not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.alignment.rewards import backchannel, human, pad, score, utterances
from segkit.errors import UsageError
from segkit.segmenters import timeline
from segkit.settings import LITERAL, RewardSettings

OURS, ONSET = RewardSettings(), RewardSettings(response="onset")
READINGS = pytest.mark.parametrize("reading", [OURS, ONSET, LITERAL], ids=["ours", "onset", "literal"])

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
    ("stammering is no response", TURN, [[5.3, 5.9], [6.2, 6.9]], -5, -0.3),
    ("stammering before the response delays it not", TURN, [[5.3, 5.9], [6.8, 8.0]], -0.3, -0.3),
    ("stammering, a long silence, then the response", TURN, [[5.1, 5.9], [6.2, 6.9], [8.0, 9.5]], -3, -0.1),
    ("an IPU of exactly 1 s is not enough", TURN, [[5.3, 6.3], [6.5, 7.0]], -5, -0.3),
    ("a small overlap", TURN, [[4.8, 7.0]], 0, 0.2),
    ("barging in by a hair", TURN, [[4.799, 7.0]], -5, 0.201),
    ("barging in", TURN, [[1.0, 7.0]], -5, 4),
    ("barging in, then a response", TURN, [[1.0, 2.5], [5.2, 9.0]], -5, 4),
    ("barging in with pieces, then a response", TURN, [[2.0, 2.6], [2.9, 3.5], [5.2, 9.0]], -5, 3),
    ("talking all the time", TURN, [[-20.0, 20.0]], -5, 5),
    ("still talking when the turn begins, then a response", TURN, [[-3.0, 1.5], [5.2, 7.0]], -0.2, 5),
    ("the same with a short silence at the beginning", TURN, [[-3.0, -0.4], [0.5, 1.8], [5.2, 7.0]], -0.2, 4.5),
    ("the same with a long one", TURN, [[-3.0, -0.6], [0.5, 1.8], [5.2, 7.0]], -5, 4.5),
    ("still talking for 3 s", TURN, [[-3.0, 3.0], [5.2, 7.0]], -0.2, 5),
    ("for longer", TURN, [[-3.0, 3.001], [5.2, 7.0]], -5, 5),
    ("in pieces for longer", TURN, [[-3.0, 0.4], [1.2, 1.9], [2.4, 3.2], [5.2, 7.0]], -5, 5),
    ("begins with the turn", TURN, [[0.0, 1.5], [5.2, 7.0]], -5, 5),
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
    ("a short sound is no response", INTERRUPTION, [[9.6, 9.9]], -6, -0.6),
    ("exactly 1 s is none either", INTERRUPTION, [[9.6, 10.6]], -6, -0.6),
    ("a short sound before the response", INTERRUPTION, [[9.6, 9.9], [11.0, 13.0]], -2, -0.6),
    ("a response that begins with a short sound", INTERRUPTION, [[9.6, 9.9], [10.8, 13.0]], -0.6, -0.6),
    ("silence", INTERRUPTION, [], -6, -6),
    ("never stops talking", INTERRUPTION, [[0.0, 15.0]], -6, 0),
    ("never stops for long", INTERRUPTION, [[0.0, 8.0], [9.0, 15.0]], -6, 0),
    ("stops before the interruption, not for long", INTERRUPTION, [[1.0, 5.5], [6.2, 12.0]], -6, 0),
    ("begins with the interruption", INTERRUPTION, [[6.0, 15.0]], -6, 0),
    ("a little early", INTERRUPTION, [[1.0, 6.5], [8.8, 12.0]], 0, 0),
    ("early by a hair too much", INTERRUPTION, [[1.0, 6.5], [8.799, 12.0]], -0.201, 0),
    ("early costs as much as late", INTERRUPTION, [[1.0, 6.5], [7.7, 12.0]], -1.3, 0),
    ("early by more than there is to lose", INTERRUPTION | {"duration_s": 10.5}, [[6.5, 10.4]], -1.5, 0),
    ("talks through the end, then responds", INTERRUPTION, [[7.0, 9.5], [9.8, 12.0]], -2, 0),
    ("talks through the end, is silent, then responds", INTERRUPTION, [[1.0, 9.5], [10.8, 12.0]], -1.8, 0),
    ("begins and ends with the interruption", INTERRUPTION, [[7.0, 9.0]], -6, -6),
    ("has ended before the interruption, then responds", INTERRUPTION, [[6.5, 7.9], [9.5, 11.0]], -0.5, -0.5),
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


# The reading before stammering was closed, from the same table: segment, speech, reward
ONSETS = [
    (TURN, [[5.3, 5.9], [6.2, 6.9]], -0.3),
    (TURN, [[-3.0, 1.5], [5.2, 7.0]], -5),
    (INTERRUPTION, [[9.6, 9.9]], -0.6),
    (INTERRUPTION, [[7.0, 9.5]], -6),
    (INTERRUPTION, [[7.0, 9.5], [9.8, 12.0]], -0.8),
    (INTERRUPTION, [[8.0, 8.9], [9.2, 12.0]], -0.2),
]


@pytest.mark.parametrize("segment, speech, expected", ONSETS)
def test_an_onset_is_enough_where_that_is_asked(segment, speech, expected):
    assert score(segment, [activity(speech)], ONSET).value == pytest.approx(expected)


def test_people_do_well():
    """The agents of recordings: they speak before the segment, and answer an interruption before it has ended."""
    before = [[-6.0, -2.0], [-1.5, 0.8]]
    assert human(PAUSE | {"agent_activity": []}, OURS).value == 0
    assert human(TURN | {"agent_activity": [*before, [5.2, 6.0], [6.3, 9.0]]}, OURS).value == pytest.approx(-0.2)
    assert human(BACKCHANNEL | {"agent_activity": [*before, *BACKCHANNEL["backchannels"]]}, OURS).value >= 0.8
    talks = [[2.0, 6.9], [8.6, 9.4], [9.7, 14.0]]
    assert human(INTERRUPTION | {"agent_activity": [*before, *talks]}, OURS).value == pytest.approx(-0.4)
    parquet = np.empty(2, object)
    parquet[:] = [np.array(each) for each in talks[1:]]
    assert human(INTERRUPTION | {"agent_activity": parquet}, OURS).value == pytest.approx(-0.4)


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
    found = utterances(pad(group, 9.0), OURS.timeline)
    for *joined, alone in zip(*found, group, strict=True):
        ipus = timeline.clip(alone, 0.0, 9.0)
        spans = timeline.speech(ipus, OURS.timeline).utterances
        lengths = [timeline.durations(timeline.clip(ipus, *span)) for span in spans]
        for each, expected in zip(joined, (spans, [x.max() for x in lengths], [x.sum() for x in lengths]), strict=True):
            assert np.allclose(each[: len(spans)], np.reshape(expected, each[: len(spans)].shape), atol=1e-9)
            assert np.isnan(each[len(spans) :]).all()


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
        around = np.concatenate([[[-3.0, -1.001]], inside, [[end_s + 0.1, end_s + 4.0]]])
        assert same(score(segment, [inside], reading), score(segment, [around], reading))
        late = timeline.clip(completion, -1.0, end_s)  # what was under way when the segment began
        assert same(score(segment, [late], reading), score(segment, [completion], reading))
        if segment is not TURN or reading is not OURS:
            assert same(score(segment, [inside], reading), score(segment, [late], reading))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(completion=tracks())
def test_no_response_is_better_than_the_onset_that_was_enough_before(completion):
    """What is a response now was one before, and nobody gains but who was still talking when the turn began."""
    ours, onset = (score(TURN, [completion], reading) for reading in (OURS, ONSET))
    under_way = len(timeline.clip(completion, -1.0, 0.0)) > 0
    assert under_way or ours.value <= onset.value
    responded = score(INTERRUPTION, [completion], OURS).diagnostics["longest_s"]
    assert np.isnan(responded) or responded > 1.0


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
    turn = diagnostics(TURN, [[4.1, 4.2], [5.4, 5.8], [6.0, 7.4]])
    assert turn == approx({"delay_s": 0.4, "responded": 1, "barged_in": 0, "longest_s": 1.4, "speech_share": 0.9})
    none = {"delay_s": nan, "responded": 0, "longest_s": nan, "speech_share": nan}
    assert diagnostics(TURN, []) == approx(none | {"barged_in": 0}, nan_ok=True)
    assert diagnostics(TURN, [[2.0, 7.0]]) == approx(none | {"barged_in": 1}, nan_ok=True)
    literal = {"delay_s": -3, "responded": 1, "barged_in": 1, "longest_s": 5, "speech_share": 1}
    assert diagnostics(TURN, [[2.0, 7.0]], LITERAL) == literal
    counts = diagnostics(BACKCHANNEL, [[0.1, 0.2], [3.0, 3.4], [5.0, 7.0]])
    assert counts == {"true_positives": 1, "false_positives": 2, "false_negatives": 1, "takeovers": 1}
    talks = [[5.0, 6.5], [8.0, 9.5], [10.0, 12.0]]
    of_response = {"delay_s": 1, "responded": 1, "overlap_s": 1.5, "longest_s": 2, "speech_share": 0.875}
    assert diagnostics(INTERRUPTION, talks) == approx(of_response)
    assert diagnostics(INTERRUPTION, talks, ONSET) == approx(of_response | {"speech_share": 1})
    assert diagnostics(INTERRUPTION, talks, LITERAL) == approx(
        of_response | {"delay_s": 0, "longest_s": 1.5, "speech_share": 1}
    )
    assert diagnostics(INTERRUPTION, []) == approx(none | {"overlap_s": 0}, nan_ok=True)


@READINGS
def test_shapes(reading):
    for segment in SEGMENTS:
        for size in (0, 1, 3):
            value, diagnostics = score(segment, [activity([])] * size, reading)
            assert {a.shape for a in (value, *diagnostics.values())} == {(size,)}
            assert {a.dtype for a in (value, *diagnostics.values())} == {np.dtype(np.float64)}


CHOICES = {
    "unit": "utterance or ipu",
    "barge_in": "no-response or literal",
    "matching": "one-to-one or literal",
    "response": "sustained, onset or literal",
}


@pytest.mark.parametrize("name", CHOICES)
def test_unknown_choice(name):
    with pytest.raises(UsageError, match=rf"'{name}' got 'litteral'\. Expected {CHOICES[name]}\."):
        OURS.changed({name: "litteral"})
