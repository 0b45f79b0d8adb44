"""Find out how to read an audio file: in place, or from a wav that it is decoded to."""

import os
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from soundfile import SoundFile, SoundFileError

from segkit.decoding import scratch
from segkit.decoding.decoders import Cannot, decode, decoders_of
from segkit.decoding.headers import knows_its_length, missing_frames, open_sound, seeks_exactly
from segkit.decoding.limits import check_header
from segkit.errors import BadInputError
from segkit.settings import AudioSettings


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What is known of an audio file.

    Attributes:
        path: what libsndfile reads: the file, or the wav that it was decoded to.
        rate_hz: frames a second.
        frames: how many there are.
        channels: samples in a frame.
        missing_s: audio that the file promises but does not hold; inf if it ends too early, by nobody knows what.
    """

    path: Path
    rate_hz: int
    frames: int
    channels: int
    missing_s: float = 0.0


def probe(path: Path, settings: AudioSettings | None = None, anew: bool = False) -> AudioInfo:
    """Find out how to read a file; decodes it as a whole where libsndfile cannot seek in it, or not say its length.

    Args:
        path: the file; its name does not matter.
        settings: limits; the defaults unless given.
        anew: decode it in any case: reading it in place went wrong.

    Raises:
        BadInputError: it cannot be opened or decoded, is empty, or its header is implausible.
    """
    info, file = opened(path, settings or AudioSettings(), anew)
    file.close()
    return info


def opened(path: Path, settings: AudioSettings, anew: bool = False) -> tuple[AudioInfo, SoundFile]:
    """The same, and the file that libsndfile reads, open; a wav that is open outlasts its name."""
    try:
        facts = path.stat()
        if not path.is_file():
            raise BadInputError("file cannot be opened", f"{path.name} is not a file")
        if facts.st_size == 0:
            raise BadInputError("empty audio", f"{path.name} has 0 bytes")
        if not anew and (found := _in_place(path, settings)):
            return found
    except OSError as error:
        raise BadInputError("file cannot be opened", f"{path.name}: {error.strerror}") from error
    what = f"{path.absolute()} {facts.st_size} {facts.st_mtime_ns} {anew}"
    name = blake2b(what.encode(errors="surrogateescape"), digest_size=16).hexdigest()
    try:
        with scratch.kept(f"{name}.wav", lambda draft: decode(path, draft, settings, anew)) as handle:
            file = SoundFile(os.dup(handle.fileno()))
    except OSError as error:  # no room for it, most likely
        where = f"{path.name} cannot be decoded to {scratch.folder()}"
        raise BadInputError("file cannot be opened", f"{where}: {error}") from error
    place = scratch.folder() / f"{name}.wav"
    return AudioInfo(place, file.samplerate, file.frames, file.channels, float(file.comment)), file


def _in_place(path: Path, settings: AudioSettings) -> tuple[AudioInfo, SoundFile] | None:
    """A file that libsndfile can be asked for, open; None if it cannot."""
    try:
        file = open_sound(path)
    except SoundFileError:
        return None
    if not knows_its_length(path, file) or not seeks_exactly(file):
        file.close()
        return None
    check_header(path, file, settings)
    missing_s = missing_frames(path, file) / file.samplerate
    return AudioInfo(path, file.samplerate, file.frames, file.channels, missing_s), file


def holds_audio(path: Path) -> bool:
    """Whether a decoder opens a file; whether it can be read to its end is another matter."""
    try:
        for each in decoders_of(path) if path.is_file() else ():
            with suppress(Cannot, SoundFileError, BadInputError), each(path):
                return True
    except Exception:  # whatever a decoder raises on what is no audio
        return False
    return False
