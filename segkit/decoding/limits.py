"""What no recording is: endless, of a thousand channels, or so slow to decode that nobody would wait for it."""

from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Protocol, TypeVar

from segkit.errors import BadInputError
from segkit.settings import AudioSettings

RATES_HZ = 1000, 768_000
MAX_CHANNELS = 64

Part = TypeVar("Part")


class Header(Protocol):
    """What an audio file says of itself, as libsndfile names it."""

    @property
    def samplerate(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def frames(self) -> int: ...


def check_header(path: Path, header: Header, settings: AudioSettings) -> None:
    """Raise `BadInputError` for a header that no recording has: it is damaged, or made to take the memory away."""
    said = f"{header.frames} frames of {header.channels} channels at {header.samplerate} Hz"
    if not RATES_HZ[0] <= header.samplerate <= RATES_HZ[1] or not 0 < header.channels <= MAX_CHANNELS:
        raise BadInputError("implausible header", f"{path.name} says that it holds {said}")
    check_length(path, header.frames, header.samplerate, settings)


def check_length(path: Path, frames: int, rate_hz: int, settings: AudioSettings) -> None:
    """Raise `BadInputError` for a recording that is too long."""
    if frames > settings.max_length_s * rate_hz:
        detail = f"{path.name}: more than {settings.max_length_s:g} s (--set audio.max_length_s=...)"
        raise BadInputError("recording too long", detail)


def within(parts: Iterator[Part], path: Path, settings: AudioSettings) -> Iterator[Part]:
    """The same parts.

    Raises:
        BadInputError: to make them takes longer than the settings allow.
    """
    spent_s = 0.0
    while True:
        began_s = monotonic()
        try:
            part = next(parts)
        except StopIteration:
            return
        spent_s += monotonic() - began_s
        if spent_s > settings.max_decoding_s:
            detail = f"{path.name}: more than {settings.max_decoding_s:g} s (--set audio.max_decoding_s=...)"
            raise BadInputError("decoding takes too long", detail)
        yield part
