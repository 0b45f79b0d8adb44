"""An audio file, read in blocks or in cuts."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from soundfile import SoundFileError

from segkit.decoding.probe import AudioInfo, opened
from segkit.errors import BadInputError
from segkit.settings import AudioSettings

Samples: TypeAlias = NDArray[np.float32]


class AudioFile:
    """An open audio file.

    Where libsndfile fails on what it seemed to read, the file is decoded anew as a whole, and reading goes on there.

    Args:
        path: the file.
        settings: limits.
        note: called with the reason and the details of what is wrong with it although it is used.

    Raises:
        BadInputError: it is unusable.
    """

    def __init__(self, path: Path, settings: AudioSettings, note: Callable[[str, str], None]) -> None:
        self.path, self.settings, self.note = path, settings, note
        self.info, self._file = opened(path, settings)
        self._is_anew = False
        promised = self.info.frames + self.info.missing_s * self.info.rate_hz
        self._check(self.info, f"its header says {promised:.0f} samples, it holds {self.info.frames}")

    def _check(self, info: AudioInfo, said: str) -> None:
        """Raise if much is missing, note a little; `said` tells how much."""
        held_s = info.frames / info.rate_hz
        if info.missing_s == math.inf:
            said = f"its end is missing, after {held_s:.2f} s"
        if info.missing_s > max(self.settings.max_missing_s, self.settings.max_missing_share * held_s):
            raise BadInputError("truncated audio", f"{self.path.name}: {said}")
        if info.missing_s > 0:
            self.note("audio is a little short", f"{self.path.name}: {said}")

    def blocks(self, block_frames: int) -> Iterator[Samples]:
        """All frames in blocks (block_frames, channels); the last one is shorter."""
        read = 0
        while read < self.info.frames:
            samples = self._read(read, min(block_frames, self.info.frames - read))
            read += len(samples)
            yield samples

    def cut(self, begin: int, end: int) -> Samples:
        """Frames [begin, end), (frames, channels), zeros outside of the file."""
        out = np.zeros((end - begin, self.info.channels), np.float32)
        first, last = max(begin, 0), min(end, self.info.frames)
        if first < last:
            samples = self._read(first, last - first)
            out[first - begin :][: len(samples)] = samples
        return out

    def _read(self, first: int, frames: int) -> Samples:
        """So many frames from one on, (frames, channels), with silence for the few that may be missing."""
        try:
            samples = self._decoded(first, frames)
        except SoundFileError:
            samples = np.zeros((0, self.info.channels), np.float32)
        if len(samples) < frames and not self._is_anew:  # libsndfile was wrong about the file
            self._decode_anew()
            samples = self._decoded(first, frames)
        if not np.isfinite(samples).all():
            raise BadInputError("NaN in audio", f"{self.path.name} holds samples that are not numbers")
        return np.pad(samples, ((0, frames - len(samples)), (0, 0)))

    def _decoded(self, first: int, frames: int) -> Samples:
        if self._file.tell() != first:
            self._file.seek(min(first, self._file.frames))
        samples: Samples = self._file.read(frames, dtype="float32", always_2d=True)
        return samples

    def _decode_anew(self) -> None:
        """Read on from a wav that holds what can be decoded."""
        found, self._file = opened(self.path, self.settings, anew=True)
        self._is_anew = True
        if (found.rate_hz, found.channels) != (self.info.rate_hz, self.info.channels):
            detail = f"{self.path.name} has {self.info.channels} channels at {self.info.rate_hz} Hz for libsndfile, "
            detail += f"{found.channels} at {found.rate_hz} Hz for FFmpeg, and the first cannot read it to its end"
            raise BadInputError("unreadable audio", detail)
        missing_s = max(found.missing_s, (self.info.frames - found.frames) / found.rate_hz)
        self._check(replace(found, missing_s=missing_s), f"{missing_s:.3f} s of it cannot be decoded")
