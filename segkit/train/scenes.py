"""What the policy is made to hear: segments of a dataset, staged with opening silence and context.

    |-- opening: silence --|-- context: the user before --|-- segment: the user --|
    frame 0                                          start_frame               frames

The user's audio alone is staged; what the agent said in the recording is not heard by the policy, which
speaks for itself from frame 0 on. Everything begins on a frame of the model's codec, so the times of a
segment and those of a completion differ by whole frames.

    >>> row = {"context_s": 4.0, "duration_s": 2.5}
    >>> scene = stage(row, np.zeros(156000, np.float32), context_s=1.0, opening_s=3.0, frame=1920, rate_hz=24000)
    >>> scene.start_frame, scene.frames, scene.context_s  # 38 + 12, then 31.25 frames
    (50, 82, 0.96)
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segkit.audio import Samples, decode_flac_at, sample_at
from segkit.dataset import has_audio, read_run, read_table, shards
from segkit.errors import UsageError
from segkit.schemas import Axis
from segkit.train.config import AlignConfig

Row = dict[str, Any]
"""A row of `segkit.schemas.arrow.SEGMENTS` without its audio."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One segment as the policy hears it.

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
    row: Row, user: Samples, context_s: float, opening_s: float, frame: int, rate_hz: int, repeat: int = 0
) -> Scene:
    """Put opening, context and segment together.

    Args:
        row: the segment.
        user: the user's audio of the row, its whole context and the segment, (samples,).
        context_s: how much of the context to use, rounded down to frames.
        opening_s: silence in front, rounded up to frames.
        frame: samples per frame.
        rate_hz: of the audio.
        repeat: how often the segment was drawn before.
    """
    before = sample_at(row["context_s"], rate_hz)
    opening = math.ceil(sample_at(opening_s, rate_hz) / frame)
    context = min(sample_at(context_s, rate_hz), before) // frame
    heard = user[before - context * frame :]
    frames = opening + math.ceil(len(heard) / frame)
    audio = np.zeros(frames * frame, np.float32)
    audio[opening * frame :][: len(heard)] = heard
    return Scene(row, audio, opening + context, frames, context * frame / rate_hz, repeat)


class Segments:
    """The segments of one split by axis; their audio is read when it is needed.

    Raises:
        UsageError: the folder is no dataset of this version, or an axis has no segments in a split that must
            have some.
    """

    def __init__(self, dataset: Path, split: str, config: AlignConfig, rate_hz: int, required: bool) -> None:
        self.rate_hz = rate_hz
        self.tables: dict[Axis, pa.Table] = {}  # without audio; Python objects for all words would take gigabytes
        if not has_audio(read_run(dataset)):
            hint = "extracted without --annotations-only, or rebuilt with `segkit hydrate`"
            raise UsageError(f"{str(dataset)!r} has no audio. Expected segments {hint}.")
        self.too_long = 0
        self._shards: dict[Axis, list[Path]] = {}
        for axis in config.parsed_axes():
            table = read_table(dataset, axis, split)
            fitting = table.filter(pc.field("duration_s") <= config.max_segment_s)
            self.too_long += len(table) - len(fitting)
            if required and not len(fitting):
                raise UsageError(_missing(dataset, axis, split, len(table), config))
            if len(fitting):
                self.tables[axis] = fitting
                self._shards[axis] = shards(dataset, axis, split)

    def row(self, axis: Axis, i: int) -> Row:
        """A segment, without its audio."""
        row: Row = self.tables[axis].slice(i, 1).to_pylist()[0]
        return row

    def audio(self, row: Row) -> Samples:
        """The user's audio of a row, at the policy's rate: context and segment, (samples,)."""
        table = pq.read_table(self._shards[row["axis"]], columns=["user"], filters=[("id", "=", row["id"])])
        return decode_flac_at(table["user"][0].as_py()["bytes"], self.rate_hz)

    def longest_s(self) -> float:
        """Length of the longest segment; 0 without any."""
        return max((pc.max(table["duration_s"]).as_py() for table in self.tables.values()), default=0.0)

    def draw(self, config: AlignConfig, step: int) -> list[tuple[Row, float]]:
        """The segments of a step with the lengths of their contexts in seconds.

        An axis is drawn for each, then a segment of it; with a probability, it gets context of a length up
        to a limit that grows linearly from 0 at the first step to its maximum at the last (4.3).
        """
        rng = np.random.default_rng([config.seed, step])
        limit_s = config.context.max_s * step / max(config.steps - 1, 1)
        drawn = []
        for _ in range(config.groups):
            axis = list(self.tables)[rng.integers(len(self.tables))]
            row = self.row(axis, int(rng.integers(len(self.tables[axis]))))
            wanted, length_s = rng.random() < config.context.probability, rng.uniform(0, limit_s)
            drawn.append((row, length_s if wanted else 0.0))
        return drawn

    def first(self, per_axis: int) -> list[tuple[Row, float]]:
        """The same few segments every time, without context: for evaluation. A file has them in the order of hashes."""
        return [
            (self.row(axis, i), 0.0) for axis, table in self.tables.items() for i in range(min(per_axis, len(table)))
        ]

    def stage(self, drawn: Iterable[tuple[Row, float]], config: AlignConfig, frame: int) -> list[Scene]:
        """Scenes of some segments."""
        scenes, seen = [], Counter[str]()
        for row, context_s in drawn:
            opening_s, repeat = config.sampling.opening_s, seen[row["id"]]
            scenes.append(stage(row, self.audio(row), context_s, opening_s, frame, self.rate_hz, repeat))
            seen[row["id"]] += 1
        return scenes


def _missing(dataset: Path, axis: Axis, split: str, too_long: int, config: AlignConfig) -> str:
    if too_long:
        return (
            f"All {too_long} segments of {axis} in {str(dataset)!r} are longer than max_segment_s "
            f"({config.max_segment_s:g} s). Raise it, or leave the axis out with --set axes=..."
        )
    counts = read_run(dataset).get("segments", {})
    found = ", ".join(f"{name} {each['splits'].get(split, 0)}" for name, each in counts.items())
    return (
        f"{str(dataset)!r} has no segments of {axis} in its {split} split (it has: {found}). Extract some, or leave "
        "the axis out with --set axes=..."
    )
