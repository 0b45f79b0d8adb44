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

from segkit.decoding.headers import head, is_mpeg, knows_its_length, missing_frames, open_sound
from segkit.decoding.limits import check_header, check_length, within
from segkit.errors import BadInputError
from segkit.settings import AudioSettings

BLOCK_FRAMES = 1 << 17
MORE_THAN_16_BITS = "FLOAT", "DOUBLE", "PCM_24", "PCM_32", "ALAC", "DWVW_24"


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
    held = 0
    with _writing(wav):
        out = SoundFile(wav, "w", source.samplerate, source.channels, source.subtype, format="RF64")
    with out:
        for block in within(source.blocks(), path, settings):
            with _writing(wav):
                out.write(block)
            held += len(block)
            check_length(path, held, source.samplerate, settings)
        if held == 0:
            detail = f"{path.name} holds no samples, its header says {source.frames}"
            raise BadInputError("truncated audio" if source.frames else "empty audio", detail)
        with _writing(wav):
            out.comment = str(source.missing_s(held))


@contextmanager
def _writing(wav: Path) -> Iterator[None]:
    """Turn what libsndfile says of a full disk into what it is: not the fault of the file that is read."""
    try:
        yield
    except (SoundFileError, AssertionError) as error:
        raise OSError(f"{wav.parent} cannot be written to: {error or 'no space left'}") from error


@contextmanager
def _by_libsndfile(path: Path) -> Iterator[Source]:
    with open_sound(path) as file:
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

    def blocks(self) -> Iterator[NDArray[Any]]:
        self.file.seekable = lambda: False  # for python-soundfile seeks after every read: see `seeks_exactly`
        while len(block := self.file.read(BLOCK_FRAMES, "float32", always_2d=True)):
            yield block if self.subtype == "FLOAT" else np.rint(block * 32768).clip(-32768, 32767).astype(np.int16)

    def missing_s(self, held: int) -> float:
        frames = self.frames - held if is_mpeg(self.file) else missing_frames(self.path, self.file)
        return max(frames, 0.0) / self.samplerate
