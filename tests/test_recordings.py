"""What `segkit extract` does with recordings that are used although something is wrong with them."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from support import QUICK, make_job, rows, write_wav

from segkit.corpora.pairs import PairsOptions
from segkit.decoding import decoders
from segkit.extraction import row
from segkit.extraction.run import run


def two_files(source: Path, root: Path, seconds: tuple[float, float], offsets_s: tuple[float, float] = (0.0, 0.0)):
    """A recording as two mono files, each from an offset on the clock of the recording, and so many seconds long."""
    samples, rate_hz = soundfile.read(source)
    for side, name in enumerate(("agent", "caller")):
        first = round(offsets_s[side] * rate_hz)
        part = samples[first : first + round(seconds[side] * rate_hz), side]
        write_wav(root / f"17_{name}.wav", part, rate_hz)
    return PairsOptions(offsets=f"{offsets_s[0]},{offsets_s[1]}")


def activity_of(job):
    """The speech of each track of the only recording."""
    import pyarrow.parquet as pq

    (part,) = job.folder.parts()
    (found,) = pq.read_table(part).to_pylist()
    return [np.array(track).reshape(-1, 2) for track in found["activity"]]


def test_speech_counts_where_both_tracks_have_audio(recordings, tmp_path):
    options = two_files(recordings[1], tmp_path / "whole", (100.0, 100.0))
    whole = make_job((tmp_path / "whole", None), tmp_path / "a", corpus="pairs", options=options, **QUICK)
    record = run(whole)
    assert record.warnings.inputs == []
    options = two_files(recordings[1], tmp_path / "parts", (90.0, 45.0), offsets_s=(10.0, 5.0))
    parts = make_job((tmp_path / "parts", None), tmp_path / "b", corpus="pairs", options=options, **QUICK)
    record = run(parts)
    (warning,) = record.warnings.inputs
    assert (warning.source, warning.reason) == ("17", "tracks of unequal length")
    assert warning.detail == (
        "parts/17_agent.wav and parts/17_caller.wav have 40.00 s in common, the other 60.00 s are not used"
    )
    for all_of_it, found in zip(activity_of(whole), activity_of(parts), strict=True):
        assert len(found) and found.min() >= 10.0 and found.max() <= 50.0
        inside = all_of_it[(all_of_it[:, 0] > 11) & (all_of_it[:, 1] < 49)]
        starts = np.abs(found[:, :1] - inside[None, :, 0]).min(axis=0)
        assert np.median(starts) < 0.04  # frames of the detector begin elsewhere


def test_tracks_that_have_nothing_in_common(recordings, tmp_path):
    options = two_files(recordings[1], tmp_path / "calls", (30.0, 30.0), offsets_s=(0.0, 31.0))
    two_files(recordings[0], tmp_path / "calls" / "good", (40.0, 40.0))
    job = make_job((tmp_path / "calls", None), tmp_path / "out", corpus="pairs", options=options, **QUICK)
    record = run(job)
    assert record.problems.counts == {"tracks do not overlap": 1}


def test_a_container_is_decoded_once_in_a_run(recordings, tmp_path, monkeypatch):
    for i, source in enumerate(recordings[:2]):
        samples, rate_hz = soundfile.read(source, dtype="int16")
        (tmp_path / "calls").mkdir(exist_ok=True)
        with av.open(str(tmp_path / "calls" / f"{i}.m4a"), "w") as container:
            stream = container.add_stream("aac", rate=rate_hz, layout="stereo")
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="stereo")
            frame.rate, frame.pts = rate_hz, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    decoded = []
    monkeypatch.setattr(
        "segkit.decoding.probe.decode", lambda path, *rest: decoded.append(path.name) or decoders.decode(path, *rest)
    )
    job = make_job((tmp_path / "calls", None), tmp_path / "out", corpus="stereo", **QUICK)
    record = run(job)
    assert record.recordings.used == 2 and len(rows(job))
    assert sorted(decoded) == ["0.m4a", "1.m4a"]


def test_what_fails_when_cutting_is_the_recordings_problem(made, tmp_path, monkeypatch):
    """Its segments are dropped with the reason, the others written, and another run tries again."""
    whole = make_job(made, tmp_path / "whole", limit=3, **QUICK)
    complete = run(whole)
    broken = rows(whole)["recording_id"][0].as_py()
    expected = {each["id"] for each in rows(whole).to_pylist() if each["recording_id"] != broken}
    job = make_job(made, tmp_path / "out", limit=3, **QUICK)
    shutil.copytree(whole.folder.annotations, job.folder.annotations)
    original = row.Source.cut

    def cut(source, *window):
        if source.annotation["recording_id"] == broken:
            raise RuntimeError("Seek attempted")
        return original(source, *window)

    monkeypatch.setattr(row.Source, "cut", cut)
    record = run(job)
    assert {each["id"] for each in rows(job).to_pylist()} == expected
    assert [(each.source, each.reason) for each in record.problems.inputs] == [(broken, "unexpected error")]
    lost = sum(axis.dropped.get("unexpected error", 0) for axis in record.segments.values())
    assert lost == len(rows(whole)) - len(expected) > 0
    monkeypatch.undo()
    assert run(job).segments == complete.segments


def test_a_recording_that_is_gone_when_it_is_cut(recordings, tmp_path):
    for i, source in enumerate(recordings[:2]):
        (tmp_path / "calls").mkdir(exist_ok=True)
        shutil.copy(source, tmp_path / "calls" / f"{i}.wav")

    def hook(stage, done, total, facts=None):
        if stage == "writing":
            (tmp_path / "calls" / "1.wav").unlink(missing_ok=True)

    job = make_job((tmp_path / "calls", None), tmp_path / "out", corpus="stereo", **QUICK)
    record = run(job, hook=hook)
    assert {each["recording_id"] for each in rows(job).to_pylist()} == {"0"}
    assert [(each.source, each.reason) for each in record.problems.inputs] == [("1", "file cannot be opened")]


def test_a_small_shortfall_is_a_warning_of_the_run(recordings, tmp_path):
    (tmp_path / "calls").mkdir()
    data = recordings[0].read_bytes()
    (tmp_path / "calls" / "short.wav").write_bytes(data[:-360])
    job = make_job((tmp_path / "calls", None), tmp_path / "out", corpus="stereo", **QUICK)
    record = run(job)
    assert record.problems.inputs == [] and record.warnings.counts == {"audio is a little short": 1}
    strict = make_job(
        (tmp_path / "calls", None),
        tmp_path / "strict",
        corpus="stereo",
        audio__max_missing_s=0,
        audio__max_missing_share=0,
        **QUICK,
    )
    with pytest.raises(Exception, match="truncated audio"):
        run(strict)
