"""Throughput of voice activity detection on one core: segkit against Silero's own three ways, and WebRTC's.

    python benchmarks/vad.py [AUDIO ...] [--repeats 7]

Every contender gets the same tracks at 16 kHz, in memory, and returns intervals. One repeat runs each
of them once, in turn, so that a slow moment of the machine hits all of them; the medians are compared.
Without arguments the input is the audio of ../shared/data, or bursts of noise where that is missing.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import silero_vad
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from silero_vad.sequence_vad import get_speech_timestamps_sequence

from segkit.segmenters import vad
from segkit.settings import VadSettings

RATE_HZ = 16000
TRACK_S = 60
RECORDINGS = 8
SHARED = Path(__file__).parents[2] / "shared" / "data"

Audio = NDArray[np.float32]


def read_tracks(paths: list[Path]) -> Audio:
    """All channels of the files one after the other, cut into two tracks for each recording."""
    channels = []
    for path in paths:
        audio, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        channels.append(soxr.resample(audio, rate_hz, RATE_HZ).T.ravel())
    return np.resize(np.concatenate(channels), (2 * RECORDINGS, TRACK_S * RATE_HZ))


def noise_bursts() -> Audio:
    """Noise that comes and goes about once a second, as speech does."""
    rng = np.random.default_rng(0)
    shape = (2 * RECORDINGS, TRACK_S * RATE_HZ)
    gate = np.repeat(rng.random((shape[0], 2 * TRACK_S)) < 0.6, RATE_HZ // 2, axis=1)
    return (0.1 * gate * rng.standard_normal(shape)).astype(np.float32)


def detect_batch(detector: vad.VoiceActivityDetector, tracks: Audio) -> None:
    """Recordings of two tracks each (or of the one there is), in one batch."""
    size = detector.block_samples(RATE_HZ)
    recordings = np.split(tracks, max(1, len(tracks) // 2))
    streams = (iter([r[:, i : i + size] for i in range(0, r.shape[1], size)]) for r in recordings)
    detector.detect(list(streams), RATE_HZ)


def contenders() -> dict[str, Callable[[Audio], object]]:
    """What takes tracks, shape (tracks, samples), to intervals; Silero's own take one after the other."""
    segkit, webrtc = vad.load(VadSettings()), vad.load(VadSettings(backend="webrtc"))
    jit, onnx = silero_vad.load_silero_vad(), silero_vad.load_silero_vad(onnx=True)
    sequence = silero_vad.load_silero_vad(sequence=True)
    torch.set_num_threads(1)  # the ONNX sessions of silero_vad have one thread by themselves

    def framewise(model: object) -> Callable[[Audio], object]:
        return lambda tracks: [silero_vad.get_speech_timestamps(torch.from_numpy(t), model) for t in tracks]

    return {
        "silero, default (jit)": framewise(jit),
        "silero, streaming onnx": framewise(onnx),
        "silero, sequence onnx": lambda tracks: [get_speech_timestamps_sequence(t, sequence) for t in tracks],
        "webrtc, in segkit": lambda tracks: detect_batch(webrtc, tracks),
        "segkit": lambda tracks: detect_batch(segkit, tracks),
    }


def measure(runs: dict[str, Callable[[Audio], object]], tracks: Audio, repeats: int) -> dict[str, float]:
    """Seconds of audio per second, the median over the repeats, by contender."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run(tracks)
            if repeat:  # the first one warms up
                times[name].append(time.perf_counter() - start)
    return {name: tracks.size / RATE_HZ / statistics.median(t) for name, t in times.items()}


def main() -> None:
    """Measure one track, then a batch; print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="*", type=Path, help="files that soundfile opens")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    paths = arguments.audio or sorted(SHARED.rglob("*.wav"))
    tracks = read_tracks(paths) if paths else noise_bursts()
    print(f"torch {torch.__version__}, 1 thread, {RATE_HZ} Hz, {TRACK_S} s per track")
    runs = contenders()
    for title, batch, repeats in (
        ("one track", tracks[:1], 3 * arguments.repeats),
        (f"{RECORDINGS} recordings of two tracks", tracks, arguments.repeats),
    ):
        speed = measure(runs, batch, repeats)
        print(f"\n{title:32}{'x real time':>12}{'/ default':>12}{'segkit /':>12}")
        for name, value in speed.items():
            relative = value / speed["silero, default (jit)"], speed["segkit"] / value
            print(f"{name:32}{value:12.0f}{relative[0]:12.1f}{relative[1]:12.2f}")


if __name__ == "__main__":
    main()
