"""Who speaks when, from the audio: the recordings of a chunk pass the voice activity detector together."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.audio import Recording, Samples
from segkit.errors import BadInputError
from segkit.segmenters import bleed, vad
from segkit.segmenters.diarization import RATE_HZ, Diarizer
from segkit.segmenters.timeline import durations, merged
from segkit.settings import VadSettings

UNEXPECTED = "unexpected error"
KEPT_BLOCKS = 8
"""Blocks of a recording, spread evenly, in which crosstalk is measured; about two minutes."""


@contextmanager
def noting(row: dict[str, Any], column: str) -> Iterator[None]:
    """Turn an error into the row's problem: one bad recording never stops a run."""
    try:
        yield
    except BadInputError as error:
        row[column], row["detail"] = error.reason, error.detail
    except Exception as error:  # an adapter's or a decoder's own; the reason is counted and shown
        row[column], row["detail"] = UNEXPECTED, f"{type(error).__name__}: {error}"


def warn(row: dict[str, Any], reason: str, detail: str) -> None:
    """Note what should be known of a recording that is used; the reason is counted and shown."""
    row["warnings"].append({"reason": reason, "detail": detail})


def detect_speech(
    detector: vad.VoiceActivityDetector,
    rows: dict[str, dict[str, Any]],
    recordings: dict[str, Recording],
    gate: bool = False,
) -> None:
    """Fill `activity`, `audio_hash` and `bleed` of the rows of some recordings, in batches of one rate.

    With `gate`, what leaks from the other channel is no speech.
    """
    for rate_hz in (8000, 16_000):
        batch = {key: r for key, r in recordings.items() if vad.rate_for(r.rate_hz) == rate_hz}
        size = detector.block_samples(rate_hz)
        listeners = [_Listener(r, rate_hz, size, rows[key]) for key, r in batch.items()]
        with _one_thread():
            found = detector.detect(listeners, rate_hz)
        for (key, recording), listener, activity in zip(batch.items(), listeners, found, strict=True):
            row = rows[key]
            row["audio_hash"] = [digest.hexdigest() for digest in listener.digests]
            with noting(row, "problem"), _one_thread():
                paths = _audible_leaks(row, bleed.stretches(listener.pieces, activity, rate_hz), gate)
                if gate and paths:
                    stream = bleed.gated(recording.blocks(rate_hz, size), paths, rate_hz)
                    for channel, track in zip(paths, detector.detect([stream], rate_hz)[0], strict=True):
                        activity[channel] = track
            row["activity"] = [track.tolist() for track in activity]


def _audible_leaks(row: dict[str, Any], found: bleed.Stretches | None, gate: bool) -> dict[int, bleed.Leak]:
    """Note how much of each channel is in the other; returns what could be taken for speech, by channel."""
    if found is None or row["problem"] is not None or len(set(row["audio_hash"])) == 1:
        return {}
    if bleed.is_one_signal(found):
        detail = "expected one speaker per channel, found one signal on both but for gain, delay or coding"
        raise BadInputError("both channels hold the same voices", detail)
    leaks = bleed.leaks(found)
    row["bleed"] = [{"level_db": each.level_db, "delay_s": each.delay_s} if each else None for each in leaks]
    audible = {channel: leak for channel, leak in enumerate(leaks) if leak is not None and leak.audible}
    if audible:
        levels = ", ".join(
            f"track {channel} holds the other one's voice at {leak.level_db:.1f} dB, {_shift(leak.delay_s or 0.0)}"
            for channel, leak in audible.items()
        )
        hint = "that was not taken for speech" if gate else "--preset in-person does not take that for speech"
        loudest_db = math.floor(max(leak.level_db for leak in audible.values()))
        warn(row, "crosstalk", f"{levels}; {hint}, --set trust.max_bleed_db={loudest_db} drops its segments")
    return audible


def _shift(delay_s: float) -> str:
    return f"{1000 * abs(delay_s):.1f} ms {'later' if delay_s >= 0 else 'earlier'}"


def tell_apart(
    speakers: Diarizer, settings: VadSettings, rows: dict[str, dict[str, Any]], recordings: dict[str, Recording]
) -> None:
    """The same for recordings whose two tracks are one signal; short speech and silence are dropped as in VAD."""
    for key, recording in recordings.items():
        with noting(rows[key], "problem"), _one_thread():
            audio = recording.window(0.0, recording.duration_s, RATE_HZ)[0]
            joined = [merged(track, settings.min_silence_s) for track in speakers.diarize(audio, RATE_HZ)]
            rows[key]["activity"] = [track[durations(track) > settings.min_speech_s].tolist() for track in joined]
            rows[key]["audio_hash"] = [blake2b(audio, digest_size=16).hexdigest()] * 2


@cache
def diarizer(model: str, device: str) -> Diarizer:
    """The diarizer of this process."""
    return Diarizer(model, device)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread, as many workers share the cores; and the same sums for any number of cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Listener:
    """Passes the blocks of a recording on, keeps some, and hashes each track; an error ends it and is noted."""

    def __init__(self, recording: Recording, rate_hz: int, size: int, row: dict[str, Any]) -> None:
        self.blocks, self.row, self.size, self.number = recording.blocks(rate_hz, size), row, size, 0
        self.every = max(1, math.ceil(recording.duration_s * rate_hz / size / KEPT_BLOCKS))
        self.kept: list[tuple[int, NDArray[np.int16]]] = []
        self.digests = [blake2b(digest_size=16), blake2b(digest_size=16)]

    def __iter__(self) -> Iterator[Samples]:
        return self

    def __next__(self) -> Samples:
        with noting(self.row, "problem"):
            block = next(self.blocks, None)
            if block is not None:
                rounded = np.rint(block * 32768).astype(np.int32)
                for digest, track in zip(self.digests, rounded, strict=True):
                    digest.update(track)
                if self.number % self.every == 0:
                    self.kept.append((self.number * self.size, rounded.clip(-32768, 32767).astype(np.int16)))
                self.number += 1
                return block
        raise StopIteration

    @property
    def pieces(self) -> list[tuple[int, Samples]]:
        """What was kept, each with its first sample."""
        return [(start, np.divide(piece, 32768, dtype=np.float32)) for start, piece in self.kept]
