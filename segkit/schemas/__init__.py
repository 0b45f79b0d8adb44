"""The types that travel between the rooms, and the Arrow schemas on disk. No I/O."""

from segkit.schemas.conversation import NO_INTERVALS, Conversation, Intervals, Problem, Track, Transcript, Word
from segkit.schemas.segment import SPLITS, Axis, Segment

__all__ = [
    "NO_INTERVALS",
    "SPLITS",
    "Axis",
    "Conversation",
    "Intervals",
    "Problem",
    "Segment",
    "Track",
    "Transcript",
    "Word",
]
