"""Voice activity against the reference: `silero_vad.get_speech_timestamps`, to the sample."""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from segkit.errors import UsageError
from segkit.schemas import Intervals
from segkit.segmenters import decision, silero, vad
from segkit.segmenters.decision import speech_intervals
from segkit.segmenters.silero import Silero
from segkit.settings import VadSettings

SHARED = Path(__file__).parents[2] / "shared" / "data"
DEFAULT = VadSettings()
SILERO_PAD = VadSettings(speech_pad_s=0.03)
SENSITIVE = VadSettings(threshold=0.3, min_speech_s=0.1, min_silence_s=0.0, speech_pad_s=0.25)
COARSE = VadSettings(threshold=0.7, min_speech_s=0.5, min_silence_s=0.6, speech_pad_s=0.1)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """More threads only wait for each other in the reference's tiny steps; its import sets one as well."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def silero_vad() -> Any:
    """The reference package, not imported before it is needed, for it sets torch's threads."""
    return import_module("silero_vad")


@cache
def reference() -> Any:
    """The reference model."""
    return silero_vad().load_silero_vad()


def reference_probabilities(audio: NDArray[np.float32], rate_hz: int) -> list[float]:
    """What the reference model says, frame by frame."""
    model, frame = reference(), rate_hz * 32 // 1000
    padded = torch.from_numpy(np.pad(audio, (0, -len(audio) % frame)))
    model.reset_states()
    with torch.no_grad():
        return [model(chunk, rate_hz).item() for chunk in torch.split(padded, frame)] if len(audio) else []


class Replay:
    """A model that returns given probabilities: what is left of Silero is its decision."""

    def __init__(self, probabilities: list[float]) -> None:
        self.probabilities = probabilities

    def reset_states(self) -> None:
        self.left = iter(self.probabilities)

    def __call__(self, chunk: torch.Tensor, rate_hz: int) -> torch.Tensor:
        return torch.tensor(next(self.left), dtype=torch.float64)


def reference_intervals(probabilities: list[float], samples: int, rate_hz: int, settings: VadSettings) -> Intervals:
    """The decision of `get_speech_timestamps` on probabilities: exact samples, over the rate."""
    found = silero_vad().get_speech_timestamps(
        torch.empty(1).expand(samples),
        Replay(probabilities),
        sampling_rate=rate_hz,
        threshold=settings.threshold,
        min_speech_duration_ms=round(settings.min_speech_s * 1000),
        min_silence_duration_ms=round(settings.min_silence_s * 1000),
        speech_pad_ms=round(settings.speech_pad_s * 1000),
    )
    return np.array([(f["start"], f["end"]) for f in found], dtype=np.float64).reshape(-1, 2) / rate_hz


def speechlike(seconds: float, rate_hz: int, seed: int) -> NDArray[np.float32]:
    """Two channels of pulse trains through moving formants, with pauses: Silero takes it for speech."""
    rng = np.random.default_rng(seed)
    samples = int(seconds * rate_hz)
    t = np.arange(samples) / rate_hz
    channels = []
    for _ in range(2):
        phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * rng.uniform(0.3, 0.6) * t)) / rate_hz
        formants = [(500, 200, 2.1), (1500, 400, 3.3), (2500, 200, 1.7)]
        voice = np.zeros(samples)
        for k in range(1, 28):
            hz = 120.0 * k
            gain = sum(np.exp(-(((hz - f - d * np.sin(2 * np.pi * m * t)) / 150) ** 2)) for f, d, m in formants)
            voice += gain * np.sin(k * phase)
        talks = np.repeat(rng.random(int(seconds) + 1) < 0.6, rate_hz)[:samples]
        syllables = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(3, 5) * t)
        channels.append(0.1 * voice * talks * syllables + 0.001 * rng.standard_normal(samples))
    return np.array(channels, dtype=np.float32)


def stream(audio: NDArray[np.float32], size: int) -> Iterator[NDArray[np.float32]]:
    return (audio[:, i : i + size] for i in range(0, max(1, audio.shape[1]), size))


# ---- against the reference ---------------------------------------------------------------------------


def shared_audio() -> list[Path]:
    """All recordings of the shared data that soundfile opens; those under `faults` were made to be damaged."""
    files = []
    for path in sorted(SHARED.rglob("*")):
        if path.suffix in {".wav", ".mp3", ".sph", ".flac", ".ogg"} and SHARED / "faults" not in path.parents:
            try:
                soundfile.info(path)
            except soundfile.LibsndfileError:
                continue  # SPHERE with Shorten compression
            files.append(path)
    return files


def decode(path: Path) -> tuple[NDArray[np.float32], int]:
    """(channels, samples) and the rate: 8 kHz as it is, everything else at 16 kHz."""
    audio, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    if rate_hz not in (8000, 16000):
        audio, rate_hz = soxr.resample(audio, rate_hz, 16000), 16000
    return np.ascontiguousarray(audio.T), rate_hz


@pytest.mark.shared_data
@pytest.mark.parametrize("path", shared_audio() or [None], ids=lambda p: p and str(p.relative_to(SHARED)))
def test_shared_data_gives_the_timestamps_of_silero(path: Path | None) -> None:
    if path is None:
        pytest.skip("no audio in ../shared/data")
    audio, rate_hz = decode(path)
    size = Silero(DEFAULT).block_samples(rate_hz)
    [(probabilities, samples)] = Silero(DEFAULT).probabilities([stream(audio, size)], rate_hz)
    assert samples == audio.shape[1]
    for channel, ours in zip(audio, probabilities, strict=True):
        theirs = reference_probabilities(channel, rate_hz)
        # Either is up to 1e-5 away from the same network in float64; on average ours is nearer to it.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-5)
        for settings in (DEFAULT, SILERO_PAD, SENSITIVE, COARSE):
            expected = reference_intervals(theirs, samples, rate_hz, settings)
            got = speech_intervals(ours, samples, rate_hz * 32 // 1000, rate_hz, settings)
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_synthetic_voice_gives_the_timestamps_of_silero(rate_hz: int) -> None:
    audio = speechlike(20.3, rate_hz, seed=1)
    found = vad.detect_array(vad.load(SILERO_PAD), audio, rate_hz)
    assert sum(map(len, found)) > 4, "the synthetic voice is not taken for speech"
    for channel, intervals in zip(audio, found, strict=True):
        expected = silero_vad().get_speech_timestamps(torch.from_numpy(channel), reference(), sampling_rate=rate_hz)
        assert (intervals * rate_hz).round().tolist() == [[e["start"], e["end"]] for e in expected]


@st.composite
def probability_runs(draw: st.DrawFn) -> list[float]:
    """Runs of silence, doubt and speech, the values at the thresholds among them."""
    levels = st.sampled_from([0.0, 0.009, 0.01, 0.02, 0.14, 0.15, 0.3, 0.34, 0.35, 0.4, 0.49, 0.5, 0.7, 1.0])
    runs = draw(st.lists(st.tuples(levels | st.floats(0, 1, width=32), st.integers(1, 12)), max_size=30))
    return [float(np.float32(level)) for level, length in runs for _ in range(length)]


milliseconds = st.sampled_from([0, 10, 30, 32, 64, 70, 96, 100, 250, 333, 512])


@hypothesis_settings(deadline=None, max_examples=400, derandomize=True)
@given(
    probabilities=probability_runs(),
    rate_hz=st.sampled_from([8000, 16000]),
    short_by=st.integers(0, 255),
    threshold=st.sampled_from([0.01, 0.1, 0.16, 0.3, 0.5, 0.7, 1.0]) | st.floats(0.01, 1),
    durations_ms=st.tuples(milliseconds, milliseconds, milliseconds),
)
def test_the_decision_is_that_of_silero(
    probabilities: list[float],
    rate_hz: int,
    short_by: int,
    threshold: float,
    durations_ms: tuple[int, int, int],
) -> None:
    frame = rate_hz * 32 // 1000
    samples = max(0, len(probabilities) * frame - short_by)
    min_speech_s, min_silence_s, speech_pad_s = (ms / 1000 for ms in durations_ms)
    settings = VadSettings(
        threshold=threshold, min_speech_s=min_speech_s, min_silence_s=min_silence_s, speech_pad_s=speech_pad_s
    )
    got = speech_intervals(np.array(probabilities, np.float32), samples, frame, rate_hz, settings)
    np.testing.assert_array_equal(got, reference_intervals(probabilities, samples, rate_hz, settings))


# ---- batches, blocks, edges --------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_a_batch_gives_what_each_recording_gives_alone(rate_hz: int) -> None:
    detector = Silero(DEFAULT)
    size = detector.block_samples(rate_hz)
    whole = speechlike(36, rate_hz, seed=2)
    lengths = [whole.shape[1], 100, 2 * size, size - 1, 0, size + 300]
    recordings = [whole[: 1 + i % 2, :length] for i, length in enumerate(lengths)]
    together = detector.probabilities([stream(r, size) for r in recordings], rate_hz)
    for recording, (batched, samples) in zip(recordings, together, strict=True):
        [(alone, _)] = detector.probabilities([stream(recording, size)], rate_hz)
        assert samples == recording.shape[1]
        assert batched.shape == (len(recording), -(-samples // (rate_hz * 32 // 1000)))
        np.testing.assert_allclose(batched, alone, rtol=0, atol=1e-5)
    detected = detector.detect([stream(r, size) for r in recordings], rate_hz)
    for recording, channels in zip(recordings, detected, strict=True):
        for a, b in zip(channels, vad.detect_array(detector, recording, rate_hz), strict=True):
            np.testing.assert_array_equal(a, b)


def test_blocks_continue_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = speechlike(10, 16000, seed=3)
    whole = vad.detect_array(vad.load(DEFAULT), audio, 16000)
    monkeypatch.setattr(decision, "BLOCK_FRAMES", 7)
    monkeypatch.setattr(silero, "CACHE_FRAMES", 5)
    for a, b in zip(whole, vad.detect_array(vad.load(DEFAULT), audio, 16000), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", ["silero", "webrtc"])
@pytest.mark.parametrize("samples", [0, 1, 255])
def test_recordings_shorter_than_a_frame_hold_no_speech(backend: str, samples: int) -> None:
    found = vad.detect_array(vad.load(VadSettings(backend=backend)), np.zeros((2, samples), np.float32), 8000)
    assert [f.shape for f in found] == [(0, 2), (0, 2)]


@pytest.mark.parametrize("backend", ["silero", "webrtc"])
def test_no_stream_and_no_block(backend: str) -> None:
    detector = vad.load(VadSettings(backend=backend))
    assert detector.detect([], 16000) == []
    assert detector.detect([iter(())], 16000) == [[]]


@pytest.mark.parametrize("backend", ["silero", "webrtc"])
def test_what_is_wrong_is_said(backend: str) -> None:
    detector = vad.load(VadSettings(backend=backend))
    with pytest.raises(ValueError, match="44100 Hz"):
        detector.block_samples(44100)
    with pytest.raises(ValueError, match="44100 Hz"):
        detector.detect([], 44100)
    shifting = [np.zeros((1, n), np.float32) for n in (100, detector.block_samples(8000))]
    with pytest.raises(ValueError, match="only the last"):
        detector.detect([iter(shifting)], 8000)


def test_wrong_settings_are_said() -> None:
    with pytest.raises(UsageError, match=r"'backend' got 'silera'\. Expected silero, .*Did you mean 'silero'"):
        VadSettings().changed({"backend": "silera"})
    with pytest.raises(UsageError, match=r"'threshold' got 0\.001\. Expected a number, 0\.01 to 1"):
        VadSettings().changed({"threshold": 0.001})
    for wrong in ({"backend": "silera"}, {"threshold": 0.001}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            VadSettings(**wrong)
    with pytest.raises(UsageError, match=r"Expected silero, webrtc or pyannote"):
        vad.load(VadSettings(backend="transcript"))


# ---- side effects, devices, the other backend --------------------------------------------------------


def test_the_process_stays_as_it_was() -> None:
    """Neither torch's threads, nor its random state, nor its precision change; silero_vad is not imported."""
    code = """
import sys, numpy as np, torch
torch.set_num_threads(3); torch.set_float32_matmul_precision("high"); torch.manual_seed(0)
state = torch.get_rng_state()
from segkit.settings import VadSettings
from segkit.segmenters import vad
vad.detect_array(vad.load(VadSettings()), np.zeros((1, 9000), np.float32), 8000)
assert torch.get_num_threads() == 3, torch.get_num_threads()
assert torch.get_float32_matmul_precision() == "high" and torch.backends.cudnn.allow_tf32
assert torch.equal(state, torch.get_rng_state()) and not torch.is_inference_mode_enabled()
assert "silero_vad" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_a_gpu_gives_the_timestamps_of_the_cpu(rate_hz: int) -> None:
    audio = speechlike(40, rate_hz, seed=4)
    found = (vad.detect_array(vad.load(DEFAULT, device), audio, rate_hz) for device in ("cpu", "cuda"))
    for cpu, cuda in zip(*found, strict=True):
        np.testing.assert_array_equal(cpu, cuda)


@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_webrtc_finds_loud_voice(rate_hz: int) -> None:
    voice = speechlike(4, rate_hz, seed=1)[:1]
    voice = voice[:, np.abs(voice[0]).argmax() - rate_hz // 2 :][:, :rate_hz]
    silence = np.zeros((1, rate_hz), np.float32)
    audio = np.concatenate((silence, voice, silence), axis=1)
    detector = vad.load(VadSettings(backend="webrtc"))
    [[(start_s, end_s)]] = vad.detect_array(detector, audio, rate_hz)
    assert 0.9 < start_s < 1.3 and 1.7 < end_s < 2.5
    whole_frames = np.array([start_s, end_s]) / 0.03
    np.testing.assert_allclose(whole_frames, whole_frames.round(), atol=1e-9)
