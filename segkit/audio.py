"""Decode, resample and encode the audio of conversations, one clock for both tracks.

Whatever libsndfile opens is read through soundfile; rates are changed by soxr. A conversation's
clock starts at 0; a track's sample n lies at `offset_s + n / rate`, and where a track has no
samples there is silence. Sample indices are computed in one place, `sample_at`.

    >>> round_trip = decode_flac(encode_flac(np.array([0.0, 0.5, -1.0]), 24_000))
    >>> round_trip[0].tolist(), round_trip[1]
    ([0.0, 0.5, -1.0], 24000)
"""

import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from segkit.containers import CONTAINERS, SPHERE, decoded
from segkit.errors import BadInputError
from segkit.schemas import Track

Samples = NDArray[np.float32]

EXTENSIONS = (
    SPHERE
    | CONTAINERS
    | {
        *(".aif", ".aiff", ".aifc", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64"),
        ".wav",
    }
)
"""Suffixes of the files that can be read: libsndfile opens them, or `segkit.containers` decodes them for it."""

EDGE_S = 0.05
"""Source audio read on each side of a window, so that the resampler's filter sees what surrounds it."""


def sample_at(time_s: float, rate_hz: int) -> int:
    """The index of the sample at a time: the only place where times become indices."""
    return round(time_s * rate_hz)


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """The header of an audio file."""

    rate_hz: int
    frames: int
    channels: int


def probe(path: Path) -> AudioInfo:
    """Read the header of an audio file.

    Raises:
        BadInputError: not readable, without samples, or shorter than its header says.
    """
    wav = decoded(path)
    with _open(Path(wav.name) if wav else path) as file:
        info = AudioInfo(file.samplerate, file.frames, file.channels)
        if info.frames <= 0:
            raise BadInputError("empty audio", f"{path.name} holds no samples")
        # libsndfile corrects a chunk that is longer than its file, and says so in its log only. A
        # length that no file can have is how a writer to a pipe says that it did not know; half a
        # frame is missing where a writer miscounts.
        if path.suffix.lower() in SPHERE and not wav:
            with path.open("rb") as header:
                count = re.search(rb"sample_count -i (\d+)", header.read(1024))
            if count and info.frames < int(count[1]):
                detail = f"{path.name}: its header says {int(count[1])} samples, it holds {info.frames}"
                raise BadInputError("truncated audio", detail)
        if found := re.search(r"data : (\d+) \(should be (\d+)\)", file.extra_info):
            claimed, held = int(found[1]), int(found[2])
            if held + 8 * info.channels < claimed < 0x7FFFF000:
                raise BadInputError(
                    "truncated audio", f"{path.name}: its header says {claimed} bytes of samples, it holds {held}"
                )
        return info


def _open(path: Path) -> soundfile.SoundFile:
    try:
        if path.stat().st_size == 0:
            raise BadInputError("empty audio", f"{path.name} has 0 bytes")
        return soundfile.SoundFile(path)
    except OSError as error:
        raise BadInputError("file cannot be opened", f"{path.name}: {error.strerror}") from error
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", str(error))
        raise BadInputError("unreadable audio", f"{path.name}: {reason}") from error


def _read(file: soundfile.SoundFile, frames: int) -> Samples:
    """The next `frames` of an open file, (frames, channels); fewer only at its end."""
    try:
        samples: Samples = file.read(frames, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise BadInputError("unreadable audio", f"{Path(file.name).name}: {error}") from error
    if not np.isfinite(samples).all():
        raise BadInputError("NaN in audio", f"{Path(file.name).name} holds samples that are not numbers")
    return samples


class Recording:
    """The audio of a conversation: headers at once, samples on demand.

    Raises:
        BadInputError: a file is unusable, or lacks the channel that a track names.
    """

    def __init__(self, tracks: Sequence[Track]) -> None:
        self.tracks = tracks
        self.paths = [track.path for track in tracks if track.path]
        if len(self.paths) < len(tracks):
            found = ", ".join(path.name for path in self.paths) or "no audio file"
            hint = "segments without audio: --vad transcript --annotations-only"
            raise BadInputError("no audio", f"found {found}, expected one of each speaker ({hint})")
        self._decoded = {path: wav for path in set(self.paths) if (wav := decoded(path))}  # they live while this does
        self.infos = [probe(self._readable(path)) for path in self.paths]
        for track, path, info in zip(tracks, self.paths, self.infos, strict=True):
            if track.channel >= info.channels:
                detail = f"{path.name} has {info.channels} channels, channel {track.channel} is wanted"
                raise BadInputError("missing channel", detail)

    @cached_property
    def duration_s(self) -> float:
        """From time 0 to the end of the longer track."""
        return max(
            track.offset_s + info.frames / info.rate_hz for track, info in zip(self.tracks, self.infos, strict=True)
        )

    @property
    def rate_hz(self) -> int:
        """The native rate; the higher one, should the two tracks differ."""
        return max(info.rate_hz for info in self.infos)

    def blocks(self, rate_hz: int, block_samples: int) -> Iterator[Samples]:
        """The whole recording from time 0, in blocks (tracks, block_samples); the last one is shorter.

        Memory does not grow with the length of the recording.

        Raises:
            BadInputError: a file is damaged, ends before its header says, or holds NaN.
        """
        total = math.ceil(round(self.duration_s * rate_hz, 3))
        lanes = [
            (rows, _resampled(path, channels, offset_s, rate_hz)) for path, rows, channels, offset_s in self._files()
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
        for path, rows, channels, offset_s in self._files():
            source_hz = self.infos[rows[0]].rate_hz
            # Both rates have a sample at every multiple of 1 / gcd: the cut starts and ends on these.
            common_hz = math.gcd(source_hz, rate_hz)
            up, down = rate_hz // common_hz, source_hz // common_hz
            edge = math.ceil(EDGE_S * common_hz) if up != down else 0
            begin, end = first // up - edge, -(-last // up) + edge
            shift = sample_at(offset_s, source_hz)
            source = _cut(path, begin * down - shift, end * down - shift)[:, channels]
            if up != down:
                source = soxr.resample(source, source_hz, rate_hz)
            out[rows] = source[first - begin * up :][: last - first].T
        return out

    def _files(self) -> Iterator[tuple[Path, list[int], list[int], float]]:
        """Each file once, with the tracks (rows) it holds: path, rows, channels, offset."""
        places = [(path, track.offset_s) for path, track in zip(self.paths, self.tracks, strict=True)]
        for path, offset_s in dict.fromkeys(places):
            rows = [i for i, place in enumerate(places) if place == (path, offset_s)]
            yield self._readable(path), rows, [self.tracks[i].channel for i in rows], offset_s

    def _readable(self, path: Path) -> Path:
        return Path(self._decoded[path].name) if path in self._decoded else path


def _cut(path: Path, begin: int, end: int) -> Samples:
    """Frames [begin, end) of a file, (frames, channels), zeros outside of it."""
    with _open(path) as file:
        inside = max(begin, 0), min(end, file.frames)
        out = np.zeros((end - begin, file.channels), np.float32)
        if inside[0] < inside[1]:
            file.seek(inside[0])
            samples = _read(file, inside[1] - inside[0])
            out[inside[0] - begin :][: len(samples)] = samples
        return out


def _resampled(path: Path, channels: list[int], offset_s: float, rate_hz: int) -> Iterator[Samples]:
    """Blocks (channels, samples) of a file at `rate_hz`, from time 0 on."""
    shift = sample_at(offset_s, rate_hz)
    if shift > 0:
        yield np.zeros((len(channels), shift), np.float32)
    with _open(path) as file:
        same = file.samplerate == rate_hz
        resampler = soxr.ResampleStream(file.samplerate, rate_hz, len(channels), dtype="float32")
        read, block_frames = 0, 10 * file.samplerate
        while read < file.frames:
            samples = _read(file, block_frames)
            if len(samples) == 0:
                raise BadInputError(
                    "truncated audio",
                    f"{path.name}: its header says {file.frames} frames, decoding stopped after {read}",
                )
            read += len(samples)
            part = np.ascontiguousarray(samples[:, channels])
            part = part if same else resampler.resample_chunk(part, last=read >= file.frames)
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
