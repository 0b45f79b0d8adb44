"""Third stage: the selected segments are cut from the source and written, one shard per task.

A shard's content is planned before it is cut, from the segments alone, so shards are the same for
every number of workers; a finished one carries the hash of its plan and is not cut again.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import segkit
from segkit.audio import Recording, encode_flac, sample_at
from segkit.errors import BadInputError
from segkit.extract import quality
from segkit.extract.annotate import activity_of, tracks_of
from segkit.extract.job import SPLITS, Job
from segkit.extract.select import Pick
from segkit.schemas import Axis, Intervals, Segment
from segkit.schemas.arrow import SCHEMA_VERSION, SEGMENTS
from segkit.schemas.settings import fingerprint
from segkit.segmenters.axes import describe
from segkit.segmenters.timeline import clip

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
    how = segkit.__version__, SCHEMA_VERSION, job.rate_hz, job.context_s
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
    shard.path.parent.mkdir(parents=True, exist_ok=True)
    draft = shard.path.with_suffix(".tmp")
    dropped: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    written = filled = 0
    with pq.ParquetWriter(draft, file_schema(), compression="zstd", write_page_index=True) as writer:
        for row in _rows(job, shard, dropped):
            size = len(row["user"]["bytes"]) + len(row["agent"]["bytes"])
            if rows and filled + size > ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(rows, schema=file_schema()))
                rows, filled = [], 0
            rows.append(row)
            filled += size
            written += 1
        writer.write_table(pa.Table.from_pylist(rows, schema=file_schema()))
        report = {"plan": shard.plan, "written": written, "dropped": dict(dropped)}
        writer.add_key_value_metadata({PLAN_KEY: json.dumps(report)})
    draft.replace(shard.path)
    return report


@cache
def file_schema() -> pa.Schema:
    """The schema of segments as `datasets.Features` writes it, so that `user` and `agent` load as Audio."""
    from datasets import Audio, Features

    features = Features.from_arrow_schema(SEGMENTS)
    schema = Features(features | {"user": Audio(), "agent": Audio()}).arrow_schema
    fields = [field.with_metadata(SEGMENTS.field(field.name).metadata) for field in schema]
    return pa.schema(fields, metadata=(schema.metadata or {}) | SEGMENTS.metadata)


def _rows(job: Job, shard: Shard, dropped: Counter[str]) -> Iterator[dict[str, Any]]:
    names = sorted({pick.recording_id for pick in shard.picks})
    parts = sorted({pick.part for pick in shard.picks})
    table = pq.read_table(parts, filters=[("recording_id", "in", names)])
    activity = map(activity_of, table["activity"])
    rows = table.drop(["activity"]).to_pylist()
    annotations = {row["recording_id"]: (row, spoken) for row, spoken in zip(rows, activity, strict=True)}
    for pick in shard.picks:
        try:
            yield _row(job, shard.split, pick, *annotations[pick.recording_id])
        except BadInputError as error:
            dropped[error.reason] += 1


def _row(
    job: Job, split: str, pick: Pick, annotation: dict[str, Any], activity: tuple[Intervals, Intervals]
) -> dict[str, Any]:
    """One segment with its audio, as a row of `SEGMENTS`."""
    user, agent = pick.user, 1 - pick.user
    segment = describe(pick.axis, user, pick.pattern, activity, job.settings)
    recording = Recording(tracks_of(annotation, job.root))
    rate_hz = job.rate_hz or recording.rate_hz
    begin_s = max(segment.start_s - job.context_s, 0.0)
    source = recording.window(begin_s, segment.end_s, recording.rate_hz)  # as it is: for the measurements
    audio = source if rate_hz == recording.rate_hz else recording.window(begin_s, segment.end_s, rate_hz)
    context = sample_at(segment.start_s, rate_hz) - sample_at(begin_s, rate_hz)

    near = [clip(track, begin_s, segment.end_s) for track in activity]
    from_start = [(track - segment.start_s).tolist() for track in near]
    powers = quality.frame_powers(source, recording.rate_hz)
    from_begin = near[0] - begin_s, near[1] - begin_s
    snr_db = quality.snr_db(powers, from_begin)
    tracks = annotation["tracks"]
    return {
        "id": pick.id,
        "axis": str(pick.axis),
        "corpus": annotation["corpus"],
        "recording_id": pick.recording_id,
        "split": split,
        "language": annotation["language"],
        "licence": annotation["licence"],
        "user": {"bytes": encode_flac(audio[user], rate_hz), "path": f"{pick.id}_user.flac"},
        "agent": {"bytes": encode_flac(audio[agent], rate_hz), "path": f"{pick.id}_agent.flac"},
        "context_s": context / rate_hz,
        "duration_s": (audio.shape[1] - context) / rate_hz,
        "start_s": segment.start_s,
        "end_s": segment.end_s,
        "user_speaker": tracks[user]["speaker"],
        "agent_speaker": tracks[agent]["speaker"],
        "user_channel": user,
        "agent_channel": agent,
        "user_activity": from_start[user],
        "agent_activity": from_start[agent],
        **_events(segment),
        "words": _words(annotation["words"], user, begin_s, segment),
        "user_snr_db": snr_db[user],
        "agent_snr_db": snr_db[agent],
        "bleed_db": quality.bleed_db(powers, from_begin),
        "clipped": quality.is_clipped(source),
        "user_path": tracks[user]["path"],
        "agent_path": tracks[agent]["path"],
        "segkit_version": segkit.__version__,
        "settings_hash": job.settings_hash,
    }


def _events(segment: Segment) -> dict[str, Any]:
    """The columns of the segment's axis, in seconds from its start; null for the other axes."""
    events: dict[str, Any] = dict.fromkeys(
        ["pauses", "turn_end_s", "gap_s", "backchannels", "interruption_start_s", "interruption_end_s"]
    )
    pattern = segment.pattern - segment.start_s
    match segment.axis:
        case Axis.PAUSE:
            events["pauses"] = _from(segment.start_s, segment.pauses)
        case Axis.TURN_TAKING:
            events |= {"turn_end_s": float(pattern[0, 1]), "gap_s": float(pattern[1, 0] - pattern[0, 1])}
        case Axis.BACKCHANNEL:
            events["backchannels"] = _from(segment.start_s, segment.backchannels)
        case Axis.INTERRUPTION:
            events["interruption_start_s"], events["interruption_end_s"] = pattern[2].tolist()
    return events


def _from(start_s: float, found: Intervals | None) -> list[list[float]] | None:
    return None if found is None else np.subtract(found, start_s).tolist()


def _words(
    words: list[dict[str, Any]] | None, user: int, begin_s: float, segment: Segment
) -> list[dict[str, Any]] | None:
    """Words that share time with context or segment, with times from the segment's start."""
    if words is None:
        return None
    return [
        {
            "speaker": "user" if word["channel"] == user else "agent",
            "text": word["text"],
            "start_s": word["start_s"] - segment.start_s,
            "end_s": word["end_s"] - segment.start_s,
            "confidence": word["confidence"],
        }
        for word in words
        if word["start_s"] < segment.end_s and word["end_s"] > begin_s
    ]
