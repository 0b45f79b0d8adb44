"""Which segments can be trusted: do words and speech agree, does somebody else speak?

What is known beside the activity of the two speakers is the `Evidence`; `measure` turns it into one number per
segment, and `screen` compares these with the thresholds of `TrustCriteria`. Times are seconds of the recording.

    >>> speech, words = np.array([[0.0, 2.0]]), np.array([[0.0, 0.5], [1.0, 1.5]])
    >>> evidence = Evidence((speech, NO_INTERVALS), (words, NO_INTERVALS))
    >>> measure(np.array([[0.0, 4.0]]), evidence)["speech_without_words"].tolist()
    [0.5]
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkit.schemas import NO_INTERVALS, Axis, Intervals
from segkit.segmenters.axes import Found
from segkit.segmenters.timeline import common, covered_s, durations, seconds
from segkit.settings import TrustCriteria

REASONS = {
    "third_party_s": "somebody else speaks",
    "speech_without_words": "speech without words",
    "words_without_speech": "words without speech",
}


class Evidence(NamedTuple):
    """What is known of a recording.

    Attributes:
        activity: speech of tracks 0 and 1, each (n, 2).
        words: when their words are said, each sorted and disjoint; None without a transcript.
        others: speech of third parties.
        transcribed_s: the part of the recording that has words.
        one_signal: whether both tracks are one recording that diarization divided.
        bleed_db: the louder of the levels at which the tracks hold each other's voice.
    """

    activity: tuple[Intervals, Intervals]
    words: tuple[Intervals, Intervals] | None = None
    others: Intervals = NO_INTERVALS
    transcribed_s: tuple[float, float] = (-np.inf, np.inf)
    one_signal: bool = False
    bleed_db: float = -np.inf


def measure(windows: Intervals, evidence: Evidence) -> dict[str, NDArray[np.float64]]:
    """The columns `overlap_share`, `third_party_s` and, with words, the two shares, for segments (n, 2); each (n,).

    The shares are of both speakers' time together; NaN where the transcript does not cover the segment.
    """
    first, second = evidence.activity
    found = {
        "overlap_share": seconds(covered_s(common(first, second), windows) / durations(windows)),
        "third_party_s": seconds(covered_s(evidence.others, windows)),
    }
    if evidence.words is None:
        return found
    speech_s = sum(covered_s(track, windows) for track in evidence.activity)
    words_s = sum(covered_s(track, windows) for track in evidence.words)
    both = zip(evidence.activity, evidence.words, strict=True)
    agreed_s = sum(covered_s(common(speech, words), windows) for speech, words in both)
    start_s, end_s = evidence.transcribed_s
    inside = (windows[:, 0] >= start_s) & (windows[:, 1] <= end_s)
    for name, whole_s in (("speech_without_words", speech_s), ("words_without_speech", words_s)):
        missing = 1 - np.divide(agreed_s, whole_s, out=np.ones(len(windows)), where=np.greater(whole_s, 0))
        found[name] = np.where(inside, missing.clip(0, 1).round(6), np.nan)
    return found


def screen(found: Found, axis: Axis, evidence: Evidence, criteria: TrustCriteria) -> Found:
    """The same candidates with a condition more for each threshold; what cannot be measured passes.

    Overlap in one signal is what diarization knows least of, and both tracks hold both voices there: backchannels,
    interruptions, and turns that begin before the other has ended are left out.
    """
    windows = np.stack([found.candidates[:, 0, 0], found.candidates[:, -1, 1]], axis=1)
    measured = measure(windows, evidence)
    conditions = {
        reason: ~(measured[name] > getattr(criteria, f"max_{name}"))
        for name, reason in REASONS.items()
        if name in measured
    }
    conditions["crosstalk"] = np.full(len(windows), evidence.bleed_db <= criteria.max_bleed_db)
    if evidence.one_signal and not criteria.overlap_in_one_signal:
        apart = measured["overlap_share"] == 0
        conditions["overlap in one signal"] = apart & (axis in (Axis.PAUSE, Axis.TURN_TAKING))
    return Found(found.candidates, found.passes | conditions)
