"""What was said? Automatic speech recognition (ASR) with WhisperX, utterance by utterance.

WhisperX cuts audio into chunks of up to 30 s, across pauses and turns: too coarse for the order of a dialogue.
Here it is given the utterances of `segkit.segmenters.timeline`, from Silero's activity as everywhere in segkit.
`Transcriber` gives the text of each, `WordTranscriber` every word with its times. Needs the extra `asr`.

    >>> Transcriber("tiny.en").transcribe([audio], rate_hz=24_000)  # doctest: +SKIP
    [[Word(channel=0, text='Hi, how are you?', start_s=0.48, end_s=1.53, confidence=0.81)]]
"""

import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import patch

import numpy as np
import soxr
from numpy.typing import NDArray

from segkit.errors import MissingExtraError, UsageError, one_line
from segkit.schemas import Intervals, Word
from segkit.segmenters import vad
from segkit.segmenters.timeline import merged, speech
from segkit.settings import TimelineSettings, VadSettings

ASR_HZ = 16_000

LONGEST_S = 30.0
"""Whisper's window; a longer utterance is cut into equal parts."""

PAD_S = 0.1
"""Audio around the speech that the recogniser hears, too: a tight cut takes consonants away."""


BATCH = 16
"""Utterances that Whisper hears at once."""

TimedText: TypeAlias = tuple[str, float, float, float]
"""A word, its start_s and end_s, and its confidence, NaN where there is none."""


class Transcriber:
    """WhisperX's batched Whisper, loaded once."""

    def __init__(self, model: str = "tiny.en", device: str = "cpu", language: str = "en") -> None:
        """Load a model: a name that faster-whisper knows, an id on the Hub, or a folder (CTranslate2).

        Raises:
            MissingExtraError: WhisperX is not installed.
            UsageError: there is no such model to be had.
        """
        self._model = _load(model, device, language, _utterances(device))

    def transcribe(self, audio: Sequence[NDArray[np.float32]], rate_hz: int) -> list[list[Word]]:
        """The utterances of each recording, (samples,) in [-1, 1], with text and times in seconds."""
        return [self._transcribe(soxr.resample(each, rate_hz, ASR_HZ)) for each in audio]

    def _transcribe(self, audio: NDArray[np.float32]) -> list[Word]:
        return [
            Word(0, text, said["start"], said["end"], math.exp(said["avg_logprob"]))  # mean probability of a token
            for said in self._model.transcribe(audio, batch_size=BATCH)["segments"]
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


def windows(activity: Intervals, duration_s: float) -> list[tuple[float, float]]:
    """As many utterances at once as Whisper hears, with a little around them: words get their own times anyway.

    >>> windows(np.array([[0.0, 1.0], [9.0, 12.0], [25.0, 40.0]]), duration_s=40.0)
    [(0.0, 12.1), (24.9, 40.0)]
    """
    found: list[tuple[float, float]] = []
    for start_s, end_s in chunks(merged(np.clip(activity + np.array([-PAD_S, PAD_S]), 0, duration_s))):
        if found and end_s - found[-1][0] <= LONGEST_S:
            found[-1] = found[-1][0], end_s
        else:
            found.append((start_s, end_s))
    return found


class WordTranscriber:
    """Words with their times, by Whisper and WhisperX's forced alignment.

    Attributes:
        source: what a dataset says of words from here: the model, and where their times come from.
    """

    def __init__(self, model: str = "tiny.en", device: str = "cpu", language: str = "en", align: str = "") -> None:
        """Load both models.

        Args:
            model: as for `Transcriber`.
            device: "cpu" or "cuda".
            language: of the speech, as Whisper names it ("en").
            align: a wav2vec 2.0 model with characters, of torchaudio or transformers; empty: WhisperX's for the
                language. Without it, times are those of Whisper's attention.

        Raises:
            MissingExtraError: WhisperX is not installed.
            UsageError: there is no such Whisper model to be had, or no aligner of that name.
        """
        self._windows: list[dict[str, float]] = []
        self._model = _load(model, device, language, lambda audio: self._windows)
        self._device, self._language = device, language
        self._aligner = _load_aligner(language, device, align)
        times = "aligned by WhisperX" if self._aligner else "times by Whisper"
        self.source = f"whisperx:{Path(model).name}, words, {times}"

    def transcribe(self, heard: Sequence[NDArray[np.float32]]) -> list[list[Word]]:
        """The words of each of the `windows`, (samples,) at 16 kHz; times from its start.

        Batches go over all of them, whatever recordings they are from.
        """
        if not heard:
            return []
        audio = np.concatenate(heard)
        edges = np.cumsum([0, *map(len, heard)]) / ASR_HZ
        self._windows = [{"start": start, "end": end} for start, end in pairwise(edges.tolist())]
        found: list[list[Word]] = [[] for _ in heard]
        for text, *times, confidence in self._aligned(audio) if self._aligner else self._attended(audio):
            at = int(np.searchsorted(edges[1:-1], np.mean(times), side="right"))
            start_s, end_s = (np.clip(times, edges[at], edges[at + 1]) - edges[at]).tolist()
            found[at].append(Word(0, text, start_s, end_s, None if math.isnan(confidence) else float(confidence)))
        return found

    def _aligned(self, audio: NDArray[np.float32]) -> Iterator[TimedText]:
        import whisperx.alignment
        from nltk.tokenize.punkt import PunktSentenceTokenizer

        said = [part for part in self._model.transcribe(audio, batch_size=BATCH)["segments"] if part["text"].strip()]
        # It splits into sentences, which nobody needs here, and would download the data for that.
        with patch.object(whisperx.alignment, "nltk_load", lambda _: PunktSentenceTokenizer()):
            aligned = whisperx.alignment.align(said, *self._aligner, audio, self._device)
        for part in aligned["segments"]:
            end_s = part["start"]
            for word in part["words"]:
                start_s = word.get("start", end_s)  # a number or sign that the aligner has no letters for
                end_s = word.get("end", start_s)
                yield word["word"], start_s, end_s, word.get("score", math.nan)

    def _attended(self, audio: NDArray[np.float32]) -> Iterator[TimedText]:
        from faster_whisper import BatchedInferencePipeline

        pipeline = BatchedInferencePipeline(self._model.model)
        said, _ = pipeline.transcribe(
            audio, language=self._language, clip_timestamps=self._windows, word_timestamps=True, batch_size=BATCH
        )
        for part in said:
            for word in part.words or []:
                yield word.word.strip(), word.start, word.end, word.probability


def _load(model: str, device: str, language: str, utterances: Callable[[Any], list[dict[str, float]]]) -> Any:
    """WhisperX's Whisper, which asks `utterances` instead of a VAD where speech is."""
    try:
        with warnings.catch_warnings(action="ignore"):  # pyannote misses decoders that are not used here
            import whisperx.asr
            import whisperx.vads
        logging.getLogger("whisperx").setLevel(logging.CRITICAL)  # what goes wrong is raised; it logs to the output
    except ImportError:
        raise MissingExtraError("Speech recognition", "whisperx", "asr") from None

    class Utterances(whisperx.vads.Vad):  # type: ignore[misc]
        def __call__(self, audio: dict[str, Any]) -> list[dict[str, float]]:
            return utterances(audio["waveform"])

        @staticmethod
        def preprocess_audio(audio: NDArray[np.float32]) -> NDArray[np.float32]:
            return audio

        @staticmethod
        def merge_chunks(found: list[dict[str, float]], *_: Any, **__: Any) -> list[dict[str, float]]:
            return found

    detector = Utterances(vad_onset=0.5)  # not used, but demanded
    kind, _, index = device.partition(":")
    how = {"device_index": int(index or 0), "compute_type": "float16" if kind == "cuda" else "float32"}
    try:
        return whisperx.asr.load_model(model, kind, language=language, vad_model=detector, **how)
    except (OSError, RuntimeError, ValueError) as error:
        raise _no_model(model, error) from None


def fetch(model: str) -> None:
    """Download a Whisper model, unless it is here: once, before many workers ask for it.

    Raises:
        MissingExtraError: WhisperX is not installed.
        UsageError: there is no such model to be had.
    """
    try:
        from faster_whisper import download_model
    except ImportError:
        raise MissingExtraError("Speech recognition", "whisperx", "asr") from None
    try:
        if not Path(model).is_dir():
            download_model(model)
    except (OSError, RuntimeError, ValueError) as error:
        raise _no_model(model, error) from None


def _no_model(model: str, error: Exception) -> UsageError:
    return UsageError(f"Whisper model {model!r} cannot be loaded: {one_line(error)}. Expected a name, or a folder.")


def _load_aligner(language: str, device: str, name: str) -> Any:
    """WhisperX's aligner and what it needs to know of it; None if there is none for the language, or no network."""
    import whisperx.alignment

    try:
        with redirect_stdout(io.StringIO()):  # it prints what it could not find
            return whisperx.alignment.load_align_model(language, device, model_name=name or None)
    except (OSError, RuntimeError, ValueError) as error:
        if name:
            raise UsageError(f"Aligner {name!r} cannot be loaded: {error!r:.200}.") from None
        return None


def _utterances(device: str) -> Callable[[NDArray[np.float32]], list[dict[str, float]]]:
    """Silero's utterances."""
    detector = vad.load(VadSettings(speech_pad_s=PAD_S), device)

    def utterances(audio: NDArray[np.float32]) -> list[dict[str, float]]:
        (activity,) = vad.detect_array(detector, audio[None], ASR_HZ)
        return [{"start": start, "end": end} for start, end in chunks(activity)]

    return utterances
