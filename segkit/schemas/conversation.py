"""What a recording is: two speakers, each on a channel of their own, on one clock.

Times are float64 seconds from the start of the recording. The activity of a speaker is a sorted
array of disjoint intervals, shape (n, 2), as `[start_s, end_s]` rows.

    >>> left, right = Track(Path("call.wav"), channel=0), Track(Path("call.wav"), channel=1)
    >>> Conversation("call", "stereo", (left, right)).speakers
    ('call/0', 'call/1')
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Intervals: TypeAlias = NDArray[np.float64]
"""Sorted disjoint intervals in seconds, shape (n, 2)."""

NO_INTERVALS: Intervals = np.zeros((0, 2))


@dataclass(frozen=True, slots=True)
class Track:
    """One speaker's audio: a channel of a file, placed on the recording's clock.

    Attributes:
        path: the audio file.
        channel: index of the channel in that file.
        offset_s: where the file's first sample lies on the shared clock; negative where the file
            starts before the clock does.
        speaker: who speaks, unique within the corpus; None when unknown.
    """

    path: Path
    channel: int = 0
    offset_s: float = 0.0
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its times in the recording, said on track `channel` (0 or 1)."""

    channel: int
    text: str
    start_s: float
    end_s: float
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A two-party recording as an adapter of `segkit.corpora` finds it; no audio is read yet.

    Attributes:
        id: unique within the corpus, stable between runs (a path without suffix, a call number).
        corpus: the adapter's name.
        tracks: the two speakers; their order is the order of "channel 0" and "channel 1" everywhere.
        transcript: the file that `Corpus.words` reads, None without one.
        language: BCP 47 code, None when unknown.
        licence: SPDX identifier or name of the terms of the recording.
    """

    id: str
    corpus: str
    tracks: tuple[Track, Track]
    transcript: Path | None = None
    language: str | None = None
    licence: str = "unknown"

    @property
    def speakers(self) -> tuple[str, str]:
        """Names of the two speakers; an unknown one is nobody else's: `<recording>/<channel>`."""
        first, second = (t.speaker or f"{self.id}/{i}" for i, t in enumerate(self.tracks))
        return first, second


@dataclass(frozen=True, slots=True)
class Problem:
    """An input that was skipped: which one, under which reason it is counted, and the details."""

    source: str
    reason: str
    detail: str
