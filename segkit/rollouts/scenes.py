"""What a model is made to hear: segments of a dataset, staged behind its prologue, with context.

    |-- prologue: the model's own --|-- context: the user before --|-- segment: the user --|
    frame 0                                                   start_frame               frames

The user's audio alone is staged; what the agent said in the recording is not heard by the model, which
speaks for itself from frame 0 on. Everything begins on a frame of the model's codec, so the times of a
segment and those of a completion differ by whole frames.

    >>> row = {"context_s": 4.0, "duration_s": 2.5}
    >>> silence = np.zeros(38 * 1920, np.float32)
    >>> scene = stage(row, np.zeros(156000, np.float32), context_s=1.0, prologue=silence, frame=1920, rate_hz=24000)
    >>> scene.start_frame, scene.frames, scene.context_s  # 38 + 12, then 31.25 frames
    (50, 82, 0.96)
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from segkit.audio import Samples, sample_at
from segkit.dataset.dataset import Dataset
from segkit.dataset.rows import Row
from segkit.errors import UsageError
from segkit.models.protocols import Speaker
from segkit.schemas import Axis


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One segment as a model hears it.

    Attributes:
        segment: its row.
        audio: of the user, (frames * samples per frame,).
        start_frame: the first frame of the segment.
        frames: of all.
        context_s: length of the context in front of the segment.
        repeat: how often the segment was drawn before in the same step.
    """

    segment: Row
    audio: Samples
    start_frame: int
    frames: int
    context_s: float
    repeat: int = 0

    @property
    def axis(self) -> Axis:
        """What it is about."""
        return Axis(self.segment["axis"])


def stage(
    row: Row, user: Samples, context_s: float, prologue: Samples, frame: int, rate_hz: int, repeat: int = 0
) -> Scene:
    """Put prologue, context and segment together.

    Args:
        row: the segment.
        user: the user's audio of the row, its whole context and the segment, (samples,).
        context_s: how much of the context to use, rounded down to frames.
        prologue: what is heard before, (samples,), whole frames.
        frame: samples per frame.
        rate_hz: of the audio.
        repeat: how often the segment was drawn before.
    """
    before = sample_at(row["context_s"], rate_hz)
    opening = len(prologue) // frame
    context = min(sample_at(context_s, rate_hz), before) // frame
    heard = user[before - context * frame :]
    frames = opening + math.ceil(len(heard) / frame)
    audio = np.zeros(frames * frame, np.float32)
    audio[: len(prologue)] = prologue
    audio[len(prologue) :][: len(heard)] = heard
    return Scene(row, audio, opening + context, frames, context * frame / rate_hz, repeat)


class Segments:
    """The segments of one split by axis; their audio is read when it is needed.

    Args:
        dataset: with audio.
        split: a split, or "*" for all.
        axes: which axes.
        max_segment_s: longer segments are left out.
        required: whether each of the axes must have segments.

    Raises:
        UsageError: the dataset has no audio, or an axis has no segments although it must have some.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        axes: Sequence[Axis],
        max_segment_s: float = math.inf,
        required: bool = False,
    ) -> None:
        if not dataset.has_audio:
            hint = "extracted without --annotations-only, or rebuilt with `segkit hydrate`"
            raise UsageError(f"{str(dataset.path)!r} has no audio. Expected segments {hint}.")
        dataset.expect_segments()
        self.dataset = dataset
        self.too_long = 0
        self.tables: dict[Axis, pa.Table] = {}  # without audio; Python objects for all words would take gigabytes
        for axis in axes:
            table = dataset.table(axis, split)
            fitting = table.filter(pc.field("duration_s") <= max_segment_s)
            self.too_long += len(table) - len(fitting)
            if required and not len(fitting):
                raise UsageError(_missing(dataset, axis, split, len(table), max_segment_s))
            if len(fitting):
                self.tables[axis] = fitting

    def row(self, axis: Axis, i: int) -> Row:
        """A segment, without its audio."""
        row: Row = self.tables[axis].slice(i, 1).to_pylist()[0]
        return row

    def longest_s(self) -> float:
        """Length of the longest segment; 0 without any."""
        return max((pc.max(table["duration_s"]).as_py() for table in self.tables.values()), default=0.0)

    def first(self, per_axis: int) -> list[tuple[Row, float]]:
        """The same few segments every time, without context: for evaluation. A file has them in the order of hashes."""
        return [
            (self.row(axis, i), 0.0) for axis, table in self.tables.items() for i in range(min(per_axis, len(table)))
        ]

    def scenes(self, chosen: Iterable[tuple[Row, float]], speaker: Speaker) -> list[Scene]:
        """Scenes of some segments, each with a length of context in seconds, as a model hears them."""
        rate_hz, frame, prologue = speaker.rate_hz, speaker.frame_samples, speaker.prologue.heard
        scenes, seen = [], Counter[str]()
        for row, context_s in chosen:
            user = self.dataset.audio(row["id"], "user", rate_hz)
            scenes.append(stage(row, user, context_s, prologue, frame, rate_hz, seen[row["id"]]))
            seen[row["id"]] += 1
        return scenes


def _missing(dataset: Dataset, axis: Axis, split: str, too_long: int, max_segment_s: float) -> str:
    if too_long:
        return (
            f"All {too_long} segments of {axis} in {str(dataset.path)!r} are longer than max_segment_s "
            f"({max_segment_s:g} s). Raise it, or leave the axis out with --set axes=..."
        )
    found = ", ".join(f"{name} {each.splits.get(split, 0)}" for name, each in dataset.record.segments.items())
    return (
        f"{str(dataset.path)!r} has no segments of {axis} in its {split} split (it has: {found}). Extract some, or "
        "leave the axis out with --set axes=..."
    )
