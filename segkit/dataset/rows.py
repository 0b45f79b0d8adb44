"""The rows of a dataset's Parquet files: written in row groups that are cheap to read one clip from, read in parts."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segkit.errors import SegkitError, UsageError, one_line
from segkit.schemas import Intervals
from segkit.schemas.arrow import ANNOTATIONS, SCHEMA_VERSION, SEGMENTS
from segkit.storage import whole

ROW_GROUP_BYTES = 2_000_000
"""Of one track. Whoever wants one clip reads a row group of one track: at most 2 MiB, or one clip that is larger."""

ROW_BYTES = 1 << 10
"""Of a row without its audio, about."""

ROLES = ("user", "agent")
"""The columns with audio."""

Row = dict[str, Any]
"""A row of `SEGMENTS` or `ANNOTATIONS` as plain values."""


def columns_but_audio() -> list[str]:
    """The columns of a segment that are cheap to read."""
    return [name for name in SEGMENTS.names if name not in ROLES]


@cache
def segment_schema() -> pa.Schema:
    """The schema of segments as `datasets.Features` writes it, so that `user` and `agent` load as Audio."""
    from datasets import Audio, Features

    features = Features.from_arrow_schema(SEGMENTS)
    schema = Features(features | dict.fromkeys(ROLES, Audio())).arrow_schema
    fields = [field.with_metadata(SEGMENTS.field(field.name).metadata) for field in schema]
    return pa.schema(fields, metadata=(schema.metadata or {}) | SEGMENTS.metadata)


@contextmanager
def _writing(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    with whole(path) as draft, pq.ParquetWriter(draft, schema, compression="zstd", write_page_index=True) as writer:
        yield writer


def write_segments(path: Path, rows: Iterable[Row], notes: dict[bytes, Any] | None = None) -> None:
    """Write segments to a Parquet file, whole or not at all.

    Args:
        path: the file.
        rows: some at a time are in memory, if it is an iterator.
        notes: JSON that goes into the file's metadata, once all rows are written.
    """
    schema = segment_schema()
    group: list[Row] = []
    filled = Counter[str]()
    with _writing(path, schema) as writer:
        for row in rows:
            sizes = {role: ROW_BYTES + len(cell["bytes"] if (cell := row.get(role)) else b"") for role in ROLES}
            if group and any(filled[role] + size > ROW_GROUP_BYTES for role, size in sizes.items()):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                group = []
                filled.clear()
            group.append(row)
            filled.update(sizes)
        writer.write_table(pa.Table.from_pylist(group, schema=schema))
        writer.add_key_value_metadata({key: json.dumps(value) for key, value in (notes or {}).items()})


def write_annotations(path: Path, table: pa.Table) -> None:
    """Write annotations to a Parquet file, whole or not at all."""
    with _writing(path, ANNOTATIONS) as writer:
        writer.write_table(table)


def note(path: Path, key: bytes) -> dict[str, Any]:
    """What `write_segments` noted; empty where there is no such file, or it is not whole."""
    try:
        found: dict[str, Any] = json.loads((pq.read_metadata(path).metadata or {}).get(key, b"{}"))
    except (OSError, ValueError, pa.ArrowInvalid):
        return {}
    return found


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What reads a Parquet file inside of this says which, should it be damaged.

    Raises:
        SegkitError: it cannot be read.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise SegkitError(
            f"{str(path)!r} cannot be read as Parquet: {one_line(error)}. Delete it, and start the command that wrote "
            "the dataset again."
        ) from error


def expect_version(path: Path) -> None:
    """Refuse a file of another schema version.

    Raises:
        UsageError: it is of another one.
        SegkitError: it is damaged.
    """
    with readable(path):
        found = (pq.read_schema(path).metadata or {}).get(b"segkit_schema_version", b"none").decode()
    if found != SCHEMA_VERSION:
        raise UsageError(
            f"{str(path)!r} has schema version {found}. This segkit reads {SCHEMA_VERSION}; extract the segments again."
        )


def read(path: Path, columns: Sequence[str] | None = None, **selection: Any) -> pa.Table:
    """A file, or some columns and rows of it.

    Raises:
        SegkitError: it is damaged.
    """
    with readable(path):
        return pq.read_table(path, columns=columns, **selection)


def in_batches(path: Path, columns: Sequence[str] | None = None, rows: int = 64) -> Iterator[list[Row]]:
    """The rows of a file, some at a time.

    Raises:
        SegkitError: it is damaged.
    """
    with readable(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(rows, columns=columns):
            yield batch.to_pylist()


class Places:
    """Where each segment of some files lies, so that one is read without the others."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._metadata: dict[Path, pq.FileMetaData] = {}
        self._places: dict[str, tuple[Path, int, int]] = {}
        for path in paths:
            with readable(path), pq.ParquetFile(path) as file:
                self._metadata[path] = file.metadata
                ids = iter(file.read(columns=["id"])["id"].to_pylist())
                for group in range(file.num_row_groups):
                    for i in range(file.metadata.row_group(group).num_rows):
                        self._places[next(ids)] = path, group, i

    def __iter__(self) -> Iterator[str]:
        """The ids, in the order of the files."""
        return iter(self._places)

    def path(self, segment_id: str) -> Path:
        """The file that a segment is in."""
        return self._places[segment_id][0]

    def row(self, segment_id: str, columns: Sequence[str] | None = None) -> Row:
        """A segment, or some columns of it: its row group is read, and no other.

        Raises:
            SegkitError: the file is damaged.
        """
        path, group, i = self._places[segment_id]
        with readable(path), pq.ParquetFile(path, metadata=self._metadata[path]) as file:
            found: Row = file.read_row_group(group, columns=columns).slice(i, 1).to_pylist()[0]
        return found


def activity_of(cell: pa.ListScalar) -> tuple[Intervals, Intervals]:
    """A value of the column `activity` as arrays, without a Python object per time."""
    first, second = (track.values.flatten().to_numpy().reshape(-1, 2) for track in cell)
    return first, second
