"""Audio that libsndfile does not open, decoded to a temporary wav that it does.

NIST SPHERE with shorten, as the telephone corpora of the LDC have it, through desphere; what is in video
containers and m4a through PyAV (FFmpeg).
"""

import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile
from desphere import DesphereError, transcode_bytes

from segkit.errors import BadInputError, MissingExtraError

SPHERE = frozenset({".nist", ".sph", ".sphere"})
CONTAINERS = frozenset({".aac", ".amr", ".m4a", ".mka", ".mkv", ".mov", ".mp4", ".webm", ".wma"})


def decoded(path: Path) -> IO[bytes] | None:
    """A wav file with the audio of a file that libsndfile does not open; None where it does, or nothing is there.

    It is deleted when it is no longer referenced.

    Raises:
        BadInputError: it cannot be decoded.
    """
    suffix = path.suffix.lower()
    if suffix not in SPHERE | CONTAINERS or not path.exists() or not path.stat().st_size or _is_plain(path):
        return None
    wav = tempfile.NamedTemporaryFile(prefix="segkit-", suffix=".wav")  # noqa: SIM115 - closed by being forgotten
    decode = _decode_sphere if suffix in SPHERE else _decode_container
    try:
        decode(path, wav)
        wav.flush()
    except OSError as error:  # no room for it, most likely
        raise BadInputError("file cannot be opened", f"{path.name} cannot be decoded to {wav.name}: {error}") from error
    return wav


def _is_plain(path: Path) -> bool:
    try:
        soundfile.SoundFile(path).close()
    except soundfile.SoundFileError:
        return False
    return True


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
