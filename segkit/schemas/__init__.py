"""The types that travel between the rooms, and the Arrow schemas on disk. No I/O."""

from segkit.schemas.conversation import NO_INTERVALS, Conversation, Intervals, Problem, Track, Transcript, Word
from segkit.schemas.segment import SPLITS, Axis, Segment
from segkit.schemas.settings import PRESETS, Settings, VadSettings

__all__ = [
    "NO_INTERVALS",
    "PRESETS",
    "SPLITS",
    "Axis",
    "Conversation",
    "Intervals",
    "Problem",
    "Segment",
    "Settings",
    "Track",
    "Transcript",
    "VadSettings",
    "Word",
]
