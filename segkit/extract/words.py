"""The words of a recording: the corpus's own, or a recogniser's; and speech where they are."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from segkit.audio import Recording
from segkit.errors import BadInputError
from segkit.extract.listen import noting
from segkit.schemas import NO_INTERVALS, Intervals, Transcript, Word
from segkit.schemas.settings import AsrSettings
from segkit.segmenters.timeline import clip, merged
from segkit.segmenters.transcription import ASR_HZ, WordTranscriber, windows
from segkit.segmenters.trust import Evidence

WORD_SLACK_S = 0.5
"""Words may end this much after the audio does: transcripts round, and are then cut to the recording."""


def fill(row: dict[str, Any], transcript: Transcript | None) -> None:
    """Words in order, checked against the length of the recording; without audio, they tell it."""
    if transcript is None:
        return
    if row["duration_s"] is None:
        row["duration_s"] = max([word.end_s for word in transcript.words] + list(transcript.span_s or ()), default=0.0)
    duration_s = row["duration_s"]
    for word in transcript.words:
        if not (-WORD_SLACK_S <= word.start_s <= word.end_s <= duration_s + WORD_SLACK_S):
            raise BadInputError(
                "words outside the recording",
                f"{word.text!r} at {word.start_s}-{word.end_s} s, the recording lasts {duration_s:.2f} s",
            )
    row["words"] = _in_order(transcript.words, duration_s)
    row["words_source"] = f"corpus, {transcript.unit}s"
    row["words_dropped"] = [{"reason": reason, "count": n} for reason, n in sorted(transcript.dropped.items())]
    row["transcribed_s"] = transcript.span_s
    row["others"] = clip(merged(transcript.others), 0.0, duration_s).tolist()


def fill_activity(row: dict[str, Any], min_silence_s: float) -> None:
    """Speech is where words are; silences that are too short for a silence of VAD count as speech."""
    if row["problem"] is None:
        if row["words"] is None:
            reason, row["transcript_problem"] = row["transcript_problem"] or "no transcript", None
            raise BadInputError(reason, row["detail"] or "--vad transcript takes speech from the words, found none")
        row["activity"] = [track.tolist() for track in spans_of_words(row["words"], min_silence_s)]


def transcribe(
    settings: AsrSettings, rows: dict[str, dict[str, Any]], recordings: dict[str, Recording], device: str
) -> None:
    """Fill the words of the rows that have none; all utterances of one language go in batches."""
    waiting: dict[str, list[str]] = {}
    for key in recordings if settings.model else ():
        if rows[key]["problem"] is None and (rows[key]["words"] is None or settings.replace):
            waiting.setdefault((rows[key]["language"] or "en").split("-")[0], []).append(key)
    for language, keys in waiting.items():
        places, audio = [], []
        for key in keys:
            with noting(rows[key], "transcript_problem"):
                for channel, activity in enumerate(rows[key]["activity"]):
                    for start_s, end_s in windows(np.array(activity).reshape(-1, 2), rows[key]["duration_s"]):
                        audio.append(recordings[key].window(start_s, end_s, ASR_HZ)[channel])
                        places.append((key, channel, start_s))
        recogniser = _recogniser(settings, device, language)
        said: dict[str, list[Word]] = {key: [] for key in keys}
        for (key, channel, start_s), words in zip(places, recogniser.transcribe(audio), strict=True):
            said[key] += [
                replace(w, channel=channel, start_s=start_s + w.start_s, end_s=start_s + w.end_s) for w in words
            ]
        for key in keys:
            rows[key]["words"] = _in_order(said[key], rows[key]["duration_s"])
            rows[key] |= {"words_source": recogniser.source, "words_dropped": [], "transcribed_s": None}


@cache
def _recogniser(settings: AsrSettings, device: str, language: str) -> WordTranscriber:
    return WordTranscriber(settings.whisper, device, language, settings.align)


def _in_order(words: list[Word], duration_s: float) -> list[dict[str, Any]]:
    """Words as the annotations hold them, cut to the recording."""
    return [
        {
            "channel": w.channel,
            "text": w.text.encode(errors="replace").decode(),  # JSON can hold half characters
            "start_s": min(max(w.start_s, 0.0), duration_s),
            "end_s": min(max(w.end_s, 0.0), duration_s),
            "confidence": w.confidence,
        }
        for w in sorted(words, key=lambda w: (w.start_s, w.end_s, w.channel))
    ]


def spans_of_words(words: list[dict[str, Any]], min_silence_s: float = 0.0) -> tuple[Intervals, Intervals]:
    """When the words of each track are said, sorted and disjoint."""
    first, second = (
        merged(
            np.array([(w["start_s"], w["end_s"]) for w in words if w["channel"] == channel]).reshape(-1, 2),
            min_silence_s,
        )
        for channel in (0, 1)
    )
    return first, second


def evidence_of(row: dict[str, Any], activity: tuple[Intervals, Intervals]) -> Evidence:
    """What the annotation of a recording says beside the activity."""
    return Evidence(
        activity,
        None if row.get("words") is None else spans_of_words(row["words"]),
        np.array(row["others"] or NO_INTERVALS).reshape(-1, 2),
        tuple(row["transcribed_s"] or (-np.inf, np.inf)),
        one_signal=row["derived"] is not None,
    )
