"""Read a dataset folder without its audio, or one row with it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segkit.errors import SegkitError, UsageError, one_line
from segkit.schemas import Settings
from segkit.schemas.arrow import SCHEMA_VERSION, SEGMENTS
from segkit.schemas.settings import from_json


def read_run(out: Path) -> dict[str, Any]:
    """What `run.json` says.

    Raises:
        UsageError: the folder is no dataset folder of segkit.
    """
    try:
        run: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UsageError(f"{str(out)!r} holds no run.json. Expected a folder that `segkit extract` wrote.") from None
    return run


def settings_of(run: dict[str, Any]) -> Settings:
    """The settings that a dataset was extracted with, from its `run.json`."""
    return from_json(Settings(), run["job"]["settings"])


def has_audio(run: dict[str, Any]) -> bool:
    """Whether the segments of a dataset have audio, from its `run.json`."""
    return not run["job"].get("annotations_only") and run.get("published", {}).get("audio", True)


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


def shards(out: Path, axis: str = "*", split: str = "*") -> list[Path]:
    """The Parquet files of all segments, or of those of an axis and a split.

    Raises:
        UsageError: the folder is no dataset folder of segkit, or of another schema version.
        SegkitError: it holds no segments yet, or a damaged file.
    """
    read_run(out)
    paths = sorted(out.glob("data/*/*.parquet"))
    if not paths:
        raise SegkitError(f"{str(out)!r} holds no segments. `run.json` in it says what was dropped, and why.")
    with readable(paths[0]):
        found = (pq.read_schema(paths[0]).metadata or {}).get(b"segkit_schema_version", b"none").decode()
    if found != SCHEMA_VERSION:
        raise UsageError(
            f"{str(out)!r} has schema version {found}. This segkit reads {SCHEMA_VERSION}; extract the segments again."
        )
    return [path for path in paths if path.match(f"{axis}/{split}-*.parquet")]


def read_table(out: Path, axis: str = "*", split: str = "*") -> pa.Table:
    """Segments as `shards` selects them, every column but the audio; no rows where there are none."""
    columns = [name for name in SEGMENTS.names if name not in ("user", "agent")]
    empty = pa.schema([SEGMENTS.field(name) for name in columns]).empty_table()
    tables = [_read(path, columns=columns) for path in shards(out, axis, split)]
    return pa.concat_tables([empty, *tables], promote_options="permissive")


def read_segment(out: Path, segment_id: str) -> dict[str, Any]:
    """One segment with its audio, by its id, the beginning of it, or an axis: then the first of that axis.

    Raises:
        UsageError: no segment, or several, begin like this.
    """
    ids = {name: path for path in shards(out) for name in _read(path, columns=["id"])["id"].to_pylist()}
    of_axis = [name for name, path in ids.items() if path.parent.name == segment_id]
    matches = of_axis[:1] or [name for name in ids if name.startswith(segment_id)]
    if len(matches) != 1:
        some = ", ".join((matches or list(ids))[:4])
        raise UsageError(
            f"{len(matches)} segments have an id that begins with {segment_id!r}. Expected an axis or an id: {some} ..."
        )
    name = matches[0]
    row: dict[str, Any] = _read(ids[name], filters=[("id", "=", name)]).to_pylist()[0]
    return row


def _read(path: Path, **selection: Any) -> pa.Table:
    with readable(path):
        return pq.read_table(path, **selection)
