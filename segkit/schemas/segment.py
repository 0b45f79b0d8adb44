"""What a segment is: a stretch of a conversation that shows one axis of interaction."""

from dataclasses import dataclass
from enum import StrEnum

from segkit.schemas.conversation import Intervals

SPLITS = ("train", "validation", "test")


class Axis(StrEnum):
    """The four behaviours of arXiv 2606.11167; these names are used everywhere."""

    PAUSE = "pause"
    TURN_TAKING = "turn_taking"
    BACKCHANNEL = "backchannel"
    INTERRUPTION = "interruption"


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One segment, with times in seconds of the recording.

    Attributes:
        axis: the behaviour it shows.
        user: the track (0 or 1) of the user X, whom a model hears; the agent Y is the other one.
        pattern: the utterances that make the segment, in order, shape (k, 2): X (pause,
            backchannel), X Y (turn_taking), or X Y X Y (interruption).
        pauses: the user's pauses inside the pattern, shape (n, 2); None on the other axes.
        backchannels: the agent's utterances during the pattern, shape (n, 2); None on the other axes.
    """

    axis: Axis
    user: int
    pattern: Intervals
    pauses: Intervals | None = None
    backchannels: Intervals | None = None

    @property
    def start_s(self) -> float:
        """Start of the first utterance of the pattern."""
        return float(self.pattern[0, 0])

    @property
    def end_s(self) -> float:
        """End of the last utterance of the pattern."""
        return float(self.pattern[-1, 1])
