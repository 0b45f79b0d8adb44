"""One bad file never stops a run: each is reported under its reason, counted and skipped."""

import json
import os
import shutil

import numpy as np
import pytest
import soundfile
from support import QUICK, make_job, rows, segkit, write_wav

from segkit import cli
from segkit.errors import NothingUsableError, UsageError
from segkit.extraction.run import run


@pytest.fixture
def corpus(recordings, tmp_path):
    """A folder with one good recording, `good`, and its audio."""
    root = tmp_path / "corpus"
    root.mkdir()
    shutil.copy(recordings[0], root / "good.wav")
    return root, *soundfile.read(recordings[1])


def spoil(root, samples, rate_hz):
    """Every bad recording, as {id: the reason that must be reported}."""
    wav = write_wav(root / "truncated.wav", samples, rate_hz)
    wav.write_bytes(wav.read_bytes()[:100_000])
    write_wav(root / "no_samples.wav", np.zeros((0, 2)), rate_hz)
    (root / "zero_bytes.wav").write_bytes(b"")
    (root / "unreadable.wav").write_bytes(b"RIFF, or so it says" * 50)
    holes = samples[: 8 * rate_hz].copy()
    holes[4 * rate_hz, 0] = np.nan
    soundfile.write(root / "nan.wav", holes, rate_hz, subtype="FLOAT")
    write_wav(root / "mono.wav", samples[:, :1], rate_hz)
    write_wav(root / "three.wav", samples[:, [0, 1, 0]], rate_hz)
    write_wav(root / "same.wav", samples[:, [1, 1]], rate_hz)
    write_wav(root / "silent.wav", samples * [1, 0], rate_hz)
    (root / "dead_link.wav").symlink_to(root / "nowhere")
    (root / "video.mp4").write_bytes(b"ftypisom")
    shutil.copy(root / "good.wav", root / "wrong_extension.flac")  # libsndfile goes by the content
    write_wav(root / "twice.wav", samples, rate_hz)
    write_wav(root / "twice.flac", samples, rate_hz)
    return {
        "truncated": "truncated audio",
        "no_samples": "empty audio",
        "zero_bytes": "empty audio",
        "unreadable": "unreadable audio",
        "nan": "NaN in audio",
        "mono": "1-channel audio",
        "three": "3-channel audio",
        "same": "both channels are the same",
        "silent": "silent track",
        "dead_link": "file cannot be opened",
        "video": "unreadable audio",
        "wrong_extension": "duplicate audio",
        "twice": "two files claim one id",
    }


def test_every_bad_recording_is_counted_and_the_good_one_used(corpus, tmp_path, capsys):
    root, samples, rate_hz = corpus
    expected = spoil(root, samples[: 40 * rate_hz], rate_hz)
    short = "--context-s", 2, "--rate-hz", "null"
    code, _, said = segkit(
        "extract", "stereo", root, "-o", tmp_path / "out", "--workers", 1, *short, "-v", capsys=capsys
    )
    assert code == 0
    assert f"Warning: {len(expected)} inputs were skipped" in said
    assert "Warning: nothing is left for validation and test" in said  # of one recording
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert {p["source"]: p["reason"] for p in report["problems"]["list"]} == expected
    assert all(f"{source}: {reason}" in said for source, reason in expected.items())
    assert sum(report["problems"]["counts"].values()) == len(expected)
    assert report["recordings"] | {"hours": 0} == {
        "found": len(expected) + 1,
        "used": 1,
        "hours": 0,
        "splits": {"train": 1},
    }


@pytest.mark.parametrize(
    "content, reason",
    [
        ("", "unreadable transcript"),
        ("[" * 100_000, "unreadable transcript"),
        ("[[", "unreadable transcript"),
        ('[{"speaker": "A", "word": "x", "start": 1, "end": 500}]', "words outside the recording"),
        ('[{"speaker": "A", "word": "x", "start": -3, "end": 1}]', "words outside the recording"),
        ('[{"speaker": "A", "word": "x", "start": 2, "end": 1}]', "no words"),
        ('[{"speaker": "A", "word": "x", "start": NaN, "end": 1}]', "no words"),
    ],
)
def test_a_bad_transcript_costs_the_words_not_the_recording(corpus, tmp_path, content, reason):
    (corpus[0] / "good.json").write_text(content)
    job = make_job((corpus[0], None), tmp_path / "out", corpus="stereo", **QUICK)
    record = run(job)
    assert record.problems.counts == {reason: 1}
    assert record.recordings.used == 1
    assert rows(job)["words"].null_count == len(rows(job)) > 0


def test_odd_but_legal_words(corpus, tmp_path):
    word = '{"speaker": "A", "word": "half \\ud800", "start": "1.0", "end": 2, "extra": []}'
    (corpus[0] / "good.json").write_text(f"[{word}]")
    job = make_job((corpus[0], None), tmp_path / "out", corpus="stereo", rate_hz=None)
    assert run(job).problems.counts == {}
    assert any(word["text"] == "half ?" for row in rows(job).to_pylist() for word in row["words"])


def test_names_of_every_kind(corpus, tmp_path):
    root, samples, rate_hz = corpus
    for i, name in enumerate(("sp ace [x]{id}*", "new\nline", "ünï/ü")):
        write_wav(root / f"{name}.wav", np.roll(samples, i, axis=0), rate_hz)
    shutil.copy(root / "good.wav", root / os.fsdecode(b"bad\xff.wav"))
    record = run(make_job((root, None), tmp_path / "out", corpus="stereo", **QUICK))
    assert record.recordings.used == 4
    (problem,) = record.problems.inputs
    assert (problem.source, problem.reason) == ("bad\\udcff", "file name is not UTF-8")


def test_one_run_at_a_time(corpus, tmp_path):
    job = make_job((corpus[0], None), tmp_path / "out", corpus="stereo", **QUICK)
    with job.folder.claimed(job.record), pytest.raises(UsageError, match="Another run is writing"):
        run(job)
    job.folder.record_file.write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        run(job)


def test_words_just_after_the_end_are_cut(corpus, tmp_path):
    word = {"speaker": "A", "word": "bye", "start": 119.9, "end": 120.3}
    (corpus[0] / "good.json").write_text(json.dumps([word]))
    job = make_job((corpus[0], None), tmp_path / "out", corpus="stereo", **QUICK)
    assert run(job).problems.counts == {}


def test_duplicates_with_swapped_channels_are_one(corpus, tmp_path):
    root, samples, rate_hz = corpus
    write_wav(root / "a.wav", samples, rate_hz)
    write_wav(root / "b.wav", samples[:, ::-1], rate_hz)
    record = run(make_job((root, None), tmp_path / "out", corpus="stereo", **QUICK))
    assert [(p.source, p.detail) for p in record.problems.inputs] == [("b", "the same samples as a")]


def test_nothing_usable(tmp_path, capsys):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.wav").write_bytes(b"")
    with pytest.raises(NothingUsableError, match=r"empty audio \(1\)"):
        run(make_job((tmp_path / "corpus", None), tmp_path / "out", corpus="stereo", **QUICK))
    code, _, said = segkit("extract", "stereo", tmp_path / "corpus", "-o", tmp_path / "new", capsys=capsys)
    assert code == 1 and "None of the recordings could be used: empty audio (1)" in said
    assert json.loads((tmp_path / "new" / "run.json").read_text())["status"] == "nothing usable"
    (tmp_path / "corpus" / "a.wav").unlink()
    code, _, said = segkit("extract", "stereo", tmp_path / "corpus", "-o", tmp_path / "none", capsys=capsys)
    assert code == 1 and "No recordings of the corpus 'stereo'" in said


USAGE = {
    ("extract", "steroe", "ROOT"): 'Did you mean "stereo"',
    ("extract", "stereo"): "ROOT is missing",
    ("extract", "stereo", "nowhere"): "is not a folder",
    ("extract", "stereo", "ROOT", "--set", "pause.tau_min=3"): "Did you mean 'pause.tau_min_s'?",
    (
        "extract",
        "stereo",
        "ROOT",
        "--set",
        "pause.tau_min_s=long",
    ): "got 'long'. Expected a number, 0 or more (seconds)",
    ("extract", "stereo", "ROOT", "--set", "backchannel.inside=perhaps"): "Expected true or false",
    ("extract", "stereo", "ROOT", "--set", "pause.tau_min_s"): "Expected NAME=VALUE",
    ("extract", "stereo", "ROOT", "--set", "licence_=x"): "Did you mean 'corpus.licence'?",
    ("extract", "stereo", "ROOT", "--set", "corpus.licence_=x"): "Did you mean 'corpus.licence'?",
    ("extract", "stereo", "ROOT", "--set", "vad.backend=silero2"): "Did you mean 'silero'?",
    ("extract", "stereo", "ROOT", "--axes", "pauses"): "Did you mean 'pause'?",
    ("extract", "stereo", "ROOT", "--axes", ""): "Expected at least one axis",
    ("extract", "stereo", "ROOT", "--preset", "papers"): 'Did you mean "paper"',
    ("extract", "stereo", "ROOT", "--vad", "webrct"): "Did you mean 'webrtc'?",
    ("extract", "stereo", "ROOT", "--splits", "0.9,0.2,0.1"): "add up to 1",
    ("extract", "stereo", "ROOT", "--splits", "most"): "Expected 3 numbers",
    ("extract", "stereo", "ROOT", "--splits", "0.9,0.1"): "Expected 3 numbers",
    ("extract", "stereo", "ROOT", "--rate-hz", "fast"): "8000 to 192000 (Hz), or null",
    ("extract", "stereo", "ROOT", "--per-axis", "0"): "'per_axis' got 0. Expected a whole number, 1 or more",
    ("extract", "stereo", "ROOT", "--limit", "0"): "'limit' got 0. Expected a whole number, 1 or more",
    ("extract", "stereo", "ROOT", "--context-s", "nan"): "'context_s' got nan. Expected a number, 0 or more, finite",
    ("extract", "stereo", "ROOT", "--context-s", "inf"): "'context_s' got inf. Expected a number, 0 or more, finite",
    ("extract", "stereo", "ROOT", "--rate-hz", "0"): "'rate_hz' got '0'. Expected a whole number, 8000 to 192000 (Hz)",
    ("extract", "stereo", "ROOT", "--device", "cud"): "Expected cpu, or cuda",
    ("extract", "stereo", "ROOT", "--engine", "rya"): 'Did you mean "ray"',
    ("extract", "synthetic", "ROOT", "--set", "corpus.rate_hz=1"): "Expected a whole number, 8000 to 48000 (Hz)",
    ("corpora", "fishr"): "Unknown corpus",
    ("stats", "nowhere"): "Expected a folder that `segkit extract` wrote",
    ("inspect", "nowhere", "abc"): "Expected a folder that `segkit extract` wrote",
}


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_wrong_usage_exits_with_2_and_says_what_was_expected(arguments, corpus, tmp_path, capsys):
    given = [corpus[0] if argument == "ROOT" else argument for argument in arguments]
    output = ["-o", tmp_path / "out"] if arguments[0] == "extract" else []
    code, _, said = segkit(*given, *output, capsys=capsys)
    assert code == 2
    assert USAGE[arguments] in said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "data").exists()


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setattr("sys.argv", ["segkit", "extract", "steroe", "x", "--debug"])
    with pytest.raises(Exception, match="Unknown corpus"):
        cli.main()
