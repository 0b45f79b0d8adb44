"""From transcripts alone: segments without audio, and what can be done with them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import QUICK, make_job, rows, segkit

from segkit.corpora.stereo import Stereo
from segkit.errors import NothingUsableError
from segkit.extraction.run import run


@pytest.fixture
def texts(made, tmp_path):
    """The corpus `stereo` with the words of the synthetic conversations, and no audio but one file."""
    root = tmp_path / "texts"
    root.mkdir()
    for wav in sorted(made[0].rglob("*.wav")):
        facts = json.loads(wav.with_suffix(".json").read_text())
        words = [
            {"speaker": "AB"[w["channel"]], "word": w["text"], "start": w["start_s"], "end": w["end_s"]}
            for w in facts["words"]
        ]
        shutil.copy(wav, root)
        (root / f"{wav.stem}.json").write_text(json.dumps(words))
    return root


def job(root, out, **changes):
    return make_job((root, None), out, corpus="stereo", **QUICK | {"vad__backend": "transcript"} | changes)


def test_segments_without_audio(texts, tmp_path, capsys):
    for wav in texts.glob("*.wav"):
        wav.write_bytes(b"not read")
    done = job(texts, tmp_path / "out", annotations_only=True)
    record = run(done)
    assert record.problems.counts == {}
    table = rows(done)
    assert {axis for axis, counts in record.segments.items() if counts.kept} == set(done.settings.axes)
    for name in ("user", "agent", "user_snr_db", "bleed_db", "clipped"):
        assert table[name].null_count == len(table)
    for row in table.to_pylist():
        assert row["duration_s"] == pytest.approx(row["end_s"] - row["start_s"])
        assert row["words_source"] == "corpus, words"
        assert row["words_without_speech"] == 0  # speech is where the words are
        assert row["speech_without_words"] < 0.1  # but for silences shorter than vad.min_silence_s
    for axis in done.settings.axes:
        assert segkit("inspect", done.out, axis, "--png", tmp_path / "a.png")[0] == 0
    assert segkit("stats", done.out)[0] == 0
    code, _, said = segkit("align", done.out, tmp_path / "run", capsys=capsys)
    assert code == 2 and "has no audio" in said


def test_transcripts_find_the_same_segments_with_audio_and_without(texts, tmp_path):
    silent = job(texts, tmp_path / "silent", annotations_only=True)
    loud = job(texts, tmp_path / "loud")
    run(silent)
    run(loud)
    without, with_audio = (rows(each).sort_by("id") for each in (silent, loud))
    assert without["id"].equals(with_audio["id"]) and len(without)
    assert with_audio["user"].null_count == 0
    for name in ("words", "user_activity", "agent_activity", "start_s", "end_s", "overlap_share"):
        assert without[name].to_pylist() == with_audio[name].to_pylist(), name


def test_activity_is_that_of_the_words(texts, tmp_path):
    done = job(texts, tmp_path / "out", annotations_only=True)
    run(done)
    for annotation in pq.read_table(sorted(done.folder.annotations.glob("*.parquet"))).to_pylist():
        tracks = [np.array(track).reshape(-1, 2) for track in annotation["activity"]]
        for channel, track in enumerate(tracks):
            said = [(w["start_s"], w["end_s"]) for w in annotation["words"] if w["channel"] == channel]
            assert all(((track[:, 0] <= a) & (b <= track[:, 1])).any() for a, b in said)
            assert (track[1:, 0] - track[:-1, 1] >= done.settings.vad.min_silence_s - 1e-6).all()
            assert len(track) < len(said)


def test_recordings_without_a_transcript_are_named(texts, tmp_path):
    (texts / "00000.json").unlink()
    (texts / "00001.json").write_text("{")
    record = run(job(texts, tmp_path / "out", annotations_only=True))
    assert record.problems.counts == {"no transcript": 1, "unreadable transcript": 1}
    assert record.recordings.used == 4


def test_untrusted_segments_are_dropped_with_their_reason(texts, tmp_path):
    record = run(job(texts, tmp_path / "out", vad__backend="silero", limit=2, trust__max_speech_without_words=0.01))
    assert sum(counts.dropped.get("speech without words", 0) for counts in record.segments.values()) > 0


def test_check_counts_what_is_there(texts, capsys):
    (texts / "00000.json").unlink()
    (texts / "00001.flac").write_bytes(b"")
    code, said, _ = segkit("corpora", "stereo", "--check", texts, "--set", "corpus.language=en", capsys=capsys)
    assert code == 0
    counts = [cells[2].strip() for line in said.splitlines() if len(cells := line.split("│")) > 2]
    assert [n for n in counts if n] == ["1", "4", "1"]
    assert "two files claim one id" in said
    assert segkit("corpora", "--check", texts)[0] == 2


def test_a_value_that_no_column_holds_costs_one_recording(texts, tmp_path, monkeypatch):
    whole = Stereo.transcript

    def odd(self, conversation):
        transcript = whole(self, conversation)
        if conversation.id == "00002":
            transcript.words[0] = replace(transcript.words[0], confidence="high")
        return transcript

    monkeypatch.setattr(Stereo, "transcript", odd)
    record = run(job(texts, tmp_path / "out", annotations_only=True))
    assert record.problems.counts == {"unexpected error": 1}
    assert record.problems.inputs[0].source == "00002"
    assert record.recordings.used == 5


def test_a_corrected_transcript_is_read_again(texts, tmp_path):
    done = job(texts, tmp_path / "out", annotations_only=True, limit=1)
    run(done)
    path = texts / "00000.json"
    words = json.loads(path.read_text())
    words[0]["word"] = "x" * len(words[0]["word"])  # as long as before
    path.write_text(json.dumps(words))
    run(done)
    (annotation,) = pq.read_table(sorted(done.folder.annotations.glob("*.parquet"))).to_pylist()
    assert any(set(word["text"]) == {"x"} for word in annotation["words"])


def test_a_few_words_outside_are_dropped_and_many_are_another_recordings(texts, tmp_path):
    path = texts / "00000.json"
    words = json.loads(path.read_text())
    path.write_text(json.dumps([*words, {"speaker": "A", "word": "late", "start": 500, "end": 501}]))
    loud = job(texts, tmp_path / "loud", limit=1)
    record = run(loud)
    assert record.words_dropped == {"word outside the recording": 1} and record.recordings.used == 1
    path.write_text(json.dumps([w | {"start": w["start"] + 60, "end": w["end"] + 60} for w in words]))
    with pytest.raises(NothingUsableError, match=r"words outside the recording \(1\)"):
        run(loud)


def test_the_same_words_twice_are_one_recording(texts, tmp_path):
    shutil.copy(texts / "00000.json", texts / "copy.json")
    shutil.copy(texts / "00000.wav", texts / "copy.wav")
    record = run(job(texts, tmp_path / "out", annotations_only=True))
    assert record.problems.counts == {"duplicate audio": 1}


def test_unknown_speakers_are_said(texts, tmp_path, capsys):
    options = ["--set", "pause.tau_min_s=2", "--workers", 1, "--vad", "transcript", "--annotations-only"]
    code, _, said = segkit("extract", "stereo", texts, "-o", tmp_path / "out", *options, capsys=capsys)
    assert code == 0 and "Warning: who speaks in 6 recordings is unknown" in said
