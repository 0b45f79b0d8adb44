"""What a recording is: two speakers, each on a channel of their own, on one clock.

Times are float64 seconds from the start of the recording. The activity of a speaker is a sorted
array of disjoint intervals, shape (n, 2), as `[start_s, end_s]` rows.

    >>> left, right = Track(Path("call.wav"), channel=0), Track(Path("call.wav"), channel=1)
    >>> Conversation("call", "stereo", (left, right)).speakers
    ('call/0', 'call/1')
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Intervals: TypeAlias = NDArray[np.float64]
"""Sorted disjoint intervals in seconds, shape (n, 2)."""

NO_INTERVALS: Intervals = np.zeros((0, 2))


@dataclass(frozen=True, slots=True)
class Track:
    """One speaker's audio: a channel of a file, placed on the recording's clock.

    Attributes:
        path: the audio file; None where there is only a transcript.
        channel: index of the channel in that file.
        offset_s: where the file's first sample lies on the shared clock; negative where the file
            starts before the clock does.
        speaker: who speaks, unique within the corpus; None when unknown.
    """

    path: Path | None
    channel: int = 0
    offset_s: float = 0.0
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its times in the recording, said on track `channel` (0 or 1).

    Where nothing smaller is timed, it is a whole utterance: `Transcript.unit` says which.
    """

    channel: int
    text: str
    start_s: float
    end_s: float
    confidence: float | None = None


@dataclass(slots=True)
class Transcript:
    """Who said what, and when: what an adapter reads.

    Attributes:
        words: in any order.
        unit: what one `Word` is: "word" or "utterance".
        span_s: the transcribed part of the recording, (start_s, end_s); None: all of it.
        others: when third parties speak, in any order.
        dropped: entries without usable times or text, by reason.
        activity: when each of the two speaks, where the corpus says that beside the words; None: where the words are.
    """

    words: list[Word] = field(default_factory=list)
    unit: str = "word"
    span_s: tuple[float, float] | None = None
    others: Intervals = field(default_factory=lambda: NO_INTERVALS)
    dropped: Counter[str] = field(default_factory=Counter)
    activity: tuple[Intervals, Intervals] | None = None

    def add(self, channel: int, text: Any, start_s: Any, end_s: Any, confidence: Any = None) -> None:
        """Take in one entry as a file has it, its times numbers or text; or count why it cannot be used.

        >>> transcript = Transcript()
        >>> transcript.add(0, "hello", "0.5", "0.75")
        >>> transcript.add(1, "hi", "1.0", "")
        >>> transcript.words[0].end_s, dict(transcript.dropped)
        (0.75, {'word without times': 1})
        """
        start_s, end_s, confidence = _number(start_s), _number(end_s), _number(confidence)
        text = str(text) if type(text) is int else text  # what a table or YAML makes of "2024"
        if start_s is None or end_s is None:
            self.dropped[f"{self.unit} without times"] += 1
        elif not isinstance(text, str) or not text.strip():
            self.dropped[f"{self.unit} without text"] += 1
        elif end_s < start_s:
            self.dropped[f"{self.unit} that ends before it starts"] += 1
        else:
            self.words.append(Word(channel, text.strip(), start_s, end_s, confidence))


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A two-party recording as an adapter of `segkit.corpora` finds it; no audio is read yet.

    Attributes:
        id: unique within the corpus, stable between runs (a path without suffix, a call number).
        corpus: the adapter's name.
        tracks: the two speakers; their order is the order of "channel 0" and "channel 1" everywhere.
        transcripts: the files that `Corpus.transcript` reads; empty without any.
        language: BCP 47 code, None when unknown.
        licence: SPDX identifier or name of the terms of the recording.
        derived: how one signal becomes two tracks ("diarization", or "transcript", which says who speaks when); None
            where each speaker has a channel.
    """

    id: str
    corpus: str
    tracks: tuple[Track, Track]
    transcripts: tuple[Path, ...] = ()
    language: str | None = None
    licence: str = "unknown"
    derived: str | None = None

    @property
    def audio(self) -> list[Path]:
        """The audio files at hand, each once."""
        return list(dict.fromkeys(track.path for track in self.tracks if track.path))

    @property
    def speakers(self) -> tuple[str, str]:
        """Names of the two speakers; an unknown one has a name of its own: `<recording>/<channel>`."""
        first, second = (t.speaker or f"{self.id}/{i}" for i, t in enumerate(self.tracks))
        return first, second


@dataclass(frozen=True, slots=True)
class Problem:
    """An input that was skipped: which one, under which reason it is counted, and the details."""

    source: str
    reason: str
    detail: str
