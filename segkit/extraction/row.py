"""One segment as a row of the dataset: audio, events, words, and how far to trust it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import segkit
from segkit.audio import Recording, Samples, encode_flac, sample_at, samples_hash
from segkit.extraction import quality
from segkit.extraction.annotate import tracks_of
from segkit.extraction.job import Job
from segkit.extraction.select import Pick
from segkit.extraction.words import evidence_of
from segkit.schemas import Axis, Intervals, Segment
from segkit.segmenters.axes import describe
from segkit.segmenters.timeline import clip
from segkit.segmenters.trust import Evidence, measure
from segkit.settings import fingerprint


@dataclass(frozen=True)
class Source:
    """A recording that segments are cut from: its row of `annotations/`, its activity, and its audio when asked."""

    job: Job
    annotation: dict[str, Any]
    activity: tuple[Intervals, Intervals]

    @cached_property
    def recording(self) -> Recording:
        """The audio files."""
        return Recording(tracks_of(self.annotation, self.job.root), self.job.settings.audio)

    @cached_property
    def evidence(self) -> Evidence:
        """What is known beside the activity."""
        return evidence_of(self.annotation, self.activity)

    def begin_s(self, start_s: float) -> float:
        """Where the context of a segment begins; with --vad transcript, nothing is known before the transcript."""
        by_transcript = self.job.settings.vad.backend == "transcript" and self.annotation["transcribed_s"]
        return max(start_s - self.job.settings.context_s, by_transcript[0] if by_transcript else 0.0, 0.0)

    def near(self, begin_s: float, end_s: float) -> tuple[Intervals, Intervals]:
        """The activity of both tracks between two times."""
        first, second = (clip(track, begin_s, end_s) for track in self.activity)
        return first, second

    def cut(self, begin_s: float, end_s: float, rate_hz: int) -> Samples:
        """The audio of both tracks between two times, (2, samples), as a dataset has it.

        Of one signal that diarization divided, each track has what its speaker says; where both speak, both have both.
        """
        audio = self.recording.window(begin_s, end_s, rate_hz)
        if self.annotation["derived"] is not None:
            near = (track - begin_s for track in self.near(begin_s, end_s))
            audio = audio * np.stack([quality.gate(track, audio.shape[1], rate_hz) for track in near])
        return audio


def segment_row(source: Source, split: str, pick: Pick) -> dict[str, Any]:
    """A selected segment as a row of `SEGMENTS`.

    Raises:
        BadInputError: its audio cannot be read.
    """
    job, annotation, activity = source.job, source.annotation, source.activity
    user, agent = pick.user, 1 - pick.user
    segment = describe(pick.axis, user, pick.pattern, activity, job.settings)
    begin_s = source.begin_s(segment.start_s)
    from_start = [(track - segment.start_s).tolist() for track in source.near(begin_s, segment.end_s)]
    window = np.array([[segment.start_s, segment.end_s]])
    measured = {name: _number(value[0]) for name, value in measure(window, source.evidence).items()}
    tracks = annotation["tracks"]
    audio = _no_audio if job.settings.annotations_only else _audio
    words = words_near(annotation, user, begin_s, segment.start_s, segment.end_s)
    return {
        "id": pick.id,
        "axis": str(pick.axis),
        "corpus": annotation["corpus"],
        "recording_id": pick.recording_id,
        "split": split,
        "language": annotation["language"],
        "licence": annotation["licence"],
        **audio(source, pick, begin_s, segment),
        "start_s": segment.start_s,
        "end_s": segment.end_s,
        "user_speaker": tracks[user]["speaker"],
        "agent_speaker": tracks[agent]["speaker"],
        "user_channel": user,
        "agent_channel": agent,
        "user_activity": from_start[user],
        "agent_activity": from_start[agent],
        **_events(segment),
        "words": words,
        "words_hash": words_hash(words),
        "words_source": None if words is None else annotation["words_source"],
        **measured,
        "derived": annotation["derived"],
        "user_path": tracks[user]["path"],
        "agent_path": tracks[agent]["path"],
        "segkit_version": segkit.__version__,
        "settings_hash": job.settings_hash,
    }


def cells(audio: Samples, user: int, segment_id: str, rate_hz: int) -> dict[str, Any]:
    """The audio columns of a segment, and what identifies them, from both tracks, (2, samples)."""
    roles = {"user": audio[user], "agent": audio[1 - user]}
    files = {role: {"bytes": encode_flac(a, rate_hz), "path": f"{segment_id}_{role}.flac"} for role, a in roles.items()}
    return files | {f"{role}_hash": samples_hash(track) for role, track in roles.items()}


def _audio(source: Source, pick: Pick, begin_s: float, segment: Segment) -> dict[str, Any]:
    """The columns that come from the audio."""
    recording, user, agent = source.recording, pick.user, 1 - pick.user
    rate_hz = source.job.settings.rate_hz or recording.rate_hz
    audio = source.cut(begin_s, segment.end_s, rate_hz)
    derived = source.annotation["derived"] is not None
    context = sample_at(segment.start_s, rate_hz) - sample_at(begin_s, rate_hz)
    same = rate_hz == recording.rate_hz and not derived
    native = audio if same else recording.window(begin_s, segment.end_s, recording.rate_hz)  # to be measured as it is
    powers = quality.frame_powers(native, recording.rate_hz)
    first, second = (track - begin_s for track in source.near(begin_s, segment.end_s))
    from_begin = first, second
    snr_db = quality.snr_db(powers, from_begin)
    return cells(audio, user, pick.id, rate_hz) | {
        "context_s": context / rate_hz,
        "duration_s": (audio.shape[1] - context) / rate_hz,
        "user_snr_db": snr_db[user],
        "agent_snr_db": snr_db[agent],
        "bleed_db": None if derived else quality.bleed_db(powers, from_begin),
        "clipped": quality.is_clipped(native),
    }


def _no_audio(source: Source, pick: Pick, begin_s: float, segment: Segment) -> dict[str, Any]:
    return {"context_s": segment.start_s - begin_s, "duration_s": segment.end_s - segment.start_s}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _events(segment: Segment) -> dict[str, Any]:
    """The columns of the segment's axis, in seconds from its start; null for the other axes."""
    events: dict[str, Any] = dict.fromkeys(
        ["pauses", "turn_end_s", "gap_s", "backchannels", "interruption_start_s", "interruption_end_s"]
    )
    pattern = segment.pattern - segment.start_s
    match segment.axis:
        case Axis.PAUSE:
            events["pauses"] = _from(segment.start_s, segment.pauses)
        case Axis.TURN_TAKING:
            events |= {"turn_end_s": float(pattern[0, 1]), "gap_s": float(pattern[1, 0] - pattern[0, 1])}
        case Axis.BACKCHANNEL:
            events["backchannels"] = _from(segment.start_s, segment.backchannels)
        case Axis.INTERRUPTION:
            events["interruption_start_s"], events["interruption_end_s"] = pattern[2].tolist()
    return events


def _from(start_s: float, found: Intervals | None) -> list[list[float]] | None:
    return None if found is None else np.subtract(found, start_s).tolist()


def words_hash(words: list[dict[str, Any]] | None) -> str | None:
    """What identifies the words of a row."""
    return None if words is None else fingerprint(words)


def words_near(
    annotation: dict[str, Any], user: int, begin_s: float, start_s: float, end_s: float
) -> list[dict[str, Any]] | None:
    """Words that share time with context or segment, with times from the segment's start."""
    words, (first_s, last_s) = annotation["words"], annotation["transcribed_s"] or (0.0, np.inf)
    if words is None or start_s < first_s or end_s > last_s:
        return None
    return [
        {
            "speaker": "user" if word["channel"] == user else "agent",
            "text": word["text"],
            "start_s": word["start_s"] - start_s,
            "end_s": word["end_s"] - start_s,
            "confidence": word["confidence"],
        }
        for word in words
        if word["start_s"] < end_s and word["end_s"] > begin_s
    ]
