"""Every threshold of the method in one type, each with its source.

"Paper" is arXiv 2606.11167; "segkit" marks a choice where the paper is silent, and the preset
`paper-literal` is the paper's text without those choices.

    >>> PRESETS["paper"].turn_taking.min_gap_s
    -0.2
    >>> with_overrides(PRESETS["paper"], {"pause.tau_min_s": "3"}).pause.tau_min_s
    3.0
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, TypeVar

from segkit.errors import UsageError, nearest

T = TypeVar("T")


def from_json(default: T, values: Mapping[str, Any]) -> T:
    """The settings that `as_json` wrote; `default` has their form, and the values of what is not told.

    >>> from_json(PRESETS["paper"], as_json(PRESETS["paper-literal"])) == PRESETS["paper-literal"]
    True
    """
    changes = {}
    for name in (f.name for f in dataclasses.fields(default) if f.name in values):  # type: ignore[arg-type]
        old, new = getattr(default, name), values[name]
        changes[name] = from_json(old, new) if dataclasses.is_dataclass(old) else type(old)(new)  # infinities are text
    return replace(default, **changes)  # type: ignore[type-var]


def added_later(default: Any) -> Any:
    """A field for settings whose identity is on users' disks: at its default, all that was made keeps its name."""
    return field(default=default, metadata={"added_later": True})


@dataclass(frozen=True)
class VadSettings:
    """Voice activity detection. The paper uses Silero and names no value: these are Silero's defaults."""

    backend: str = "silero"  # paper 3.3; also: webrtc, pyannote, transcript (the words' own times)
    threshold: float = 0.5  # Silero; speech ends below threshold - 0.15
    min_speech_s: float = 0.25  # Silero: shorter speech is dropped
    min_silence_s: float = 0.1  # Silero: shorter silence does not end speech
    speech_pad_s: float = 0.0  # segkit; Silero pads 0.03 s on each side, which shortens every gap by 0.06 s
    model: str = added_later("")  # for pyannote: a file, or an id on the Hub; without one, the one inside whisperx


@dataclass(frozen=True)
class TimelineSettings:
    """From inter-pausal units to utterances and pauses."""

    max_pause_s: float = 1.0  # paper 3.3: a longer silence of the speaker ends the utterance
    min_pause_s: float = 0.2  # segkit: the field's usual IPU threshold (Heldner & Edlund 2010)


@dataclass(frozen=True)
class PauseCriteria:
    """An utterance of the user with a pause inside, during which the agent is silent."""

    tau_min_s: float = 4.0  # paper 4.1


@dataclass(frozen=True)
class TurnTakingCriteria:
    """An utterance of the user, followed by one of the agent after a short gap."""

    tau_min_s: float = 5.0  # paper 4.1
    max_gap_s: float = 0.4  # paper 3.3
    min_gap_s: float = -0.2  # segkit: an earlier start is no smooth transition; -inf is the paper's text


@dataclass(frozen=True)
class BackchannelCriteria:
    """An utterance of the user, during which the agent says short utterances only."""

    tau_min_s: float = 5.0  # paper 4.1
    max_backchannel_s: float = 1.0  # paper 3.3
    inside: bool = True  # segkit: what sticks out of the utterance is no backchannel; false: the paper


@dataclass(frozen=True)
class InterruptionCriteria:
    """Utterances user, agent, user, agent, of which the third starts before the second ends."""

    tau_min_s: float = 3.0  # paper 4.1


@dataclass(frozen=True)
class TrustCriteria:
    """What a segment of any axis must meet; all of it is segkit's."""

    max_third_party_s: float = 0.0  # speech of somebody else, where a corpus has more than two speakers
    overlap_in_one_signal: bool = False  # true: also what depends on overlap in recordings that diarization divided
    max_speech_without_words: float = 1.0  # share of the speech that VAD finds
    max_words_without_speech: float = 1.0  # share of the time that the words of the transcript take

    @property
    def needs_words(self) -> bool:
        """Whether a threshold is about words."""
        return self.max_speech_without_words < 1 or self.max_words_without_speech < 1


@dataclass(frozen=True)
class AsrSettings:
    """Words by speech recognition, where a corpus has none; all of it is segkit's."""

    model: str = ""  # whisperx:MODEL, a name of faster-whisper, an id on the Hub, or a folder; empty: none
    align: str = ""  # wav2vec 2.0 model for the times of words; empty: WhisperX's for the language, if it can be had
    replace: bool = False  # also where the corpus has words of its own

    @property
    def whisper(self) -> str:
        """The Whisper model: what follows whisperx:, or small.

        Raises:
            UsageError: another recogniser is named.
        """
        recogniser, _, model = self.model.partition(":")
        if recogniser != "whisperx":
            raise UsageError(f"Setting 'asr.model' got {self.model!r}. Expected whisperx, or whisperx:MODEL.")
        return model or "small"


@dataclass(frozen=True)
class Settings:
    """All settings that decide which segments there are."""

    vad: VadSettings = field(default_factory=VadSettings)
    timeline: TimelineSettings = field(default_factory=TimelineSettings)
    pause: PauseCriteria = field(default_factory=PauseCriteria)
    turn_taking: TurnTakingCriteria = field(default_factory=TurnTakingCriteria)
    backchannel: BackchannelCriteria = field(default_factory=BackchannelCriteria)
    interruption: InterruptionCriteria = field(default_factory=InterruptionCriteria)
    asr: AsrSettings = added_later(AsrSettings())  # noqa: RUF009 - it is frozen
    trust: TrustCriteria = added_later(TrustCriteria())  # noqa: RUF009 - it is frozen


PRESETS = {
    "paper": Settings(),
    "paper-literal": Settings(
        timeline=TimelineSettings(min_pause_s=0.0),
        turn_taking=TurnTakingCriteria(min_gap_s=-math.inf),
        backchannel=BackchannelCriteria(inside=False),
    ),
}


def with_overrides(settings: T, overrides: Mapping[str, str]) -> T:
    """A copy of a (nested, frozen) settings dataclass with `{"pause.tau_min_s": "3"}` applied.

    Raises:
        UsageError: an unknown name, or a value that is not of the field's type.
    """
    for name, text in overrides.items():
        settings = _with_one(settings, name, name.split("."), text)
    return settings


def _with_one(settings: Any, name: str, parts: list[str], text: str) -> Any:
    fields = {f.name for f in dataclasses.fields(settings)}
    if parts[0] not in fields or dataclasses.is_dataclass(getattr(settings, parts[0])) != (len(parts) > 1):
        prefix = name.removesuffix(".".join(parts))
        raise UsageError(f"Unknown setting {name!r}. {nearest(name, setting_names(settings, prefix))}")
    old = getattr(settings, parts[0])
    new = _with_one(old, name, parts[1:], text) if len(parts) > 1 else _parse(name, text, type(old))
    return replace(settings, **{parts[0]: new})


def _parse(name: str, text: str, wanted: type) -> Any:
    """`text` as a value of the type of the default it replaces."""
    try:
        if wanted is bool:
            return {"true": True, "false": False}[text.lower()]
        value = wanted(text)
    except (ValueError, KeyError):
        expected = "true or false" if wanted is bool else f"a value of type {wanted.__name__}"
        raise UsageError(f"Setting {name!r} got {text!r}. Expected {expected}.") from None
    if value != value:
        raise UsageError(f"Setting {name!r} got {text!r}. Expected a number.")
    return value


def setting_names(settings: Any, prefix: str = "") -> list[str]:
    """The dotted names of all settings in a settings dataclass."""
    names = []
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        nested = dataclasses.is_dataclass(value)
        names += setting_names(value, f"{prefix}{f.name}.") if nested else [prefix + f.name]
    return names


def as_json(value: Any) -> Any:
    """Settings and other plain values as what JSON can hold; infinities and paths become text.

    A field that was `added_later` is left out at its default.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        told = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if not _is_as_before(value, f)}
        return {name: as_json(item) for name, item in told.items()}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def _is_as_before(settings: Any, f: dataclasses.Field[Any]) -> bool:
    return "added_later" in f.metadata and getattr(settings, f.name) == f.default


def fingerprint(*parts: Any) -> str:
    """16 hex digits that identify plain values and settings, the same in every process."""
    return sha256(json.dumps(as_json(parts), sort_keys=True).encode()).hexdigest()[:16]
