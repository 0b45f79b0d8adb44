"""What was said? Automatic speech recognition (ASR) with WhisperX.

Times are those of WhisperX's chunks, which end at silences: a `Word` here is a phrase of up to 5 s, not a word of
its own. Needs the extra `asr`.
"""

from collections.abc import Sequence

import numpy as np
import soxr
from numpy.typing import NDArray

from segkit.errors import MissingExtraError, UsageError
from segkit.schemas import Word

ASR_HZ = 16_000
CHUNK_S = 5
"""Longest phrase. WhisperX's 30 s would join what the other speaker came between."""


class Transcriber:
    """WhisperX's batched Whisper, loaded once."""

    def __init__(self, model: str = "tiny.en", device: str = "cpu", language: str = "en") -> None:
        """Load a model: a name that faster-whisper knows, an id on the Hub, or a folder (CTranslate2).

        Raises:
            MissingExtraError: WhisperX is not installed.
            UsageError: there is no such model to be had.
        """
        try:
            import whisperx
        except ImportError:
            raise MissingExtraError("Speech recognition", "whisperx", "asr") from None
        kind, _, index = device.partition(":")
        precision = "float16" if kind == "cuda" else "float32"
        try:
            self._model = whisperx.load_model(
                model,
                kind,
                device_index=int(index or 0),
                compute_type=precision,
                language=language,
                vad_method="pyannote",
            )
        except (OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(
                f"Whisper model {model!r} cannot be loaded: {reason}. Expected a name, or a folder."
            ) from None

    def transcribe(self, audio: Sequence[NDArray[np.float32]], rate_hz: int) -> list[list[Word]]:
        """The phrases in each recording, (samples,), with their times in seconds."""
        found = []
        for samples in audio:
            heard = samples if rate_hz == ASR_HZ else soxr.resample(samples, rate_hz, ASR_HZ)
            phrases = self._model.transcribe(np.ascontiguousarray(heard, np.float32), chunk_size=CHUNK_S)["segments"]
            found.append([Word(0, each["text"].strip(), each["start"], each["end"]) for each in phrases])
        return found
