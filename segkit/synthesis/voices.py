"""Voices: espeak-ng through ctypes, one speaker number to one voice, one phrase to one `Clip`.

espeak-ng keeps its state in static variables: the same sentence sounds a little different after
another one, and no call resets that. So every `Espeak` loads a private copy of the library, whose
state is fresh, and a conversation depends on nothing that was said before it in the process.
The variants with `breath` (f2, f3, f5, Alicia, victor, ...) are left out: they sound different from
process to process, as addresses do.

    >>> voice_of(0).variant, voice_of(1).variant
    ('m3', 'aunty')
"""

import _ctypes
import ctypes
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import soxr
from numpy.typing import NDArray

from segkit.errors import MissingExtraError, SegkitError, UsageError

Samples: TypeAlias = NDArray[np.float32]

LANGUAGES = ("en-us", "en-us", "en-us", "en", "en-gb-x-rp", "en-gb-scotland")
MALE = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "Alex", "Lee", "Michael", "adam", "boris", "edward2", "max")
FEMALE = ("f1", "f4", "Annie", "belinda", "linda", "shelby", "steph", "aunty")

VOLUME = 50  # espeak's 100 clips inside some variants
EDGE_DB = -30.0  # speech begins and ends where 5 ms reach this level, relative to the phrase's own
FRAME_S = 0.005
MAX_SILENCE_S = 0.09  # inside a phrase; Silero's shortest silence is 0.1 s


@dataclass(frozen=True)
class Voice:
    """How one speaker sounds.

    Attributes:
        name: of the speaker.
        language, variant: espeak-ng's, together the voice `en-us+m3`.
        rate_wpm: espeak-ng's words per minute.
        pitch: espeak's 0 to 99, on the variant's own range.
        level_db: of the active speech, relative to full scale.
    """

    name: str
    language: str
    variant: str
    rate_wpm: int
    pitch: int
    level_db: float


def voice_of(speaker: int) -> Voice:
    """The voice of speaker number `speaker`, the same in every corpus; even ones are male."""
    rng = np.random.default_rng([speaker, 0x564F])
    variants = FEMALE if speaker % 2 else MALE
    return Voice(
        name=f"speaker{speaker:04d}",
        language=str(rng.choice(LANGUAGES)),
        variant=str(rng.choice(variants)),
        rate_wpm=int(rng.integers(155, 206)),
        pitch=int(rng.integers(32, 66)),
        level_db=-26.0 + float(rng.uniform(-2.0, 2.0)),  # ITU-T P.56's usual -26 dBov
    )


@dataclass(frozen=True)
class Clip:
    """A stretch of speech without a pause: what is heard, and the words at their samples.

    Attributes:
        samples: float32, full scale 1, first and last one are speech.
        words: (text, first sample, one past the last sample).
    """

    samples: Samples
    words: list[tuple[str, int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.samples)

    def cut(self, n: int, fade: int) -> "Clip":
        """The first `n` samples, the last `fade` of them faded out, as somebody who breaks off."""
        samples = self.samples[:n].copy()
        samples[n - fade :] *= np.linspace(1.0, 0.05, fade, dtype=np.float32)
        return Clip(samples, [(text, a, min(b, n)) for text, a, b in self.words if a < n])


def espeak_loader() -> Any:
    """The module that knows where espeak-ng and its data are.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module("espeakng_loader")
    except ImportError:
        raise MissingExtraError("The corpus synthetic", "espeakng-loader", "synthetic") from None


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """`espeak_EVENT` of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # in characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_EVENT_END, _EVENT_WORD = 0, 1
_OUTPUT_SYNCHRONOUS, _DONT_EXIT, _CHARS_UTF8 = 2, 0x8000, 1
_RATE, _VOLUME, _PITCH = 1, 2, 3


class Espeak:
    """A private copy of espeak-ng with fresh state; a context manager.

    Raises:
        MissingExtraError: espeakng-loader is not installed.
    """

    def __init__(self) -> None:
        loader = espeak_loader()
        self._folder = TemporaryDirectory(prefix="segkit-espeak-")
        folder = Path(self._folder.name)
        library = Path(shutil.copy(loader.get_library_path(), folder))
        # A short way to the data: espeak-ng holds its path in 160 bytes.
        (folder / "espeak-ng-data").symlink_to(Path(loader.get_data_path()).resolve())
        try:
            self._lib = ctypes.CDLL(str(library))
        except OSError as error:
            raise UsageError(
                f"espeak-ng could not be loaded from the temporary folder {folder.parent} ({error}). "
                "Set TMPDIR to a folder from which programs may run."
            ) from None
        self.rate_hz = int(self._lib.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, str(folder).encode(), _DONT_EXIT))
        if self.rate_hz <= 0:
            raise SegkitError("espeak-ng did not start. Reinstall the package espeakng-loader.")
        self._audio: list[bytes] = []
        self._marks: list[tuple[int, int]] = []
        self._callback: Callable[..., int] = _CALLBACK(self._receive)  # kept: the library calls it
        self._lib.espeak_SetSynthCallback(self._callback)

    def __enter__(self) -> "Espeak":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lib.espeak_Terminate()
        _ctypes.dlclose(self._lib._handle)
        self._folder.cleanup()

    def _receive(self, audio: Any, n: int, events: Any) -> int:
        if audio and n > 0:
            self._audio.append(ctypes.string_at(audio, 2 * n))
        i = 0
        while events[i].type != _EVENT_END:
            if events[i].type == _EVENT_WORD:
                self._marks.append((events[i].text_position - 1, events[i].sample))
            i += 1
        return 0

    def say(self, text: str, voice: Voice) -> Clip:
        """Speak `text` at espeak's own rate, untrimmed, at espeak's level."""
        self._audio.clear()
        self._marks.clear()
        if self._lib.espeak_SetVoiceByName(f"{voice.language}+{voice.variant}".encode()) != 0:
            raise SegkitError(f"espeak-ng has no voice {voice.language}+{voice.variant}.")
        for parameter, value in ((_RATE, voice.rate_wpm), (_VOLUME, VOLUME), (_PITCH, voice.pitch)):
            self._lib.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        self._lib.espeak_Synth(data, len(data) + 1, 0, 0, 0, _CHARS_UTF8, None, None)
        samples: Samples = np.frombuffer(b"".join(self._audio), np.int16).astype(np.float32) / np.float32(32768)
        return Clip(samples, _words(text, self._marks, len(samples)))


def _words(text: str, marks: list[tuple[int, int]], num_samples: int) -> list[tuple[str, int, int]]:
    """The words of `text` from espeak's marks (position in the text, sample), in order.

    Two words that espeak says as one ("out of") carry one mark: they share its time by letters.
    """
    words = []
    for (a, start), (b, end) in zip(marks, [*marks[1:], (len(text), num_samples)], strict=True):
        parts = text[a:b].split()
        ends = np.cumsum([len(part) for part in parts])
        edges = [start, *(start + round((end - start) * float(n / ends[-1])) for n in ends)]
        words += list(zip(parts, edges[:-1], edges[1:], strict=True))
    return words


def phrase(engine: Espeak, voice: Voice, text: str, rate_hz: int, gain_db: float = 0.0) -> Clip:
    """Speak `text` without silence around it, at `rate_hz` and at the voice's level plus `gain_db`."""
    clip = engine.say(text, voice)
    raw = clip.samples
    if rate_hz != engine.rate_hz:
        raw = soxr.resample(raw, engine.rate_hz, rate_hz)
        scale = rate_hz / engine.rate_hz
        clip = Clip(raw, [(t, round(a * scale), round(b * scale)) for t, a, b in clip.words])
    clip = _close_silences(_trim(clip, rate_hz), rate_hz)
    level = 10 ** ((voice.level_db + gain_db) / 20)
    samples = clip.samples * np.float32(level / np.sqrt(np.mean(clip.samples**2)))
    samples *= np.float32(min(1.0, 0.9 / np.abs(samples).max()))
    return replace(clip, samples=samples)


def _loud(samples: Samples, frame: int) -> NDArray[np.bool_]:
    """Which frames of `frame` samples hold speech, shape (num_frames,)."""
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    power = np.mean(frames**2, axis=1)
    speech = power[power > power.max() * 1e-4].mean()
    return np.asarray(power > speech * 10 ** (EDGE_DB / 10))


def _keep(clip: Clip, kept: NDArray[np.intp]) -> Clip:
    """The samples `kept` (sorted indices) of `clip`, with the words moved along."""
    starts = np.searchsorted(kept, [a for _, a, _ in clip.words])
    ends = np.searchsorted(kept, [b for _, _, b in clip.words])
    words = [(t, int(a), int(b)) for (t, _, _), a, b in zip(clip.words, starts, ends, strict=True) if b > a]
    return Clip(clip.samples[kept], words)


def _trim(clip: Clip, rate_hz: int) -> Clip:
    frame = round(FRAME_S * rate_hz)
    loud = np.flatnonzero(_loud(clip.samples, frame))
    return _keep(clip, np.arange(loud[0] * frame, (loud[-1] + 1) * frame))


def _close_silences(clip: Clip, rate_hz: int) -> Clip:
    """Shorten what a VAD would call a pause (a long closure between two plosives)."""
    frame = round(FRAME_S * rate_hz)
    edges = np.flatnonzero(np.diff(np.concatenate(([True], _loud(clip.samples, frame), [True])).astype(np.int8)))
    keep = np.ones(len(clip), dtype=bool)
    most = round(MAX_SILENCE_S / FRAME_S)
    for start, end in edges.reshape(-1, 2):
        middle = (start + end) // 2
        excess = max(0, int(end - start) - most)
        keep[(middle - excess // 2) * frame : (middle - excess // 2 + excess) * frame] = False
    return clip if keep.all() else _keep(clip, np.flatnonzero(keep))
