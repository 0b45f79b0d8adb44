"""One segment as a row of the dataset: audio, events, words, and how far to trust it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import segkit
from segkit.audio import Recording, encode_flac, sample_at
from segkit.extract import quality
from segkit.extract.annotate import tracks_of
from segkit.extract.job import Job
from segkit.extract.select import Pick
from segkit.extract.words import evidence_of
from segkit.schemas import Axis, Intervals, Segment
from segkit.segmenters.axes import describe
from segkit.segmenters.timeline import clip
from segkit.segmenters.trust import Evidence, measure


@dataclass(frozen=True)
class Source:
    """A recording that segments are cut from: its row of `annotations/`, its activity, and its audio when asked."""

    job: Job
    annotation: dict[str, Any]
    activity: tuple[Intervals, Intervals]

    @cached_property
    def recording(self) -> Recording:
        """The audio files."""
        return Recording(tracks_of(self.annotation, self.job.root))

    @cached_property
    def evidence(self) -> Evidence:
        """What is known beside the activity."""
        return evidence_of(self.annotation, self.activity)

    @property
    def known_from_s(self) -> float:
        """Where the activity begins to be known: with --vad transcript, where the transcript begins."""
        by_transcript = self.job.settings.vad.backend == "transcript" and self.annotation["transcribed_s"]
        return max(by_transcript[0], 0.0) if by_transcript else 0.0


def segment_row(source: Source, split: str, pick: Pick) -> dict[str, Any]:
    """A selected segment as a row of `SEGMENTS`.

    Raises:
        BadInputError: its audio cannot be read.
    """
    job, annotation, activity = source.job, source.annotation, source.activity
    user, agent = pick.user, 1 - pick.user
    segment = describe(pick.axis, user, pick.pattern, activity, job.settings)
    begin_s = max(segment.start_s - job.context_s, source.known_from_s)
    near = [clip(track, begin_s, segment.end_s) for track in activity]
    from_start = [(track - segment.start_s).tolist() for track in near]
    window = np.array([[segment.start_s, segment.end_s]])
    measured = {name: _number(value[0]) for name, value in measure(window, source.evidence).items()}
    tracks = annotation["tracks"]
    audio = _no_audio if job.annotations_only else _audio
    words = _words(annotation, user, begin_s, segment)
    return {
        "id": pick.id,
        "axis": str(pick.axis),
        "corpus": annotation["corpus"],
        "recording_id": pick.recording_id,
        "split": split,
        "language": annotation["language"],
        "licence": annotation["licence"],
        **audio(source, pick, begin_s, segment, (near[0] - begin_s, near[1] - begin_s)),
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
        "words_source": None if words is None else annotation["words_source"],
        **measured,
        "derived": annotation["derived"],
        "user_path": tracks[user]["path"],
        "agent_path": tracks[agent]["path"],
        "segkit_version": segkit.__version__,
        "settings_hash": job.settings_hash,
    }


def _audio(
    source: Source, pick: Pick, begin_s: float, segment: Segment, from_begin: tuple[Intervals, Intervals]
) -> dict[str, Any]:
    """The columns that come from the audio; `from_begin` is the activity of both from its first sample."""
    recording, user, agent = source.recording, pick.user, 1 - pick.user
    rate_hz = source.job.rate_hz or recording.rate_hz
    native = recording.window(begin_s, segment.end_s, recording.rate_hz)  # as it is: for the measurements
    audio = native if rate_hz == recording.rate_hz else recording.window(begin_s, segment.end_s, rate_hz)
    derived = source.annotation["derived"] is not None
    if derived:  # no separation: where both speak, both tracks hold both
        audio = audio * np.stack([quality.gate(track, audio.shape[1], rate_hz) for track in from_begin])
    context = sample_at(segment.start_s, rate_hz) - sample_at(begin_s, rate_hz)
    powers = quality.frame_powers(native, recording.rate_hz)
    snr_db = quality.snr_db(powers, from_begin)
    return {
        "user": {"bytes": encode_flac(audio[user], rate_hz), "path": f"{pick.id}_user.flac"},
        "agent": {"bytes": encode_flac(audio[agent], rate_hz), "path": f"{pick.id}_agent.flac"},
        "context_s": context / rate_hz,
        "duration_s": (audio.shape[1] - context) / rate_hz,
        "user_snr_db": snr_db[user],
        "agent_snr_db": snr_db[agent],
        "bleed_db": None if derived else quality.bleed_db(powers, from_begin),
        "clipped": quality.is_clipped(native),
    }


def _no_audio(source: Source, pick: Pick, begin_s: float, segment: Segment, *_: Any) -> dict[str, Any]:
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


def _words(annotation: dict[str, Any], user: int, begin_s: float, segment: Segment) -> list[dict[str, Any]] | None:
    """Words that share time with context or segment, with times from the segment's start."""
    words, (first_s, last_s) = annotation["words"], annotation["transcribed_s"] or (0.0, np.inf)
    if words is None or segment.start_s < first_s or segment.end_s > last_s:
        return None
    return [
        {
            "speaker": "user" if word["channel"] == user else "agent",
            "text": word["text"],
            "start_s": word["start_s"] - segment.start_s,
            "end_s": word["end_s"] - segment.start_s,
            "confidence": word["confidence"],
        }
        for word in words
        if word["start_s"] < segment.end_s and word["end_s"] > begin_s
    ]
