"""Decode a file as a whole: by libsndfile, by FFmpeg, and NIST SPHERE with shorten by desphere, to a wav file."""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from desphere import DesphereError, transcode_bytes
from numpy.typing import NDArray
from soundfile import SoundFile, SoundFileError

from segkit.decoding.headers import head, is_mpeg, knows_its_length, missing_frames
from segkit.decoding.limits import check_header, check_length, within
from segkit.errors import BadInputError
from segkit.settings import AudioSettings

BLOCK_FRAMES = 1 << 17
MORE_THAN_16_BITS = "MPEG", "VORBIS", "OPUS", "FLOAT", "DOUBLE", "PCM_24", "PCM_32", "ALAC", "DWVW_24"


class Cannot(Exception):
    """A decoder is not for this file; the next one may be."""


class Source(Protocol):
    """A file that is being decoded, from its beginning to its end."""

    samplerate: int
    channels: int
    frames: int
    """As the header says; 0 if it does not."""
    subtype: str
    """Of the wav that holds all that is decoded."""

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The samples, (frames, channels)."""

    def missing_s(self, held: int) -> float:
        """What is missing, once so many frames were found."""


def decode(path: Path, wav: Path, settings: AudioSettings, anew: bool) -> None:
    """Decode a file to a wav, whose comment says how many seconds are missing.

    Args:
        path: the file.
        wav: where to write.
        settings: limits.
        anew: libsndfile has failed before.

    Raises:
        BadInputError: no decoder can read it, it holds no samples, is too long, or takes too long.
    """
    failed = []
    for opened in decoders_of(path, anew):
        try:
            with opened(path) as source:
                _write(path, source, wav, settings)
            return
        except Cannot as error:
            failed.append(str(error))
        except SoundFileError as error:
            failed.append(f"libsndfile: {getattr(error, 'error_string', error)}")
    raise BadInputError("unreadable audio", f"{path.name}: {'; '.join(failed)}")


def decoders_of(path: Path, anew: bool = False) -> list[Callable[[Path], AbstractContextManager[Source]]]:
    """What to try on a file, in this order; without libsndfile, if it has failed before."""
    from segkit.decoding.ffmpeg import by_ffmpeg  # takes longer to import than most files to read

    if b"embedded-" in head(path):  # SPHERE with shorten, whose bytes FFmpeg takes for samples
        return [_by_desphere]
    return [by_ffmpeg] if anew else [_by_libsndfile, by_ffmpeg]


def _write(path: Path, source: Source, wav: Path, settings: AudioSettings) -> None:
    check_header(path, source, settings)
    with SoundFile(wav, "w", source.samplerate, source.channels, source.subtype, format="RF64") as out:
        for block in within(source.blocks(), path, settings):
            out.write(block)
            check_length(path, out.frames, source.samplerate, settings)
        if out.frames == 0:
            detail = f"{path.name} holds no samples, its header says {source.frames}"
            raise BadInputError("truncated audio" if source.frames else "empty audio", detail)
        out.comment = str(source.missing_s(out.frames))


@contextmanager
def _by_libsndfile(path: Path) -> Iterator[Source]:
    with SoundFile(path) as file:
        if not knows_its_length(path, file):  # it would stop there
            raise Cannot("libsndfile: it does not know its length")
        yield _Sndfile(path, file)


@contextmanager
def _by_desphere(path: Path) -> Iterator[Source]:
    try:
        wav = transcode_bytes(path.read_bytes())
    except (DesphereError, ValueError, IndexError, OverflowError) as error:
        raise Cannot(f"desphere: {error}") from error
    with SoundFile(io.BytesIO(wav)) as file:
        yield _Sndfile(path, file)


class _Sndfile:
    """What libsndfile decodes, from the beginning to the end."""

    def __init__(self, path: Path, file: SoundFile) -> None:
        self.path, self.file = path, file
        self.samplerate, self.channels, self.frames = file.samplerate, file.channels, file.frames
        self.subtype = "FLOAT" if str(file.subtype).startswith(MORE_THAN_16_BITS) else "PCM_16"
        self.exact = np.int16 if self.subtype == "PCM_16" else np.float32

    def blocks(self) -> Iterator[NDArray[Any]]:
        while len(block := self.file.read(BLOCK_FRAMES, self.exact.__name__, always_2d=True)):
            yield block

    def missing_s(self, held: int) -> float:
        frames = self.frames - held if is_mpeg(self.file) else missing_frames(self.path, self.file)
        return max(frames, 0.0) / self.samplerate
