"""What can be set for `segkit extract`: every threshold of the method with its source, and what a dataset holds.

"Paper" is arXiv 2606.11167; "segkit" marks a choice where the paper is silent, and the preset `paper-literal` is the
paper's text without those choices.

    >>> SegmentSettings().turn_taking.min_gap_s, ExtractionSettings.preset("paper-literal").turn_taking.min_gap_s
    (-0.2, -inf)
"""

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from segkit.schemas.segment import Axis
from segkit.settings.base import Separated, Settings, Unfit, setting


def _in_order(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Axes in the usual order, each once."""
    if not axes:
        raise ValueError("at least one axis")
    return tuple(axis for axis in Axis if axis in axes)


Axes = Annotated[tuple[Axis, ...], Separated, AfterValidator(_in_order)]


def _no_is_off(value: object) -> object:
    return "off" if value is False else value  # as YAML reads it


class VadSettings(Settings):
    """Voice activity detection. The paper uses Silero and names no value: these are Silero's defaults."""

    backend: Literal["silero", "webrtc", "pyannote", "transcript"] = setting(
        "silero", "who finds the speech; transcript: it is where the words are", "paper 3.3"
    )
    threshold: float = setting(
        0.5, "of the probability of speech, which ends below threshold - 0.15", "Silero", ge=0.01, le=1
    )
    min_speech_s: float = setting(0.25, "shorter speech is dropped", "Silero", ge=0)
    min_silence_s: float = setting(0.1, "a shorter silence does not end speech", "Silero", ge=0)
    speech_pad_s: float = setting(
        0.0, "added on both sides of speech; Silero's 0.03 s would shorten every gap by 0.06 s", ge=0
    )
    end_bias_s: float = setting(
        0.0,
        "taken off the end of speech, before padding: how late the detector ends it; 0.06 is right for Silero",
        added_later=True,
        ge=0,
        le=0.5,
    )
    bleed: Annotated[Literal["off", "gate"], BeforeValidator(_no_is_off)] = setting(
        "off",
        "gate: what leaks from the other channel is no speech; the audio of segments stays as it is",
        added_later=True,
    )
    model: str = setting(
        "",
        "for the backend pyannote: a file, or an id on the Hub; empty: the one inside whisperx",
        added_later=True,
    )

    @model_validator(mode="after")
    def _model_is_of_pyannote(self) -> Self:
        if self.model and self.backend != "pyannote":
            raise Unfit("model", self.model, "none, unless vad.backend is pyannote")
        return self


class TimelineSettings(Settings):
    """From inter-pausal units (IPUs) to utterances and pauses."""

    max_pause_s: float = setting(1.0, "a longer silence of the speaker ends the utterance", "paper 3.3", ge=0)
    min_pause_s: float = setting(
        0.2, "a shorter silence is not a pause; the usual threshold of IPUs", "Heldner and Edlund 2010", ge=0
    )


class PauseCriteria(Settings):
    """An utterance of the user with a pause inside, during which the agent is silent."""

    tau_min_s: float = setting(4.0, "shortest utterance of the user", "paper 4.1", ge=0)


class TurnTakingCriteria(Settings):
    """An utterance of the user, followed by one of the agent after a short gap."""

    tau_min_s: float = setting(5.0, "shortest of both utterances", "paper 4.1", ge=0)
    max_gap_s: float = setting(0.4, "longest gap between them", "paper 3.3")
    min_gap_s: float = setting(
        -0.2, "shortest gap, negative for an overlap: an earlier start is not a smooth transition; the paper: -inf"
    )


class BackchannelCriteria(Settings):
    """An utterance of the user, during which the agent says short utterances only."""

    tau_min_s: float = setting(5.0, "shortest utterance of the user", "paper 4.1", ge=0)
    max_backchannel_s: float = setting(1.0, "longest utterance of the agent that is a backchannel", "paper 3.3", ge=0)
    inside: bool = setting(True, "whether a backchannel has to lie inside the user's utterance; the paper: false")


class InterruptionCriteria(Settings):
    """Utterances user, agent, user, agent, of which the third starts before the second ends."""

    tau_min_s: float = setting(3.0, "shortest of the four utterances", "paper 4.1", ge=0)


class AsrSettings(Settings):
    """Words by speech recognition, where a corpus has none."""

    model: str = setting(
        "", "whisperx:MODEL: a name of faster-whisper, an id on the Hub, or a folder; whisperx: small; empty: none"
    )
    align: str = setting(
        "", "wav2vec 2.0 model for the times of words; empty: WhisperX's for the language, if it can be had"
    )
    replace: bool = setting(False, "also where the corpus has words of its own")

    @model_validator(mode="after")
    def _recogniser_is_known(self) -> Self:
        if self.model.partition(":")[0] not in ("", "whisperx"):
            raise Unfit("model", self.model, "whisperx, or whisperx:MODEL")
        return self

    @property
    def whisper(self) -> str:
        """The Whisper model: what follows whisperx:, or small."""
        return self.model.partition(":")[2] or "small"


class TrustCriteria(Settings):
    """What a segment of any axis must meet beside its criterion."""

    max_third_party_s: float = setting(0.0, "speech of somebody else, where a corpus has more than two speakers", ge=0)
    overlap_in_one_signal: bool = setting(
        False, "true: also what depends on overlap in recordings that diarization divided"
    )
    max_speech_without_words: float = setting(1.0, "share of the speech that VAD finds", ge=0, le=1)
    max_words_without_speech: float = setting(
        1.0, "share of the time that the words of the transcript take", ge=0, le=1
    )
    max_bleed_db: float = setting(
        math.inf,
        "level at which a track of the recording holds the other one's voice, relative to his own track; inf: any",
        added_later=True,
        ge=-60,
    )

    @property
    def needs_words(self) -> bool:
        """Whether a threshold is about words."""
        return self.max_speech_without_words < 1 or self.max_words_without_speech < 1


class SegmentSettings(Settings):
    """All settings that decide which segments there are in a recording."""

    vad: VadSettings = VadSettings()
    timeline: TimelineSettings = TimelineSettings()
    pause: PauseCriteria = PauseCriteria()
    turn_taking: TurnTakingCriteria = TurnTakingCriteria()
    backchannel: BackchannelCriteria = BackchannelCriteria()
    interruption: InterruptionCriteria = InterruptionCriteria()
    asr: AsrSettings = setting(AsrSettings(), "", added_later=True)
    trust: TrustCriteria = setting(TrustCriteria(), "", added_later=True)

    presets: ClassVar[str] = "extract"

    @model_validator(mode="after")
    def _speech_is_heard(self) -> Self:
        if self.asr.model and self.vad.backend == "transcript":
            raise Unfit(
                "asr.model", self.asr.model, "none with vad.backend=transcript: recognition needs speech that is heard"
            )
        return self


def _shares(splits: tuple[float, float, float]) -> tuple[float, float, float]:
    if min(splits) < 0 or not math.isclose(sum(splits), 1.0):
        raise ValueError("three shares of train, validation and test that add up to 1, such as 0.9,0.05,0.05")
    return splits


def _nothing(*words: str) -> BeforeValidator:
    return BeforeValidator(lambda value: None if value in ("", "none", "null", *words) else value)


class AudioSettings(Settings):
    """Which audio files are used."""

    max_missing_s: float = setting(
        0.5, "a file that lacks less than its header promises is used, with a warning", "lhotse", added_later=True, ge=0
    )
    max_missing_share: float = setting(
        0.001, "the same, as a share of the file; the larger limit counts", added_later=True, ge=0, le=1
    )
    max_length_s: float = setting(86_400.0, "a longer file is damaged, or no conversation", added_later=True, gt=0)
    max_decoding_s: float = setting(3600.0, "a file that takes longer to decode is skipped", added_later=True, gt=0)


class ExtractionSettings(SegmentSettings):
    """All settings of a dataset, but for those of its corpus."""

    axes: Axes = setting(tuple(Axis), "which axes")
    per_axis: int = setting(2000, "at most this many segments of an axis", "paper 4.1", ge=1)
    context_s: float = setting(
        30.0, "how much of the recording before a segment to keep", "paper 4.3", ge=0, lt=math.inf
    )
    splits: Annotated[tuple[float, float, float], Separated, AfterValidator(_shares)] = setting(
        (0.9, 0.05, 0.05), "shares of train, validation and test"
    )
    seed: int = setting(0, "of the selection and the splits")
    rate_hz: Annotated[int | None, _nothing("native")] = setting(
        24_000, "sample rate of the audio; null, or native: that of the source", ge=8000, le=192_000
    )
    audio: AudioSettings = setting(AudioSettings(), "", added_later=True)
    limit: Annotated[int | None, _nothing()] = setting(None, "use the first recordings only; null: all", ge=1)
    annotations_only: bool = setting(
        False, "segments without audio, which with vad.backend=transcript need not be at hand"
    )

    @property
    def needs_audio(self) -> bool:
        """Whether recordings without audio cannot be used."""
        return not (self.annotations_only and self.vad.backend == "transcript")

    @classmethod
    def own(cls) -> list[str]:
        """The names of what is not a part of `of_segments`."""
        return [name for name in cls.model_fields if name not in SegmentSettings.model_fields]

    @property
    def of_segments(self) -> SegmentSettings:
        """The part that decides which segments there are: what identifies them in every row."""
        return SegmentSettings.model_construct(**{name: getattr(self, name) for name in SegmentSettings.model_fields})
