"""A dataset as an object: what is in it, its tables, single segments with their audio, statistics, terms.

>>> dataset = Dataset("segments")  # doctest: +SKIP
>>> dataset.to_pandas("turn_taking", "train").gap_s.median()  # doctest: +SKIP
0.21
>>> segment = dataset.segment("turn_taking")  # doctest: +SKIP
>>> segment["gap_s"], segment.user.shape, segment.rate_hz  # doctest: +SKIP
(0.144, (861120,), 24000)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from segkit.audio import Samples, decode_flac, decode_flac_at
from segkit.dataset.folder import Folder
from segkit.dataset.record import Record
from segkit.dataset.rows import Places, columns_but_audio, expect_version, in_batches, read
from segkit.dataset.statistics import Statistics, statistics
from segkit.dataset.terms import Terms, terms_in
from segkit.errors import SegkitError, UsageError
from segkit.schemas import SPLITS, Axis
from segkit.schemas.arrow import ANNOTATIONS, SEGMENTS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class SegmentRow(Mapping[str, Any]):
    """A segment: the columns of `segkit.schemas.arrow.SEGMENTS` as a mapping, and its two tracks as arrays."""

    columns: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    @cached_property
    def rate_hz(self) -> int:
        """Of the audio."""
        return decode_flac(self._file("user"))[1]

    @property
    def user(self) -> Samples:
        """The user's track, (samples,) float32 in [-1, 1]: the context, then the segment."""
        return decode_flac(self._file("user"))[0]

    @property
    def agent(self) -> Samples:
        """The agent's track, as long as the user's."""
        return decode_flac(self._file("agent"))[0]

    @property
    def context_samples(self) -> int:
        """How many samples of both tracks come before the segment."""
        return round(self["context_s"] * self.rate_hz)

    def _file(self, role: str) -> bytes:
        cell = self.columns[role]
        if cell is None:
            raise SegkitError(f"Segment {self['id']} has no audio of the {role}: it is of a dataset without.")
        data: bytes = cell["bytes"]
        return data

    def __repr__(self) -> str:
        return (
            f"<{self['axis']} {self['id']}: {self['duration_s']:.2f} s of {self['corpus']}/{self['recording_id']} from "
            f"{self['start_s']:.2f} s, {self['split']}>"
        )


class Dataset:
    """A dataset folder that `segkit extract`, `hydrate` or `merge` wrote. Nothing but its record is read at first.

    Args:
        path: the folder.

    Raises:
        UsageError: it is not a dataset folder of segkit, or of another schema version, or its run is not finished.
        SegkitError: a file is damaged.

    Attributes:
        record: what `run.json` says.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.folder = Folder(Path(path))
        self.record: Record = self.folder.finished()
        for path in self.folder.shards()[:1]:
            expect_version(path)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def axes(self) -> list[Axis]:
        """The axes that it has segments of."""
        return [axis for axis in Axis if self.folder.shards(axis)]

    @property
    def splits(self) -> list[str]:
        """The splits that it has segments in."""
        return [split for split in SPLITS if self.folder.shards(split=split)]

    @cached_property
    def has_audio(self) -> bool:
        """Whether the segments have audio."""
        return self.record.has_audio

    def expect_segments(self) -> None:
        """Raise `SegkitError` if it has no segments, which can happen with strict thresholds."""
        if not self.folder.shards():
            raise SegkitError(f"{str(self.path)!r} has no segments. Its run.json says what was dropped, and why.")

    def table(self, axis: str = "*", split: str = "*") -> pa.Table:
        """All segments, or those of an axis and a split, in the order of the files; every column but the audio."""
        columns = columns_but_audio()
        empty = pa.schema([SEGMENTS.field(name) for name in columns]).empty_table()
        tables = [read(path, columns) for path in self.folder.shards(axis, split)]
        return pa.concat_tables([empty, *tables], promote_options="permissive")

    def to_pandas(self, axis: str = "*", split: str = "*") -> "pd.DataFrame":
        """The same as a data frame."""
        frame: pd.DataFrame = self.table(axis, split).to_pandas()
        return frame

    def annotations(self) -> pa.Table:
        """One row per recording: `segkit.schemas.arrow.ANNOTATIONS`."""
        return pa.concat_tables(
            [ANNOTATIONS.empty_table(), *map(read, self.folder.parts())], promote_options="permissive"
        )

    @cached_property
    def _places(self) -> Places:
        return Places(self.folder.shards())

    def segment(self, name: str) -> SegmentRow:
        """One segment with its audio, by its id, the beginning of it, or an axis: then the first of that axis.

        Raises:
            UsageError: no segment, or several, begin like this.
            SegkitError: there are no segments at all.
        """
        self.expect_segments()
        ids = list(self._places)
        of_axis = [each for each in ids if self._places.path(each).parent.name == name]
        matches = of_axis[:1] or [each for each in ids if each.startswith(name)]
        if len(matches) != 1:
            some = ", ".join((matches or ids)[:4])
            raise UsageError(
                f"{len(matches)} segments have an id that begins with {name!r}. Expected an axis or an id: {some} ..."
            )
        return SegmentRow(self._places.row(matches[0]))

    def audio(self, segment_id: str, role: str, rate_hz: int) -> Samples:
        """A track of a segment at a rate, (samples,): only its row group of one column is read.

        Args:
            segment_id: the whole id.
            role: "user" or "agent".
            rate_hz: of the samples, whatever the dataset has.
        """
        return decode_flac_at(self._places.row(segment_id, [role])[role]["bytes"], rate_hz)

    def __iter__(self) -> Iterator[SegmentRow]:
        """All segments with their audio, in the order of the files, one row group in memory at a time."""
        for path in self.folder.shards():
            for rows in in_batches(path, rows=1):
                yield from map(SegmentRow, rows)

    def __len__(self) -> int:
        """How many segments there are."""
        return sum(counts.kept for counts in self.record.segments.values())

    def statistics(self) -> list[Statistics]:
        """Counts, hours and distributions, by corpus and axis."""
        self.expect_segments()
        rows = self.table().drop_columns(["words"]).to_pylist()  # as Python objects, all words would take gigabytes
        return statistics(rows, self.record.settings.timeline)

    def terms(self) -> dict[Terms, int]:
        """Licences, and whom to cite, with the number of segments under each."""
        return terms_in(self.folder)

    def __repr__(self) -> str:
        return "\n".join([self._title, *(f"  {axis}: {text}" for axis, text in self._counts().items())])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows = "".join(
            f"<tr><th>{escape(axis)}</th><td>{escape(text)}</td></tr>" for axis, text in self._counts().items()
        )
        return f"<p>{escape(self._title)}</p><table>{rows}</table>"

    @property
    def _title(self) -> str:
        audio = "audio" if self.has_audio else "no audio"
        return (
            f"Dataset {str(self.path)!r}: {len(self):,} segments of {self.record.job.corpus}, "
            f"{self.record.recordings.used:,} recordings, {self.record.recordings.hours:.2f} h, {audio}"
        )

    def _counts(self) -> dict[str, str]:
        return {
            axis: f"{counts.kept:,} ({', '.join(f'{split} {n:,}' for split, n in counts.splits.items())})"
            for axis, counts in self.record.segments.items()
            if counts.kept
        }
