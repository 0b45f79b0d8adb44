"""What was said? Automatic speech recognition (ASR) with WhisperX, utterance by utterance.

WhisperX cuts audio into chunks of up to 30 s, across pauses and turns: too coarse for the order of a dialogue.
Here it is given the utterances of `segkit.segmenters.timeline`, from Silero's activity as everywhere in segkit,
and each comes back as one `Word` of several words of text. Needs the extra `asr`.

    >>> Transcriber("tiny.en").transcribe([audio], rate_hz=24_000)  # doctest: +SKIP
    [[Word(channel=0, text='Hi, how are you?', start_s=0.48, end_s=1.53, confidence=0.81)]]
"""

import math
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from segkit.errors import MissingExtraError, UsageError
from segkit.schemas import Intervals, VadSettings, Word
from segkit.schemas.settings import TimelineSettings
from segkit.segmenters import vad
from segkit.segmenters.timeline import speech

ASR_HZ = 16_000

LONGEST_S = 30.0
"""Whisper's window; a longer utterance is cut into equal parts."""

PAD_S = 0.1
"""Audio around the speech that the recogniser hears, too: a tight cut takes consonants away."""


class Transcriber:
    """WhisperX's batched Whisper, loaded once."""

    def __init__(self, model: str = "tiny.en", device: str = "cpu", language: str = "en") -> None:
        """Load a model: a name that faster-whisper knows, an id on the Hub, or a folder (CTranslate2).

        Raises:
            MissingExtraError: WhisperX is not installed.
            UsageError: there is no such model to be had.
        """
        try:
            with warnings.catch_warnings(action="ignore"):  # pyannote misses decoders that are not used here
                import whisperx.asr
        except ImportError:
            raise MissingExtraError("Speech recognition", "whisperx", "asr") from None
        kind, _, index = device.partition(":")
        how = {"device_index": int(index or 0), "compute_type": "float16" if kind == "cuda" else "float32"}
        try:
            self._model = whisperx.asr.load_model(
                model, kind, language=language, vad_model=_utterances_for_whisperx(device), **how
            )
        except (OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(
                f"Whisper model {model!r} cannot be loaded: {reason}. Expected a name, or a folder."
            ) from None

    def transcribe(self, audio: Sequence[NDArray[np.float32]], rate_hz: int) -> list[list[Word]]:
        """The utterances of each recording, (samples,) in [-1, 1], with text and times in seconds."""
        return [self._transcribe(soxr.resample(each, rate_hz, ASR_HZ)) for each in audio]

    def _transcribe(self, audio: NDArray[np.float32]) -> list[Word]:
        return [
            Word(0, text, said["start"], said["end"], math.exp(said["avg_logprob"]))  # mean probability of a token
            for said in self._model.transcribe(audio, batch_size=16)["segments"]
            if (text := said["text"].strip())
        ]


def chunks(activity: Intervals) -> list[tuple[float, float]]:
    """The utterances of a speaker's activity, (n, 2) seconds, none longer than Whisper hears at once.

    >>> chunks(np.array([[0.0, 1.0], [1.5, 2.0], [10.0, 50.0]]))
    [(0.0, 2.0), (10.0, 30.0), (30.0, 50.0)]
    """
    return [
        part
        for start, end in speech(activity, TimelineSettings()).utterances.tolist()
        for part in pairwise(np.linspace(start, end, 1 + math.ceil((end - start) / LONGEST_S)).tolist())
    ]


def _utterances_for_whisperx(device: str) -> Any:
    """What WhisperX takes for a voice activity detector."""
    import whisperx.vads

    detector = vad.load(VadSettings(speech_pad_s=PAD_S), device)

    class Utterances(whisperx.vads.Vad):  # type: ignore[misc]
        def __call__(self, audio: dict[str, Any]) -> list[dict[str, float]]:
            (activity,) = vad.detect_array(detector, audio["waveform"][None], ASR_HZ)
            return [{"start": start, "end": end} for start, end in chunks(activity)]

        @staticmethod
        def preprocess_audio(audio: NDArray[np.float32]) -> NDArray[np.float32]:
            return audio

        @staticmethod
        def merge_chunks(found: list[dict[str, float]], *_: Any, **__: Any) -> list[dict[str, float]]:
            return found

    return Utterances(vad_onset=0.5)  # not used, but demanded
