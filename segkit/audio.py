"""Decode, resample and encode the audio of conversations, one clock for both tracks.

What can be opened, and how, is the matter of `segkit.decoding`; rates are changed by soxr. A conversation's
clock starts at 0; a track's sample n lies at `offset_s + n / rate`, and where a track has no
samples there is silence. Sample indices are computed in one place, `sample_at`.

    >>> round_trip = decode_flac(encode_flac(np.array([0.0, 0.5, -1.0]), 24_000))
    >>> round_trip[0].tolist(), round_trip[1]
    ([0.0, 0.5, -1.0], 24000)
"""

import io
import math
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from segkit.decoding.file import AudioFile
from segkit.decoding.file import Samples as Samples
from segkit.decoding.limits import within
from segkit.decoding.probe import AudioInfo
from segkit.errors import BadInputError
from segkit.schemas import Track
from segkit.settings import AudioSettings

VIDEO = frozenset(
    (
        *(".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
        *(".mts", ".mxf", ".nut", ".ogm", ".ogv", ".rm", ".ts", ".vob", ".webm", ".wmv", ".wtv"),
    )
)
"""Suffixes of containers that mostly hold pictures, too."""
EXTENSIONS = VIDEO | frozenset(
    (
        *(".aif", ".aifc", ".aiff", ".au", ".caf", ".nist", ".rf64", ".snd", ".sph", ".sphere", ".voc", ".w64", ".wav"),
        *(".wave", ".ape", ".flac", ".oga", ".ogg", ".opus", ".spx", ".tta", ".wv", ".aac", ".ac3", ".amr", ".dts"),
        *(".eac3", ".gsm", ".m4a", ".m4b", ".mka", ".mp1", ".mp2", ".mp3", ".mpa", ".mpc", ".qcp", ".ra", ".wma"),
    )
)
"""Suffixes of the files that are taken for audio; which decoder reads one follows from its content."""

BLOCK_S, BLOCK_SAMPLES = 10, 1 << 21
"""Audio of a file that is in memory at once, at most: its length, and the samples of all channels."""
EDGE_S = 0.05
"""Source audio read on each side of a window, so that the resampler's filter sees what surrounds it."""


def sample_at(time_s: float, rate_hz: int) -> int:
    """The index of the sample at a time: the only place where times become indices."""
    return round(time_s * rate_hz)


class Recording:
    """The audio of a conversation: headers at once, samples on demand.

    Attributes:
        notes: what is wrong with the files although they are used, as (reason, detail).

    Raises:
        BadInputError: a file is unusable, or lacks the channel that a track names.
    """

    def __init__(
        self, tracks: Sequence[Track], settings: AudioSettings | None = None, channels: int | None = None
    ) -> None:
        """Look at the files.

        Args:
            tracks: the speakers.
            settings: limits; the defaults unless given.
            channels: how many each file must have, if that matters.
        """
        self.tracks, self.settings = tracks, settings or AudioSettings()
        self.paths = [track.path for track in tracks if track.path]
        self.notes: list[tuple[str, str]] = []
        if len(self.paths) < len(tracks):
            found = ", ".join(path.name for path in self.paths) or "no audio file"
            hint = "segments without audio: --vad transcript --annotations-only"
            raise BadInputError("no audio", f"found {found}, expected one of each speaker ({hint})")
        self._files = {path: self._opened(path) for path in dict.fromkeys(self.paths)}
        for track, path, info in zip(tracks, self.paths, self.infos, strict=True):
            if channels and info.channels != channels:
                detail = f"{path.name} has {info.channels}, expected {channels}"
                detail += " (the corpus stereo takes two, mono one, pairs a file of one for each speaker)"
                raise BadInputError(f"{info.channels}-channel audio", detail)
            if track.channel >= info.channels:
                detail = f"{path.name} has {info.channels} channels, channel {track.channel} is wanted"
                raise BadInputError("missing channel", detail)

    @property
    def infos(self) -> list[AudioInfo]:
        """The header of each track's file."""
        return [self._files[path].info for path in self.paths]

    @property
    def _ends_s(self) -> list[float]:
        """Where each track ends."""
        return [t.offset_s + i.frames / i.rate_hz for t, i in zip(self.tracks, self.infos, strict=True)]

    @property
    def duration_s(self) -> float:
        """From time 0 to the end of the longer track."""
        return max(self._ends_s)

    @property
    def common_s(self) -> tuple[float, float]:
        """Where all tracks have audio: start and end; the end may come first."""
        return max(0.0, *(track.offset_s for track in self.tracks)), min(self._ends_s)

    @property
    def rate_hz(self) -> int:
        """The native rate; the higher one, should the two tracks differ."""
        return max(info.rate_hz for info in self.infos)

    def blocks(self, rate_hz: int, block_samples: int) -> Iterator[Samples]:
        """The whole recording from time 0, in blocks (tracks, block_samples); the last one is shorter.

        Memory does not grow with the length of the recording.

        Raises:
            BadInputError: a file is damaged, ends long before its header says, or holds NaN.
        """
        total = math.ceil(round(self.duration_s * rate_hz, 3))
        lanes = [
            (rows, _resampled(self._files[path], channels, offset_s, rate_hz))
            for path, rows, channels, offset_s in self._places()
        ]
        pending: list[Samples] = [np.zeros((len(rows), 0), np.float32) for rows, _ in lanes]
        for start in range(0, total, block_samples):
            block = np.zeros((len(self.tracks), min(block_samples, total - start)), np.float32)
            for i, (rows, source) in enumerate(lanes):
                parts, have = [pending[i]], pending[i].shape[1]
                while have < block.shape[1] and (part := next(source, None)) is not None:
                    parts.append(part)
                    have += part.shape[1]
                joined = np.concatenate(parts, axis=1)
                head, pending[i] = joined[:, : block.shape[1]], joined[:, block.shape[1] :]
                block[rows, : head.shape[1]] = head
            yield block

    def window(self, start_s: float, end_s: float, rate_hz: int) -> Samples:
        """The samples between two times, (tracks, samples), equal to a cut of the whole resampled file.

        Both tracks have `sample_at(end_s) - sample_at(start_s)` samples, with silence where a track has none.
        """
        first, last = sample_at(start_s, rate_hz), sample_at(end_s, rate_hz)
        out = np.zeros((len(self.tracks), last - first), np.float32)
        for path, rows, channels, offset_s in self._places():
            source_hz = self.infos[rows[0]].rate_hz
            # Both rates have a sample at every multiple of 1 / gcd: the cut starts and ends on these.
            common_hz = math.gcd(source_hz, rate_hz)
            up, down = rate_hz // common_hz, source_hz // common_hz
            edge = math.ceil(EDGE_S * common_hz) if up != down else 0
            begin, end = first // up - edge, -(-last // up) + edge
            shift = sample_at(offset_s, source_hz)
            source = self._files[path].cut(begin * down - shift, end * down - shift)[:, channels]
            if up != down:
                source = soxr.resample(source, source_hz, rate_hz)
            out[rows] = source[first - begin * up :][: last - first].T
        return out

    def _opened(self, path: Path) -> AudioFile:
        return AudioFile(path, self.settings, lambda reason, detail: self.notes.append((reason, detail)))

    def _places(self) -> Iterator[tuple[Path, list[int], list[int], float]]:
        """Each file once, with the tracks (rows) it holds: path, rows, channels, offset."""
        places = [(path, track.offset_s) for path, track in zip(self.paths, self.tracks, strict=True)]
        for path, offset_s in dict.fromkeys(places):
            rows = [i for i, place in enumerate(places) if place == (path, offset_s)]
            yield path, rows, [self.tracks[i].channel for i in rows], offset_s


def _resampled(file: AudioFile, channels: list[int], offset_s: float, rate_hz: int) -> Iterator[Samples]:
    """Blocks (channels, samples) of a file at `rate_hz`, from time 0 on."""
    shift = sample_at(offset_s, rate_hz)
    if shift > 0:
        yield np.zeros((len(channels), shift), np.float32)
    info = file.info
    same = info.rate_hz == rate_hz
    resampler = soxr.ResampleStream(info.rate_hz, rate_hz, len(channels), dtype="float32")
    read = 0
    block = max(1, min(BLOCK_S * info.rate_hz, BLOCK_SAMPLES // info.channels))
    for samples in within(file.blocks(block), file.path, file.settings):
        read += len(samples)
        part = np.ascontiguousarray(samples[:, channels])
        part = part if same else resampler.resample_chunk(part, last=read >= info.frames)
        skip = min(max(-shift, 0), len(part))
        shift += skip
        yield part[skip:].T


def encode_flac(samples: NDArray[np.floating], rate_hz: int) -> bytes:
    """Mono samples in [-1, 1], shape (n,), as 16-bit FLAC; louder ones are clipped."""
    buffer = io.BytesIO()
    soundfile.write(buffer, _as_int16(samples), rate_hz, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def samples_hash(samples: NDArray[np.floating]) -> str:
    """32 hex digits of mono samples as `encode_flac` keeps them, so the same for the decoded file."""
    return blake2b(_as_int16(samples).astype("<i2").tobytes(), digest_size=16).hexdigest()


def _as_int16(samples: NDArray[np.floating]) -> NDArray[np.int16]:
    return np.clip(np.rint(np.asarray(samples) * 32768.0), -32768, 32767).astype(np.int16)


def decode_flac(data: bytes) -> tuple[Samples, int]:
    """Samples, shape (n,), and rate of a mono file in memory."""
    samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    return samples, rate_hz


def decode_flac_at(data: bytes, rate_hz: int) -> Samples:
    """Samples of a mono file in memory, shape (n,), at any rate."""
    samples, native_hz = decode_flac(data)
    resampled: Samples = soxr.resample(samples, native_hz, rate_hz)
    return resampled
