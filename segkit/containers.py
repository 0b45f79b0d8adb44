"""Audio that libsndfile does not open, decoded to a temporary wav that it does.

NIST SPHERE with shorten, as the telephone corpora of the LDC have it, through desphere; what is in video
containers and m4a through PyAV (FFmpeg). The few files that were decoded last are kept, so a recording that is
probed, read in blocks and cut many times is decoded once.
"""

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile
from desphere import DesphereError, transcode_bytes

from segkit.errors import BadInputError, MissingExtraError

SPHERE = frozenset({".nist", ".sph", ".sphere"})
CONTAINERS = frozenset({".aac", ".amr", ".m4a", ".mka", ".mkv", ".mov", ".mp4", ".webm", ".wma"})
KEPT = 16
"""Decoded files that are kept, for as long as nobody asks for others."""


def as_wav(path: Path) -> Path:
    """A wav file with the audio of a SPHERE file or a container; it lives while few others are asked for.

    Raises:
        BadInputError: it cannot be decoded.
    """
    facts = path.stat()
    return Path(_decoded(path, facts.st_size, facts.st_mtime_ns).name)


@lru_cache(maxsize=KEPT)
def _decoded(path: Path, size: int, mtime_ns: int) -> IO[bytes]:
    """The decoded file, which is deleted when the cache lets go of it; size and time tell a changed source."""
    wav = tempfile.NamedTemporaryFile(prefix="segkit-", suffix=".wav")  # noqa: SIM115 - closed by being forgotten
    decode = _decode_sphere if path.suffix.lower() in SPHERE else _decode_container
    decode(path, wav)
    wav.flush()
    return wav


def _decode_sphere(path: Path, wav: IO[bytes]) -> None:
    try:
        wav.write(transcode_bytes(path.read_bytes()))
    except (DesphereError, ValueError, IndexError, OverflowError) as error:
        raise BadInputError("unreadable audio", f"{path.name}: {error}") from error


def _decode_container(path: Path, wav: IO[bytes]) -> None:
    """The first audio stream, on the clock of its time stamps: where they jump ahead, there is silence."""
    try:
        import av
    except ImportError:
        detail = f"{path.name}: {MissingExtraError(f'Reading {path.suffix}', 'av', 'corpora')}"
        raise BadInputError("unsupported container", detail) from None
    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise BadInputError("unsupported container", f"{path.name}: {error.strerror}") from error
    with container:
        if not container.streams.audio:
            raise BadInputError("no audio", f"{path.name} holds no audio stream")
        try:
            _write_stream(container, wav)
        except av.FFmpegError as error:
            raise BadInputError("unreadable audio", f"{path.name}: {error.strerror}") from error


def _write_stream(container: Any, wav: IO[bytes]) -> None:
    import av

    stream = container.streams.audio[0]
    rate_hz, channels = stream.rate, stream.channels
    as_int16 = av.AudioResampler(format="s16", layout=stream.layout, rate=rate_hz)
    with soundfile.SoundFile(wav, "w", rate_hz, channels, subtype="PCM_16", format="RF64") as file:
        for frame in container.decode(stream):
            late = 0 if frame.time is None else round(frame.time * rate_hz) - file.frames
            if late > frame.samples:  # less is jitter
                file.write(np.zeros((late, channels), np.int16))
            for packed in as_int16.resample(frame):
                file.write(packed.to_ndarray().reshape(-1, channels))
