"""Third stage: the selected segments are cut from the source and written, one shard per task.

A shard's content is planned before it is cut, from the segments alone, so shards are the same for
every number of workers; a finished one carries the hash of its plan and is not cut again.
"""

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from segkit.dataset.rows import activity_of, note, read, write_segments
from segkit.extraction.job import Job
from segkit.extraction.listen import noting
from segkit.extraction.row import Source, segment_row
from segkit.extraction.select import Pick
from segkit.schemas import SPLITS, Axis, Problem
from segkit.schemas.arrow import SCHEMA_VERSION
from segkit.settings import fingerprint

SHARD_BYTES = 500 << 20
PLAN_KEY = b"segkit_shard"
CUTTER = "2"  # raise it when the same plan makes other rows


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
        seconds = job.settings.context_s + float(pick.pattern[-1, 1] - pick.pattern[0, 0])
        size = 2 * 2 * seconds * (job.settings.rate_hz or 48_000)  # two tracks of 16 bits; FLAC is not larger
        if not groups[split] or filled[split] + size > SHARD_BYTES:
            groups[split].append([])
            filled[split] = 0.0
        groups[split][-1].append(pick)
        filled[split] += size
    s = job.settings
    how = CUTTER, SCHEMA_VERSION, s.rate_hz, s.context_s, s.annotations_only
    return [
        Shard(
            job.folder.shard(axis, split, i, len(shards)),
            split,
            shard,
            plan=fingerprint(how, split, [(pick.id, pick.part.name) for pick in shard]),
        )
        for split, shards in groups.items()
        for i, shard in enumerate(shards)
    ]


def finished(shard: Shard) -> dict[str, Any] | None:
    """The report of a shard that is on disk as planned and whole, else None: what was dropped is tried again."""
    report = note(shard.path, PLAN_KEY)
    return report if report.get("plan") == shard.plan and not report["dropped"] else None


def write_shard(job: Job, shard: Shard) -> dict[str, Any]:
    """Cut the segments of a shard and write it; what cannot be cut is counted. Runs in a worker."""
    failed: list[Problem] = []
    rows = _rows(job, shard, failed)
    dropped = Counter(problem.reason for problem in failed)
    problems = [asdict(problem) for problem in {(p.source, p.reason): p for p in failed}.values()]
    report = {"plan": shard.plan, "written": len(rows), "dropped": dict(dropped), "problems": problems}
    write_segments(shard.path, rows, {PLAN_KEY: report})
    return report


def _rows(job: Job, shard: Shard, failed: list[Problem]) -> list[dict[str, Any]]:
    """The segments in the order of the plan, cut recording by recording, so that each is decoded once.

    What cannot be cut goes to `failed`.
    """
    names = sorted({pick.recording_id for pick in shard.picks})
    parts = sorted({pick.part for pick in shard.picks})
    table = pa.concat_tables(read(part, filters=[("recording_id", "in", names)]) for part in parts)
    activity = map(activity_of, table["activity"])
    annotations = zip(table.drop(["activity"]).to_pylist(), activity, strict=True)
    picks = defaultdict(list)
    for pick in shard.picks:
        picks[pick.recording_id].append(pick)
    rows = {}
    for annotation, spoken in annotations:
        source = Source(job, annotation, spoken)
        for pick in picks[annotation["recording_id"]]:
            outcome: dict[str, Any] = {}
            with noting(outcome, "problem"):
                rows[pick.id] = segment_row(source, shard.split, pick)
            if outcome:
                failed.append(Problem(pick.recording_id, outcome["problem"], outcome["detail"]))
    return [rows[pick.id] for pick in shard.picks if pick.id in rows]
