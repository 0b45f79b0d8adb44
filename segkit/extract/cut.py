"""Third stage: the selected segments are cut from the source and written, one shard per task.

A shard's content is planned before it is cut, from the segments alone, so shards are the same for
every number of workers; a finished one carries the hash of its plan and is not cut again.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import segkit
from segkit.errors import BadInputError
from segkit.extract.annotate import activity_of
from segkit.extract.job import Job
from segkit.extract.row import Source, segment_row
from segkit.extract.select import Pick
from segkit.schemas import SPLITS, Axis
from segkit.schemas.arrow import SCHEMA_VERSION, SEGMENTS
from segkit.schemas.settings import fingerprint

SHARD_BYTES = 500 << 20
ROW_GROUP_BYTES = 100 << 20
PLAN_KEY = b"segkit_shard"


@dataclass(frozen=True, slots=True)
class Shard:
    """One Parquet file to be: where it goes, its segments, and a hash of all that decides its content."""

    path: Path
    split: str
    picks: list[Pick]
    plan: str


def plan_shards(job: Job, axis: Axis, picks: list[Pick], split_of: dict[str, str]) -> list[Shard]:
    """The segments of an axis in shards of one split and at most 500 MB, in the order of their ids."""
    groups: dict[str, list[list[Pick]]] = {split: [] for split in SPLITS}
    filled = dict.fromkeys(SPLITS, 0.0)
    for pick in sorted(picks, key=lambda pick: pick.id):
        split = split_of[pick.recording_id]
        seconds = job.context_s + float(pick.pattern[-1, 1] - pick.pattern[0, 0])
        size = 2 * 2 * seconds * (job.rate_hz or 48_000)  # two tracks of 16 bits; FLAC is not larger
        if not groups[split] or filled[split] + size > SHARD_BYTES:
            groups[split].append([])
            filled[split] = 0.0
        groups[split][-1].append(pick)
        filled[split] += size
    how = segkit.__version__, SCHEMA_VERSION, job.rate_hz, job.context_s, job.annotations_only
    return [
        Shard(
            job.data_dir / axis / f"{split}-{i:05d}-of-{len(shards):05d}.parquet",
            split,
            shard,
            plan=fingerprint(how, split, [(pick.id, pick.part.name) for pick in shard]),
        )
        for split, shards in groups.items()
        for i, shard in enumerate(shards)
    ]


def finished(shard: Shard) -> dict[str, Any] | None:
    """The report of a shard that is on disk as planned and whole, else None: what was dropped is tried again."""
    try:
        metadata = pq.read_metadata(shard.path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    report = json.loads(metadata.get(PLAN_KEY, b"{}"))
    return report if report.get("plan") == shard.plan and not report["dropped"] else None


def write_shard(job: Job, shard: Shard) -> dict[str, Any]:
    """Cut the segments of a shard and write it; what cannot be cut is counted. Runs in a worker."""
    dropped: Counter[str] = Counter()
    rows = _rows(job, shard, dropped)
    report = {"plan": shard.plan, "written": len(rows), "dropped": dict(dropped)}
    write_rows(shard.path, rows, {PLAN_KEY: json.dumps(report)})
    return report


def write_rows(path: Path, rows: list[dict[str, Any]], metadata: dict[bytes, str]) -> None:
    """Write segments to a Parquet file, whole or not at all, in row groups of a bounded size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    group: list[dict[str, Any]] = []
    filled = 0
    with pq.ParquetWriter(draft, file_schema(), compression="zstd", write_page_index=True) as writer:
        for row in rows:
            size = sum(len(cell["bytes"]) for role in ("user", "agent") if (cell := row.get(role)))
            if group and filled + size > ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(group, schema=file_schema()))
                group, filled = [], 0
            group.append(row)
            filled += size
        writer.write_table(pa.Table.from_pylist(group, schema=file_schema()))
        writer.add_key_value_metadata(metadata)
    draft.replace(path)


@cache
def file_schema() -> pa.Schema:
    """The schema of segments as `datasets.Features` writes it, so that `user` and `agent` load as Audio."""
    from datasets import Audio, Features

    features = Features.from_arrow_schema(SEGMENTS)
    schema = Features(features | {"user": Audio(), "agent": Audio()}).arrow_schema
    fields = [field.with_metadata(SEGMENTS.field(field.name).metadata) for field in schema]
    return pa.schema(fields, metadata=(schema.metadata or {}) | SEGMENTS.metadata)


def _rows(job: Job, shard: Shard, dropped: Counter[str]) -> list[dict[str, Any]]:
    """The segments in the order of the plan, cut recording by recording, so that each is decoded once."""
    names = sorted({pick.recording_id for pick in shard.picks})
    parts = sorted({pick.part for pick in shard.picks})
    table = pq.read_table(parts, filters=[("recording_id", "in", names)])
    activity = map(activity_of, table["activity"])
    annotations = zip(table.drop(["activity"]).to_pylist(), activity, strict=True)
    picks = defaultdict(list)
    for pick in shard.picks:
        picks[pick.recording_id].append(pick)
    rows = {}
    for annotation, spoken in annotations:
        source = Source(job, annotation, spoken)
        for pick in picks[annotation["recording_id"]]:
            try:
                rows[pick.id] = segment_row(source, shard.split, pick)
            except BadInputError as error:
                dropped[error.reason] += 1
    return [rows[pick.id] for pick in shard.picks if pick.id in rows]
