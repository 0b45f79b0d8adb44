"""Crosstalk: what leaks is measured, told, and kept from being speech; what is nobody's leak is left alone."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support import make_job, segkit, write_wav
from test_trust import TALK, dropped

from segkit.audio import Recording
from segkit.corpora.stereo import StereoOptions
from segkit.corpora.synthetic import Synthetic, SyntheticOptions
from segkit.dataset.rows import read
from segkit.extraction.listen import detect_speech
from segkit.extraction.run import run
from segkit.extraction.words import evidence_of
from segkit.schemas import NO_INTERVALS, Track
from segkit.segmenters import bleed, vad
from segkit.segmenters.decision import speech_intervals
from segkit.segmenters.timeline import common, covered_s, durations
from segkit.segmenters.trust import Evidence
from segkit.settings import ExtractionSettings, VadSettings

WHOLE = np.array([[0.0, 1e6]])


@pytest.fixture(scope="module")
def minutes(recordings):
    """A minute of each of some conversations at 8 kHz, (2, samples)."""
    return [soundfile.read(path, stop=60 * 8000)[0].T for path in recordings]


def gain(db):
    return 10 ** (db / 20)


def talk(rate_hz, seconds=24, seed=0, overlap_s=0.3):
    """Two speakers who take turns of 1 s, overlaps and silences: coloured noise, (2, samples), and activity."""
    rng = np.random.default_rng(seed)
    starts = np.arange(0.2, seconds - 2.2, 2.2)
    activity = tuple(np.stack([starts + late, starts + late + 1.0], axis=1) for late in (0.0, 1.0 - overlap_s))
    voices = np.zeros((2, seconds * rate_hz))
    for voice, spans in zip(voices, activity, strict=True):
        for start_s, end_s in (spans * rate_hz).astype(int):
            noise = rng.normal(0, 0.1, end_s - start_s)
            syllables = 0.3 + np.abs(np.sin(np.arange(len(noise)) * 12 / rate_hz))
            voice[start_s:end_s] = syllables * np.convolve(noise, [1, 0.8, 0.4], "same")
    return voices, activity


def leaking(voices, rate_hz, level_db, delay_s=0.0, snr_db=40.0, seed=1):
    """What two microphones hear: each the other one's speaker, later and quieter, and noise of its own."""
    late = round(delay_s * rate_hz)
    heard = voices + gain(level_db) * np.pad(voices[::-1], ((0, 0), (late, 0)))[:, : voices.shape[1]]
    return heard + np.random.default_rng(seed).normal(0, 0.1 * gain(-snr_db), voices.shape)


def stretches(audio, activity, rate_hz):
    return bleed.stretches([(0, audio.astype(np.float32))], activity, rate_hz)


def leaks(audio, activity, rate_hz):
    return bleed.leaks(stretches(audio, activity, rate_hz))


# ---- measuring -----------------------------------------------------------------------------------------


@hypothesis_settings(deadline=None, max_examples=15, derandomize=True)
@given(
    level_db=st.floats(-30, -6),
    delay_s=st.floats(0, 0.012),
    snr_db=st.floats(35, 60),
    rate_hz=st.sampled_from([8000, 16_000]),
    louder_db=st.floats(-20, 20),
    seed=st.integers(0, 99),
)
def test_level_and_delay_are_found_again(level_db, delay_s, snr_db, rate_hz, louder_db, seed):
    voices, activity = talk(rate_hz, seed=seed)
    audio = leaking(voices, rate_hz, level_db, delay_s, snr_db) * np.array([[1.0], [gain(louder_db)]])
    for leak, microphones_db in zip(leaks(audio, activity, rate_hz), (-louder_db, louder_db), strict=True):
        tolerance_db = 1.0 if level_db > -25 else 2.5  # it is near to the noise, and to what speakers have in common
        assert leak.level_db == pytest.approx(level_db + microphones_db, abs=tolerance_db)
        assert leak.delay_s == pytest.approx(delay_s, abs=1 / rate_hz)
        assert leak.audible == (level_db + microphones_db > -40) or abs(level_db + microphones_db + 40) < 2.5


def test_one_way_only():
    voices, activity = talk(8000)
    audio = leaking(voices, 8000, -np.inf)
    audio[1] += 0.1 * voices[0]
    first, second = leaks(audio, activity, 8000)
    assert first.level_db < -50 and second.level_db == pytest.approx(-20, abs=0.5)


@pytest.mark.parametrize("delay_s", [-0.2, -0.004, 0.03, 0.25])
def test_clocks_apart_and_the_echo_of_a_call(delay_s):
    """What is late by a part of a turn is measured a little too low: some of it lies outside of the stretch."""
    voices, activity = talk(8000)
    late = round(delay_s * 8000)
    audio = leaking(voices, 8000, -np.inf)
    audio[0] += 0.1 * np.roll(voices[1], late)
    assert leaks(audio, activity, 8000)[0].delay_s == pytest.approx(delay_s)
    assert leaks(audio, activity, 8000)[0].level_db == pytest.approx(-20, abs=4.0)


def nothing(audio):
    return audio


def hum(audio):
    times_s = np.arange(audio.shape[1]) / 8000
    return audio + sum(0.03 / k * np.sin(2 * np.pi * 50 * k * times_s + k) for k in range(1, 10))


def common_noise(audio):
    return audio + 0.02 * np.random.default_rng(5).normal(0, 1, audio.shape[1])


def offset(audio):
    return audio + 0.2


def telephone(audio):
    file = io.BytesIO()
    soundfile.write(file, audio.T, 8000, format="WAV", subtype="ULAW")
    file.seek(0)
    return soundfile.read(file)[0].T


@pytest.mark.parametrize("recorded", [nothing, hum, common_noise, offset, telephone], ids=lambda f: f.__name__)
@pytest.mark.parametrize("overlap_s", [-0.5, 0.3, 0.8])
def test_what_is_no_leak(recorded, overlap_s):
    """Neither people who overlap, nor what both channels hold beside the voices."""
    voices, activity = talk(8000, overlap_s=overlap_s)
    audio = recorded(leaking(voices, 8000, -np.inf, snr_db=30))
    found = stretches(audio, activity, 8000)
    assert all(leak.level_db < bleed.AUDIBLE_DB for leak in bleed.leaks(found)) and not bleed.is_one_signal(found)


def test_what_cannot_be_measured_is_none():
    voices, activity = talk(8000)
    silent = np.stack([voices[0], np.zeros(voices.shape[1])])
    assert leaks(silent, (activity[0], NO_INTERVALS), 8000) == (None, bleed.NOTHING)
    assert leaks(0 * voices, (NO_INTERVALS, NO_INTERVALS), 8000) == (None, None)
    assert stretches(voices[:, :8000], activity, 8000) is None
    assert bleed.stretches([], activity, 8000) is None


# ---- one signal ----------------------------------------------------------------------------------------


def coded(audio, rate_hz, kind, subtype):
    file = io.BytesIO()
    soundfile.write(file, audio.T, rate_hz, format=kind, subtype=subtype)
    file.seek(0)
    return soundfile.read(file, always_2d=True)[0].T[:, : audio.shape[1]]


@pytest.mark.parametrize("kind", [("WAV", "PCM_16"), ("OGG", "OPUS"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
@pytest.mark.parametrize(("late", "level_db"), [(0, 0.0), (3, -3.0), (40, 0.0)])
def test_one_signal_on_both_channels(kind, late, level_db, minutes):
    """Also if the two are coded each for itself."""
    rate_hz, mono = 8000, minutes[0].sum(axis=0)
    other = gain(level_db) * np.pad(mono, (late, 0))[: len(mono)]
    audio = np.concatenate([coded(track[None], rate_hz, *kind) for track in (mono, other)])
    activity = vad.detect_array(vad.load(VadSettings()), audio.astype(np.float32), rate_hz)
    assert bleed.is_one_signal(stretches(audio, activity, rate_hz))


@pytest.mark.parametrize("level_db", [-20.0, -10.0, -6.0, -3.0])
@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.01])
def test_two_people_are_never_one_signal(level_db, delay_s, minutes):
    rate_hz = 8000
    audio = leaking(minutes[1], rate_hz, level_db, delay_s)
    activity = vad.detect_array(vad.load(VadSettings()), audio.astype(np.float32), rate_hz)
    assert not bleed.is_one_signal(stretches(audio, activity, rate_hz))


# ---- the gate ------------------------------------------------------------------------------------------


def heard(tmp_path, audio, rate_hz, gate, backend="silero"):
    """The row of a recording."""
    path = write_wav(tmp_path / "heard.wav", audio.T, rate_hz)
    row = {"problem": None, "bleed": None, "warnings": []}
    detector = vad.load(VadSettings(backend=backend))
    detect_speech(detector, {"a": row}, {"a": Recording((Track(path, 0), Track(path, 1)))}, gate)
    assert row["problem"] is None, row
    return row


def activity_of(row):
    return [np.array(track).reshape(-1, 2) for track in row["activity"]]


def differing(found, truth):
    """The share of the time of speech in which two activities differ."""
    both = sum(covered_s(common(f, t), WHOLE)[0] for f, t in zip(found, truth, strict=True))
    each = sum(durations(track).sum() for track in (*found, *truth))
    return 1 - 2 * both / each


@pytest.mark.parametrize("backend", ["silero", "webrtc"])
def test_the_gate_takes_leaks_for_what_they_are(backend, minutes, tmp_path):
    both, rate_hz = minutes[0].T, 8000
    truth = activity_of(heard(tmp_path, both.T, rate_hz, False, backend))
    audio = leaking(both.T, rate_hz, -12, 0.004, snr_db=60)
    without, gated = (heard(tmp_path, audio, rate_hz, gate, backend) for gate in (False, True))
    assert differing(activity_of(without), truth) > 0.2 and differing(activity_of(gated), truth) < 0.04
    assert without["bleed"] == gated["bleed"] and without["audio_hash"] == gated["audio_hash"]
    (warning,) = without["warnings"]
    assert warning["reason"] == "crosstalk" and "at -12." in warning["detail"] and "4.0 ms" in warning["detail"]


def test_without_crosstalk_the_gate_changes_nothing(minutes, tmp_path):
    for both in minutes[:4]:
        without, gated = (heard(tmp_path, both, 8000, gate) for gate in (False, True))
        assert gated == without and not gated["warnings"]
        assert all(leak["level_db"] < bleed.AUDIBLE_DB for leak in gated["bleed"])


def test_a_channel_without_a_leak_stays_as_it_is(minutes, tmp_path):
    both, rate_hz = minutes[0].T, 8000
    audio = both.T.copy()
    audio[1] += 0.2 * both[:, 0]
    without, gated = (heard(tmp_path, audio, rate_hz, gate) for gate in (False, True))
    assert without["activity"][0] == gated["activity"][0] and without["activity"][1] != gated["activity"][1]
    assert without["warnings"][0]["detail"].startswith("track 1 ")


def test_quiet_speech_under_a_loud_leak_survives(minutes, tmp_path):
    """A backchannel that is quieter than the leak which it lies under."""
    both, rate_hz = minutes[0].T, 8000
    first, second = both.T.copy()
    truth = activity_of(heard(tmp_path, both.T, rate_hz, False))
    (long,) = truth[0][durations(truth[0]).argmax()][None]
    short = truth[1][(durations(truth[1]) > 0.4) & (durations(truth[1]) < 1.2)][0]
    word = second[round(short[0] * rate_hz) : round(short[1] * rate_hz)]
    begin_s = long.mean() - (short[1] - short[0]) / 2
    second[round((long[0] - 0.5) * rate_hz) : round((long[1] + 0.5) * rate_hz)] *= 0
    second[round(begin_s * rate_hz) :][: len(word)] = 0.3 * word
    audio = leaking(np.stack([first, second]), rate_hz, -6, 0.003, snr_db=55)
    found = activity_of(heard(tmp_path, audio, rate_hz, True))[1]
    window = np.array([[begin_s, begin_s + short[1] - short[0]]])
    assert covered_s(found, window)[0] > 0.6 * durations(window)[0]
    assert covered_s(found, long[None])[0] < durations(window)[0] + 0.3


@pytest.mark.parametrize("block", [8000, 9001])
def test_gated_audio_is_where_it_was(block):
    """Without a leak worth the name a channel is as it was, through all blocks, the short last one among them."""
    audio = np.random.default_rng(0).normal(0, 0.1, (2, 4 * block + 77)).astype(np.float32)
    blocks = [audio[:, i : i + block] for i in range(0, audio.shape[1], block)]
    leak = bleed.Leak(-60.0, 0.0, np.zeros(128), -16)
    found = list(bleed.gated(iter(blocks), {1: leak}, 8000))
    assert [each.shape for each in found] == [(1, each.shape[1]) for each in blocks]
    np.testing.assert_allclose(np.concatenate(found, axis=1)[0], audio[1], atol=1e-5)


@pytest.mark.parametrize("late", [400, -400])
def test_a_leak_is_taken_away_across_blocks(late):
    voice = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)
    response = np.zeros(128)
    response[[16, 40]] = 0.5, -0.2
    leaked = np.roll(np.convolve(voice, response)[: len(voice)], late - 16)
    audio = np.stack([voice, leaked]).astype(np.float32)
    blocks = iter([audio[:, i : i + 12_000] for i in range(0, 40_000, 12_000)])
    leak = bleed.Leak(-5.0, late / 8000, response, late - 16)
    left = np.concatenate(list(bleed.gated(blocks, {1: leak}, 8000)), axis=1)[0]
    for part in np.split(left[500:-500], 78):  # also at the seams
        assert np.mean(part**2) < 0.15 * np.mean(leaked**2)


# ---- settings, rows, runs --------------------------------------------------------------------------------


def test_crosstalk_drops_segments():
    assert dropped(Evidence(TALK, bleed_db=-20.0)) == set()
    assert dropped(Evidence(TALK, bleed_db=-20.0), max_bleed_db=-30.0) == {"crosstalk"}
    assert dropped(Evidence(TALK, bleed_db=-30.0), max_bleed_db=-30.0) == set()
    assert dropped(Evidence(TALK), max_bleed_db=-30.0) == set()  # not measured
    row = dict.fromkeys(["words", "others", "transcribed_s", "derived"])
    for found, level_db in (
        (None, -np.inf),
        ([None, None], -np.inf),
        ([{"level_db": -20.0, "delay_s": 0.0}, {"level_db": -50.0, "delay_s": None}], -20.0),
    ):
        assert evidence_of(row | {"bleed": found}, TALK).bleed_db == level_db


@hypothesis_settings(max_examples=200, derandomize=True)
@given(st.lists(st.booleans(), max_size=200), st.sampled_from([0.0, 0.03, 0.06, 0.08, 0.3, 0.5]))
def test_the_end_bias_comes_off_the_ends_only(loud, bias_s):
    p, samples = np.array(loud, np.float32), 256 * len(loud)
    settings = VadSettings(min_speech_s=0.1)
    before = speech_intervals(p, samples, 256, 8000, settings)
    after = speech_intervals(p, samples, 256, 8000, settings.changed({"end_bias_s": bias_s}))
    ends = np.where(before[:, 1] < samples / 8000, before[:, 1] - bias_s, before[:, 1])
    kept = ends > before[:, 0] + 1e-9
    np.testing.assert_allclose(after, np.stack([before[:, 0], ends], axis=1)[kept], atol=1e-9)


def test_settings_of_crosstalk():
    settings = ExtractionSettings.preset("in-person")
    assert settings == ExtractionSettings().changed({"vad.bleed": "gate"})
    assert VadSettings(bleed=False).bleed == "off"  # as YAML reads it
    assert VadSettings().end_bias_s == 0 and VadSettings().bleed == "off"


def test_the_corpus_synthetic_leaks_later(tmp_path):
    """The delay of crosstalk is a property of the recording, not of its truth."""
    options = SyntheticOptions(hours=0.01, minutes=0.5, rate_hz=8000, snr_db=np.inf)
    made = []
    for changes in ({}, {"crosstalk_db": -20.0}, {"crosstalk_db": -20.0, "crosstalk_delay_s": 0.01}):
        corpus = Synthetic(tmp_path, options.changed(changes))
        (conversation,) = corpus.find()
        corpus.prepare(conversation)
        made.append((soundfile.read(conversation.audio[0])[0], conversation.transcripts[0].read_text()))
    (clean, truth), (direct, same), (late, also) = made
    assert truth == same == also
    np.testing.assert_allclose(direct - clean, 0.1 * clean[:, ::-1], atol=1e-4)
    np.testing.assert_allclose(late[80:] - clean[80:], 0.1 * clean[:-80, ::-1], atol=1e-4)


def test_a_run_tells_and_drops(recordings, tmp_path):
    """From the command line: the column, the warning, the reason; and with the preset, segments again."""
    both, rate_hz = soundfile.read(recordings[0])
    write_wav(tmp_path / "calls" / "a.wav", leaking(both.T, rate_hz, -15, 0.002, snr_db=60).T, rate_hz)
    records = {}
    for name, arguments in {"off": [], "gate": ["--preset", "in-person"], "trust": ["--preset", "in-person"]}.items():
        more = ["--set", "trust.max_bleed_db=-30"] if name == "trust" else []
        low = ["--set", "pause.tau_min_s=2", "--rate-hz", "native", "--workers", "1"]
        out = tmp_path / name
        assert segkit("extract", "stereo", tmp_path / "calls", "-o", out, *low, *arguments, *more)[0] == 0
        records[name] = json.loads((out / "run.json").read_text())
        (part,) = (out / "annotations").iterdir()
        (row,) = read(part, ["bleed", "warnings"]).to_pylist()
        assert [round(leak["level_db"]) for leak in row["bleed"]] == [-15, -15]
        assert records[name]["warnings"]["counts"] == {"crosstalk": 1}
    kept = {name: record["segments"]["pause"]["kept"] for name, record in records.items()}
    assert kept["off"] == kept["trust"] == 0 < kept["gate"]
    assert records["trust"]["segments"]["pause"]["dropped"]["crosstalk"] == kept["gate"]


@pytest.mark.shared_data
def test_not_apart(shared: Path, tmp_path):
    options = StereoOptions()
    job = make_job((shared / "faults" / "10-not-apart", options), tmp_path / "out", "stereo", options=options)
    record = run(job)
    assert [(p.source, p.reason) for p in record.problems.inputs] == [
        ("dual_mono", "both channels hold the same voices")
    ]
    (warning,) = record.warnings.inputs
    assert (warning.source, warning.reason) == ("crosstalk_minus25dB", "crosstalk")
    assert "at -25." in warning.detail and "1.2 ms later" in warning.detail
