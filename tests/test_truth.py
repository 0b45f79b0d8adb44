"""The whole way from sound to segments, against the truth of the synthetic conversations."""

import numpy as np
import pytest

from segkit import corpora
from segkit.audio import Recording
from segkit.corpora.synthetic import SyntheticOptions, read_truth
from segkit.schemas import Axis
from segkit.segmenters import vad
from segkit.segmenters.axes import find_segments
from segkit.settings import SegmentSettings, VadSettings

PAPER = SegmentSettings()


@pytest.fixture(scope="module")
def conversations(tmp_path_factory):
    """Twelve conversations of five minutes, as (tracks, truth)."""
    corpus = corpora.get("synthetic")(tmp_path_factory.mktemp("truth"), SyntheticOptions(hours=1.0, rate_hz=16_000))
    found = []
    for conversation in corpus.find():
        corpus.prepare(conversation)
        found.append((conversation.tracks, read_truth(conversation.transcripts[0])))
    return found


def test_with_the_true_activity_every_segment_is_found_and_no_other(conversations):
    seen = dict.fromkeys(Axis, 0)
    for _, truth in conversations:
        found = sorted(
            (str(s.axis), s.user, round(s.start_s, 6), round(s.end_s, 6)) for s in find_segments(truth.activity, PAPER)
        )
        events = sorted((e["axis"], e["user"], round(e["start_s"], 6), round(e["end_s"], 6)) for e in truth.events)
        assert found == events
        for event in truth.events:
            seen[Axis(event["axis"])] += 1
    assert min(seen.values()) >= 10


def test_events_inside_the_segments_are_those_of_the_truth(conversations):
    for _, truth in conversations:
        events = {(e["axis"], e["user"], round(e["start_s"], 6)): e for e in truth.events}
        for segment in find_segments(truth.activity, PAPER):
            event = events[str(segment.axis), segment.user, round(segment.start_s, 6)]
            for name in ("pauses", "backchannels"):
                if name in event:
                    np.testing.assert_allclose(getattr(segment, name), event[name])
            if segment.axis == Axis.INTERRUPTION:
                times = event["interruption_start_s"], event["interruption_end_s"]
                np.testing.assert_allclose(segment.pattern[2], times)


def test_with_silero_most_are_found_and_most_found_are_right(conversations):
    """Floors well below what docs/measurements.md reports, to notice a break and not a breeze."""
    detector = vad.load(VadSettings())
    counts = {axis: np.zeros(4) for axis in Axis}  # true, found, found of the true, true of the found
    for tracks, truth in conversations:
        blocks = Recording(tracks).blocks(16_000, detector.block_samples(16_000))
        first, second = detector.detect([blocks], 16_000)[0]
        found = [(str(s.axis), s.user, s.start_s, s.end_s) for s in find_segments((first, second), PAPER)]
        events = [(e["axis"], e["user"], e["start_s"], e["end_s"]) for e in truth.events]
        for axis in Axis:
            ours, theirs = ([s for s in spans if s[0] == axis] for spans in (found, events))
            counts[axis] += [len(theirs), len(ours), hits(theirs, ours), hits(ours, theirs)]
    for axis, (true, found, recalled, right) in counts.items():
        assert recalled / true >= 0.7, axis
        assert right / found >= 0.7, axis


def hits(these: list[tuple], those: list[tuple]) -> int:
    """How many of `these` begin and end within 0.3 s of one of `those`, on the same axis with the same roles."""
    return sum(any(a[:2] == b[:2] and abs(a[2] - b[2]) < 0.3 and abs(a[3] - b[3]) < 0.3 for b in those) for a in these)


@pytest.mark.shared_data
def test_silero_agrees_with_the_words_of_real_calls(shared):
    corpus = corpora.get("stereo")(shared / "spokenwoz_sample")
    detector = vad.load(VadSettings())
    for conversation in corpus.find():
        recording = Recording(conversation.tracks)
        found = detector.detect([recording.blocks(8000, detector.block_samples(8000))], 8000)[0]
        centres = np.arange(0.005, recording.duration_s, 0.01)
        for channel, activity in enumerate(found):
            words = [(w.start_s, w.end_s) for w in corpus.transcript(conversation).words if w.channel == channel]
            heard, told = (
                ((centres[:, None] > spans[:, 0]) & (centres[:, None] < spans[:, 1])).any(axis=1)
                for spans in (activity, np.array(words))
            )
            assert (heard == told).mean() > 0.85
            assert told[heard].mean() > 0.97  # hardly any speech where there is no word
