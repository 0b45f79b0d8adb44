"""First stage: every recording becomes a row of `annotations/`: who spoke when, and the words.

Recordings are worked on in chunks, one Parquet file each. A chunk's file name is a hash of what went
into it (the recordings, the sizes of their files, their transcripts, the settings of VAD and ASR), so a
later run with other thresholds, or one that was interrupted, finds what is done, whatever the number of
workers.
"""

import os
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path
from typing import Any

import pyarrow as pa

from segkit import corpora
from segkit.audio import Recording
from segkit.dataset.rows import read, write_annotations
from segkit.errors import BadInputError, SegkitError
from segkit.extraction import words
from segkit.extraction.job import Job
from segkit.extraction.listen import UNEXPECTED, detect_speech, diarizer, noting, tell_apart, warn
from segkit.schemas import Conversation, Track
from segkit.schemas.arrow import ANNOTATIONS, SCHEMA_VERSION
from segkit.segmenters import vad
from segkit.segmenters.timeline import as_intervals, clip
from segkit.settings import fingerprint

ANNOTATOR = "2"  # raise it when the same input gives other rows
CHUNK_RECORDINGS = 8
CHUNK_BYTES = 256 << 20
PASSING = {"file cannot be opened", words.FAILED, UNEXPECTED}
"""Problems that need not lie in the recording: a chunk with one of them is worked on again."""


def chunks(job: Job, conversations: list[Conversation]) -> dict[Path, list[Conversation]]:
    """Consecutive recordings in groups of a few, keyed by the file that their rows go to.

    The grouping depends on the list alone: the VAD sees the same batches in every run.
    """
    groups: list[list[Conversation]] = [[]]
    filled = 0
    for conversation in conversations:
        size = sum(map(_size, conversation.audio))
        if len(groups[-1]) == CHUNK_RECORDINGS or (groups[-1] and filled + size > CHUNK_BYTES):
            groups.append([])
            filled = 0
        groups[-1].append(conversation)
        filled += size
    return {_part_path(job, group): group for group in groups if group}


def is_done(part: Path) -> bool:
    """Whether a chunk has been annotated, and nothing in it failed that may go well another time."""
    try:
        columns = read(part, ["problem", "transcript_problem"]).columns
    except SegkitError:
        return False
    return not any(PASSING & set(column.to_pylist()) for column in columns)


def _part_path(job: Job, group: list[Conversation]) -> Path:
    made_here = not corpora.get(job.corpus).needs_root  # then a file follows from its name, and may not exist yet
    inputs = [
        (
            c.id,
            [(relative(job, t.path), t.channel, t.offset_s, t.speaker) for t in c.tracks],
            [(relative(job, path), _size(path)) for path in c.audio if not made_here],
            [(relative(job, path), _content(path)) for path in c.transcripts if not made_here],
        )
        for c in group
    ]
    s = job.settings
    name = fingerprint(ANNOTATOR, SCHEMA_VERSION, job.corpus, job.options, s.vad, s.asr, s.audio, s.needs_audio, inputs)
    return job.folder.annotations / f"{name}.parquet"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _content(path: Path) -> str:
    """A hash of a transcript: a correction may leave its size as it was."""
    facts = path.stat() if path.exists() else None
    return "" if facts is None else _hash(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=64)  # many recordings can share a transcript
def _hash(path: Path, size: int, mtime_ns: int) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def relative(job: Job, path: Path | None) -> str | None:
    """A source path as the dataset names it: from the root of the corpus."""
    return None if path is None else Path(os.path.relpath(path, job.root)).as_posix()


def annotate(job: Job, group: list[Conversation], part: Path, device: str = "cpu") -> None:
    """Annotate the recordings of one chunk and write their rows to `part`. Runs in a worker."""
    corpus = job.open_corpus()
    rows = {c.id: _empty_row(job, c) for c in group}
    opened: dict[str, Recording] = {}
    for conversation in group:
        row = rows[conversation.id]
        with noting(row, "problem"):
            if job.settings.needs_audio:
                corpus.prepare(conversation)
                recording = Recording(conversation.tracks, job.settings.audio, corpus.channels)
                opened[conversation.id] = recording
                _fill_facts(row, recording)
        if row["problem"] is None:
            with noting(row, "transcript_problem"):
                words.fill(row, corpus.transcript(conversation))
    _find_speech(job, rows, opened, device)
    for key, recording in opened.items():
        with noting(rows[key], "problem"):
            _keep_common(rows[key], recording)
    for row in rows.values():
        with noting(row, "problem"):
            _expect_two_speakers(row)
    words.transcribe(job.settings.asr, rows, opened, device)
    for row in rows.values():
        words.check_channels(row)
    for key, recording in opened.items():
        for reason, detail in recording.notes:
            warn(rows[key], reason, detail)
    write_annotations(part, pa.concat_tables(map(_as_table, rows.values())))


def _find_speech(job: Job, rows: dict[str, dict[str, Any]], opened: dict[str, Recording], device: str) -> None:
    """Fill the activity of the rows: from the transcript, by the detector, or, of one channel, by diarization."""
    settings = job.settings.vad
    if settings.backend == "transcript":
        for row in rows.values():
            with noting(row, "problem"):
                words.fill_activity(row, settings.min_silence_s)
        return
    apart = {key: recording for key, recording in opened.items() if rows[key]["derived"] is None}
    detect_speech(vad.load(settings, device), rows, apart, gate=settings.bleed == "gate")
    mixed = {key: recording for key, recording in opened.items() if key not in apart}
    for key in [key for key in mixed if rows[key]["activity"] is not None]:  # the corpus says who speaks when
        del mixed[key]
        with noting(rows[key], "problem"):
            words.fill_activity(rows[key], settings.min_silence_s)
    if mixed:
        tell_apart(diarizer(job.options.model, device), settings, rows, mixed)


def _as_table(row: dict[str, Any]) -> pa.Table:
    """One row; if an adapter gave a value that a column cannot hold, the row of a recording with that problem."""
    with noting(row, "problem"):
        return pa.Table.from_pylist([row], schema=ANNOTATIONS)
    known = {name: row[name] for name in ("recording_id", "corpus", "problem", "detail")}
    return pa.Table.from_pylist([known], schema=ANNOTATIONS)


def _empty_row(job: Job, conversation: Conversation) -> dict[str, Any]:
    tracks = [
        {"path": relative(job, t.path), "channel": t.channel, "offset_s": t.offset_s, "speaker": speaker}
        for t, speaker in zip(conversation.tracks, conversation.speakers, strict=True)
    ]
    known = {
        "recording_id": conversation.id,
        "corpus": conversation.corpus,
        "language": conversation.language,
        "licence": conversation.licence,
        "derived": conversation.derived,
        "tracks": tracks,
    }
    return dict.fromkeys(ANNOTATIONS.names) | known | {"warnings": []}


def _fill_facts(row: dict[str, Any], recording: Recording) -> None:
    row["duration_s"] = recording.duration_s
    for track, info in zip(row["tracks"], recording.infos, strict=True):
        track |= {"rate_hz": info.rate_hz, "frames": info.frames}


def _keep_common(row: dict[str, Any], recording: Recording) -> None:
    """Where one track has no audio, its silence is not that of somebody who listens."""
    if row["problem"] is not None or len(set(recording.paths)) == 1:
        return
    start_s, end_s = recording.common_s
    first, second = ("/".join(path.parts[-2:]) for path in recording.paths)  # many differ by their folder alone
    where = f"{first} and {second} have {max(end_s - start_s, 0):.2f} s in common"
    rest_s = recording.duration_s - (end_s - start_s)
    if start_s >= end_s:
        raise BadInputError("tracks do not overlap", f"{where}; offsets may be wrong")
    if rest_s > recording.settings.max_missing_s:
        warn(row, "tracks of unequal length", f"{where}, the other {rest_s:.2f} s are not used")
    row["activity"] = [clip(as_intervals(track), start_s, end_s).tolist() for track in row["activity"]]


def _expect_two_speakers(row: dict[str, Any]) -> None:
    if row["problem"] is not None:
        return
    if row["audio_hash"] and len(set(row["audio_hash"])) == 1 and row["derived"] is None:
        raise BadInputError("both channels are the same", "expected one speaker per channel, found one signal on both")
    for channel, activity in enumerate(row["activity"]):
        if not activity:
            raise BadInputError("silent track", f"found no speech on track {channel}, expected two speakers")


def tracks_of(row: dict[str, Any], root: Path) -> tuple[Track, Track]:
    """The tracks of an annotated recording, as they were found."""
    first, second = (
        Track(t["path"] and root / t["path"], t["channel"], t["offset_s"], t["speaker"]) for t in row["tracks"]
    )
    return first, second
