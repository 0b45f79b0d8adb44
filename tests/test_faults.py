"""Inputs on which segkit went wrong, by the commands of `faults/README.md` beside the other shared data.

Those of words, of crosstalk, and of checkpoints are in the tests of these.
"""

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from support import segkit

from segkit.dataset.dataset import Dataset

pytestmark = pytest.mark.shared_data
EASIER = "--set", "turn_taking.tau_min_s=2", "--set", "pause.tau_min_s=2"
GOOD = {"pause": 3, "turn_taking": 2}
"""The segments of the 75 seconds."""


@pytest.fixture
def extract(shared, tmp_path, capsys):
    """A function that extracts a folder: the dataset, the segments of each recording, and their lengths in seconds."""

    def extract(corpus, root, *options):
        code, said, warned = segkit(
            *("extract", corpus, root, "-o", tmp_path / "out", "--rate-hz", "native", "--workers", 1, "-v"),
            *(*EASIER, *options),
            capsys=capsys,
        )
        assert code == 0, said + warned
        dataset = Dataset(tmp_path / "out")
        segments: dict[str, Counter] = {}
        for path in dataset.folder.shards():
            for row in pq.read_table(path, columns=["recording_id", "axis"]).to_pylist():
                segments.setdefault(row["recording_id"], Counter())[row["axis"]] += 1
        parts = [pq.read_table(path).to_pylist() for path in dataset.folder.parts()]
        return dataset, segments, {row["recording_id"]: row["duration_s"] for part in parts for row in part}

    return lambda corpus, folder, *options: extract(corpus, shared / "faults" / folder, *options)


def test_decoders_that_cannot_seek(extract):
    dataset, segments, _ = extract("pairs", "01-gsm-pair")
    assert segments == {"good": GOOD, "asterisk": GOOD}
    assert dataset.record.problems.inputs == []


def test_mp3_that_went_through_a_pipe(extract):
    _, segments, lengths_s = extract("stereo", "02-mp3-pipe")
    assert lengths_s == pytest.approx(dict.fromkeys(["vbr_file", "vbr_pipe", "mp3_in_wav"], 75.0), abs=0.06)
    assert segments == dict.fromkeys(["vbr_file", "vbr_pipe", "mp3_in_wav"], GOOD)


def test_where_one_track_has_ended_nobody_waits(extract):
    dataset, _, _ = extract("pairs", "05-one-track-ends")
    assert max(row["end_s"] for axis in dataset.axes for row in dataset.table(axis).to_pylist()) <= 30
    (warning,) = dataset.record.warnings.inputs
    assert warning.reason == "tracks of unequal length" and "30.00 s in common, the other 45.00 s" in warning.detail


def test_the_content_decides_not_the_name(extract):
    _, segments, lengths_s = extract("stereo", "06-content-not-suffix")
    assert lengths_s == pytest.approx({"m4a_named": 40.0}, abs=0.07) and segments


def test_audio_of_the_hub_without_a_name(extract, shared, tmp_path):
    (tmp_path / "kept").mkdir()
    dataset = f"corpus.dataset={shared / 'faults' / '07-hub-no-path' / 'ds'}"
    _, segments, lengths_s = extract("hub", tmp_path / "kept", "--set", dataset)
    assert lengths_s == pytest.approx({"0": 40.0}, abs=0.07) and segments


def test_lengths_that_headers_do_not_know_or_miscount(extract):
    dataset, segments, lengths_s = extract("stereo", "08-headers")
    expected_s = {"flac_length_unknown": 40, "size_zero": 40, "nine_frames_missing": 39.998875}
    assert lengths_s == expected_s | {"one_sample_missing": 74.999875}
    assert segments["one_sample_missing"] == GOOD
    # two of them hold the same samples
    assert {problem.reason for problem in dataset.record.problems.inputs} == {"duplicate audio"}
    assert {each.source for each in dataset.record.warnings.inputs} == {"nine_frames_missing", "one_sample_missing"}


def test_a_stream_of_each_speaker(extract, shared):
    _, segments, lengths_s = extract("stereo", "09-two-streams")
    assert lengths_s == pytest.approx({"a_speaker_per_stream": 40.0}, abs=0.07) and segments


def test_a_sphere_file_with_shorten_under_another_name(shared, tmp_path):
    from segkit.audio import Recording
    from segkit.schemas import Track

    path = tmp_path / "a.wav"
    path.write_bytes((shared / "sphere" / "123_2ulaw_shn.sph").read_bytes())
    recording = Recording([Track(path, 0), Track(path, 1)])
    plain, _ = soundfile.read(shared / "sphere" / "123_2alaw.sph", dtype="float32")
    assert np.abs(recording.window(0, recording.duration_s, 20_000) - plain.T).max() < 0.06


def test_a_ratio_that_overflows(shared, capsys):
    """The objective is finite wherever the new model has gone, and nothing where the advantage is 0."""
    import runpy

    runpy.run_path(str(shared / "faults" / "13_objective.py"), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    assert [line.endswith("gradient finite: True") for line in printed] == [True] * 3
    assert not any(word in line for line in printed for word in ("nan", "inf,")) and "loss 0," in printed[2]
