"""The words of a recording: the corpus's own, or a recogniser's; and speech where they are."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from segkit.audio import Recording, Samples
from segkit.errors import BadInputError, SegkitError
from segkit.extraction.listen import noting, warn
from segkit.schemas import NO_INTERVALS, Intervals, Transcript, Word
from segkit.segmenters.timeline import clip, common, durations, merged, touching
from segkit.segmenters.transcription import ASR_HZ, WordTranscriber, windows
from segkit.segmenters.trust import Evidence
from segkit.settings import AsrSettings, fingerprint

WORD_SLACK_S = 0.5
"""Words may end this much after the audio does: transcripts round, and are then cut to the recording."""
MAX_OUTSIDE = 0.1
"""If a larger share of words, or of intervals of speech, is outside the recording, they are those of another one."""
MIN_COMPARED_S = 5.0
"""Words of less time say nothing about the channels."""
MIN_BETTER_SWAPPED = 0.5
"""How much more of their time is inside speech on the other tracks, as a share, if words are on the wrong channels.

Of six real calls, swapping the channels puts 0.71 to 0.89 more inside if words are wrong, or less if right."""
FAILED = "speech recognition failed"
HEARD_AT_ONCE_S = 1800.0
"""Audio that is in memory for the recogniser."""


def fill(row: dict[str, Any], transcript: Transcript | None) -> None:
    """Words in order, checked against the length of the recording; without audio, they give it."""
    if transcript is None:
        return
    if row["duration_s"] is None:
        ends = [word.end_s for word in transcript.words] + list(transcript.span_s or ())
        row["duration_s"] = max(ends + [track.max() for track in transcript.activity or () if track.size], default=0.0)
    duration_s = row["duration_s"]
    said = [w for w in transcript.words if not w.end_s < w.start_s]
    if backwards := len(transcript.words) - len(said):
        transcript.dropped[f"{transcript.unit} that ends before it starts"] += backwards
    inside = [w for w in said if w.start_s >= -WORD_SLACK_S and w.end_s <= duration_s + WORD_SLACK_S]
    if outside := len(said) - len(inside):
        if _of_another(outside, len(said)):
            word = next(w for w in said if w not in inside)
            where = f"{word.text!r} at {word.start_s}-{word.end_s} s, the recording lasts {duration_s:.2f} s"
            raise BadInputError("words outside the recording", f"{outside} of {len(said)}, such as {where}")
        transcript.dropped[f"{transcript.unit} outside the recording"] += outside
    if transcript.activity is not None:
        spoken = np.concatenate(transcript.activity)
        outside = len(spoken) - len(touching(spoken, -WORD_SLACK_S, duration_s + WORD_SLACK_S))
        if _of_another(outside, len(spoken)):
            where = f"{outside} of {len(spoken)} intervals of speech, the recording lasts {duration_s:.2f} s"
            raise BadInputError("speech outside the recording", where)
        row["activity"] = [clip(merged(track), 0.0, duration_s).tolist() for track in transcript.activity]
        if not transcript.words and not transcript.dropped:
            return
    row["words_dropped"] = [{"reason": reason, "count": n} for reason, n in sorted(transcript.dropped.items())]
    row["transcribed_s"] = transcript.span_s
    row["others"] = clip(merged(transcript.others), 0.0, duration_s).tolist()
    if transcript.dropped and not inside:
        counts = ", ".join(f"{each['count']} {each['reason']}" for each in row["words_dropped"])
        raise BadInputError("no words", f"of what the transcript holds, nothing can be used: {counts}")
    row["words"] = _in_order(inside, duration_s)
    row["words_source"] = f"corpus, {transcript.unit}s"


def _of_another(outside: int, total: int) -> bool:
    """Whether so many words, or intervals of speech, lie outside a recording that they are those of another one."""
    return outside > 0 and (outside == total or outside > max(1, MAX_OUTSIDE * total))


def fill_activity(row: dict[str, Any], min_silence_s: float) -> None:
    """Speech is where words are; silences that are too short for a silence of VAD count as speech.

    Where the corpus says beside the words when its people speak, it is there.
    """
    if row["problem"] is None and row["activity"] is not None:
        row["audio_hash"] = [fingerprint(track) for track in row["activity"]]
    elif row["problem"] is None:
        if row["words"] is None:
            reason, row["transcript_problem"] = row["transcript_problem"] or "no transcript", None
            raise BadInputError(reason, row["detail"] or "--vad transcript takes speech from the words, found none")
        if not row["words"]:
            raise BadInputError("no words", "--vad transcript takes speech from the words, and the transcript is empty")
        row["activity"] = [track.tolist() for track in spans_of_words(row["words"], min_silence_s)]
        row["audio_hash"] = [fingerprint([w for w in row["words"] if w["channel"] == channel]) for channel in (0, 1)]


def check_channels(row: dict[str, Any]) -> None:
    """Warn if the words of a recording lie outside of the speech on their tracks, and inside of that on the others."""
    if row["problem"] is not None or row["derived"] is not None or not row["words"]:
        return
    words = spans_of_words(row["words"])
    speech = [np.array(track).reshape(-1, 2) for track in row["activity"]]
    words_s = sum(durations(track).sum() for track in words)
    if words_s < MIN_COMPARED_S:
        return
    outside, swapped = (
        1 - sum(durations(common(*pair)).sum() for pair in zip(words, order, strict=True)) / words_s
        for order in (speech, speech[::-1])
    )
    if outside - swapped > MIN_BETTER_SWAPPED:
        shares = f"{100 * outside:.0f} % of their time is outside speech here, {100 * swapped:.0f} % if swapped"
        warn(row, "words seem to be on the wrong channels", f"{shares}: check who is on which channel")


def transcribe(
    settings: AsrSettings, rows: dict[str, dict[str, Any]], recordings: dict[str, Recording], device: str
) -> None:
    """Fill the words of the rows that have none; utterances of one language go in batches, whatever their recording."""
    waiting: dict[str, list[str]] = {}
    for key in recordings if settings.model else ():
        if rows[key]["problem"] is None and (rows[key]["words"] is None or settings.replace):
            waiting.setdefault((rows[key]["language"] or "en").split("-")[0], []).append(key)
    for language, keys in waiting.items():
        recogniser = _recogniser(settings, device, language)
        said: dict[str, list[Word]] = {key: [] for key in keys}
        before = {key: rows[key]["transcript_problem"] for key in keys}  # of the corpus's own words
        for places, audio in _portions({key: rows[key] for key in keys}, recordings):
            try:
                heard = recogniser.transcribe(audio)
            except SegkitError:
                raise
            except Exception as error:  # of the model's; the memory of a GPU, for one
                for key, *_ in places:
                    rows[key] |= {"transcript_problem": FAILED, "detail": f"{type(error).__name__}: {error}"}
                continue
            for (key, channel, start_s), words in zip(places, heard, strict=True):
                said[key] += [
                    replace(w, channel=channel, start_s=start_s + w.start_s, end_s=start_s + w.end_s) for w in words
                ]
        for key in keys:
            if rows[key]["transcript_problem"] == before[key]:
                rows[key]["words"] = _in_order(said[key], rows[key]["duration_s"])
                rows[key] |= {"words_source": recogniser.source, "words_dropped": [], "transcribed_s": None}


def _portions(
    rows: dict[str, dict[str, Any]], recordings: dict[str, Recording]
) -> Iterator[tuple[list[tuple[str, int, float]], list[Samples]]]:
    """The recogniser's windows of some recordings: (recording, channel, start_s) and audio of each, some at a time."""
    places: list[tuple[str, int, float]] = []
    audio: list[Samples] = []
    for key, row in rows.items():
        with noting(row, "transcript_problem"):
            for channel, activity in enumerate(row["activity"]):
                for start_s, end_s in windows(np.array(activity).reshape(-1, 2), row["duration_s"]):
                    audio.append(recordings[key].window(start_s, end_s, ASR_HZ)[channel])
                    places.append((key, channel, start_s))
                    if sum(map(len, audio)) > HEARD_AT_ONCE_S * ASR_HZ:
                        yield places, audio
                        places, audio = [], []
    yield places, audio


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
        bleed_db=max((leak["level_db"] for leak in row.get("bleed") or () if leak), default=-np.inf),
    )
