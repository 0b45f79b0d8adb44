"""Who speaks when, from the audio: the recordings of a chunk pass the voice activity detector together."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from typing import Any

import numpy as np

from segkit.audio import Recording, Samples
from segkit.errors import BadInputError
from segkit.segmenters import vad
from segkit.segmenters.diarization import RATE_HZ, Diarizer
from segkit.segmenters.timeline import durations, merged
from segkit.settings import VadSettings

UNEXPECTED = "unexpected error"


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
    detector: vad.VoiceActivityDetector, rows: dict[str, dict[str, Any]], recordings: dict[str, Recording]
) -> None:
    """Fill `activity` and `audio_hash` of the rows of some recordings, in batches of one rate."""
    for rate_hz in (8000, 16_000):
        batch = {key: r for key, r in recordings.items() if vad.rate_for(r.rate_hz) == rate_hz}
        size = detector.block_samples(rate_hz)
        listeners = [_Listener(r.blocks(rate_hz, size), rows[key]) for key, r in batch.items()]
        with _one_thread():
            found = detector.detect(listeners, rate_hz)
        for key, listener, activity in zip(batch, listeners, found, strict=True):
            rows[key]["activity"] = [track.tolist() for track in activity]
            rows[key]["audio_hash"] = [digest.hexdigest() for digest in listener.digests]


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
    """Passes the blocks of a recording on, and hashes each track; an error ends it and is noted."""

    def __init__(self, blocks: Iterator[Samples], row: dict[str, Any]) -> None:
        self.blocks, self.row = blocks, row
        self.digests = [blake2b(digest_size=16), blake2b(digest_size=16)]

    def __iter__(self) -> Iterator[Samples]:
        return self

    def __next__(self) -> Samples:
        with noting(self.row, "problem"):
            block = next(self.blocks, None)
            if block is not None:
                for digest, track in zip(self.digests, block, strict=True):
                    digest.update(np.rint(track * 32768).astype(np.int32))
                return block
        raise StopIteration
