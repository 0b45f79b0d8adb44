"""First stage: every recording becomes a row of `annotations/`: who spoke when, and the words.

Recordings are worked on in chunks, one Parquet file each. A chunk's file name is a hash of what went
into it (the recordings, their files' sizes, the VAD settings), so a later run with other thresholds,
or one that was interrupted, finds what is done, whatever the number of workers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segkit import corpora
from segkit.audio import Recording, Samples
from segkit.errors import BadInputError
from segkit.extract.job import Job
from segkit.schemas import Conversation, Intervals, Track, Word
from segkit.schemas.arrow import ANNOTATIONS, SCHEMA_VERSION
from segkit.schemas.settings import fingerprint
from segkit.segmenters import vad

UNEXPECTED = "unexpected error"
CHUNK_RECORDINGS = 8
CHUNK_BYTES = 256 << 20
PASSING = {"file cannot be opened", UNEXPECTED}
"""Problems that need not lie in the recording: a chunk with one of them is worked on again."""
WORD_SLACK_S = 0.5
"""Words may end this much after the audio does: transcripts round, and are then cut to the recording."""


def chunks(job: Job, conversations: list[Conversation]) -> dict[Path, list[Conversation]]:
    """Consecutive recordings in groups of a few, keyed by the file that their rows go to.

    The grouping depends on the list alone: the VAD sees the same batches in every run.
    """
    groups: list[list[Conversation]] = [[]]
    filled = 0
    for conversation in conversations:
        size = sum(_size(track.path) for track in conversation.tracks)
        if len(groups[-1]) == CHUNK_RECORDINGS or (groups[-1] and filled + size > CHUNK_BYTES):
            groups.append([])
            filled = 0
        groups[-1].append(conversation)
        filled += size
    return {_part_path(job, group): group for group in groups if group}


def is_done(part: Path) -> bool:
    """Whether a chunk has been annotated, and nothing in it failed that may go well another time."""
    try:
        columns = pq.read_table(part, columns=["problem", "transcript_problem"]).columns
    except (OSError, pa.ArrowInvalid):
        return False
    return not any(PASSING & set(column.to_pylist()) for column in columns)


def _part_path(job: Job, group: list[Conversation]) -> Path:
    made_here = not corpora.get(job.corpus).needs_root  # then a file follows from its name, and may not exist yet
    inputs = [
        (
            c.id,
            [(relative(job, t.path), t.channel, t.offset_s, t.speaker) for t in c.tracks],
            [(relative(job, path), _size(path)) for path in _files(c) if not made_here],
        )
        for c in group
    ]
    name = fingerprint(SCHEMA_VERSION, job.corpus, job.options, job.settings.vad, inputs)
    return job.annotations_dir / f"{name}.parquet"


def _files(conversation: Conversation) -> list[Path]:
    transcript = [] if conversation.transcript is None else [conversation.transcript]
    return [track.path for track in conversation.tracks] + transcript


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def relative(job: Job, path: Path) -> str:
    """A source path as the dataset names it: from the root of the corpus."""
    return path.relative_to(job.root).as_posix()


def annotate(job: Job, group: list[Conversation], part: Path, device: str = "cpu") -> None:
    """Annotate the recordings of one chunk and write their rows to `part`. Runs in a worker."""
    corpus = job.open_corpus()
    rows = {c.id: _empty_row(job, c) for c in group}
    opened: dict[str, Recording] = {}
    for conversation in group:
        with _noting(rows[conversation.id], "problem"):
            corpus.prepare(conversation)
            opened[conversation.id] = Recording(conversation.tracks)
    for rate_hz in (8000, 16_000):
        batch = {key: r for key, r in opened.items() if vad.rate_for(r.rate_hz) == rate_hz}
        _detect_speech(vad.load(job.settings.vad, device), rows, batch, rate_hz)
    for conversation in group:
        row = rows[conversation.id]
        if row["problem"] is None:
            with _noting(row, "transcript_problem"):
                row["words"] = _words(corpus.words(conversation), row["duration_s"])
    draft = part.with_suffix(".tmp")
    pq.write_table(pa.Table.from_pylist(list(rows.values()), schema=ANNOTATIONS), draft, compression="zstd")
    draft.replace(part)


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
        "tracks": tracks,
    }
    return dict.fromkeys(ANNOTATIONS.names) | known


@contextmanager
def _noting(row: dict[str, Any], column: str) -> Iterator[None]:
    """Turn an error into the row's problem: one bad recording never stops a run."""
    try:
        yield
    except BadInputError as error:
        row[column], row["detail"] = error.reason, error.detail
    except Exception as error:  # an adapter's or a decoder's own; the reason is counted and shown
        row[column], row["detail"] = UNEXPECTED, f"{type(error).__name__}: {error}"


def _detect_speech(
    detector: vad.VoiceActivityDetector, rows: dict[str, Any], batch: dict[str, Recording], rate_hz: int
) -> None:
    """Fill `activity`, `audio_hash`, `duration_s` and `tracks` of the rows of one batch."""
    block_samples = detector.block_samples(rate_hz)
    listeners = [_Listener(r.blocks(rate_hz, block_samples), rows[key]) for key, r in batch.items()]
    with _one_thread():
        found = detector.detect(listeners, rate_hz)
    for (key, recording), listener, activity in zip(batch.items(), listeners, found, strict=True):
        row = rows[key]
        row["duration_s"] = recording.duration_s
        for track, info in zip(row["tracks"], recording.infos, strict=True):
            track |= {"rate_hz": info.rate_hz, "frames": info.frames}
        row["activity"] = [track.tolist() for track in activity]
        row["audio_hash"] = listener.hashes()
        with _noting(row, "problem"):
            if row["problem"] is None:
                _expect_two_speakers(row)


def _expect_two_speakers(row: dict[str, Any]) -> None:
    if len(set(row["audio_hash"])) == 1:
        raise BadInputError("both channels are the same", "expected one speaker per channel, found one signal on both")
    for channel, activity in enumerate(row["activity"]):
        if not activity:
            raise BadInputError("silent track", f"found no speech on track {channel}, expected two speakers")


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread, as many workers share the cores; and the same sums for any number of cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Listener:
    """Passes the blocks of a recording on, and hashes each track; an error ends it and is noted."""

    def __init__(self, blocks: Iterator[Samples], row: dict[str, Any]) -> None:
        self.blocks, self.row = blocks, row
        self.digests = [blake2b(digest_size=16), blake2b(digest_size=16)]

    def __iter__(self) -> Iterator[Samples]:
        return self

    def __next__(self) -> Samples:
        with _noting(self.row, "problem"):
            block = next(self.blocks, None)
            if block is not None:
                for digest, track in zip(self.digests, block, strict=True):
                    digest.update(np.rint(track * 32768).astype(np.int32))
                return block
        raise StopIteration

    def hashes(self) -> list[str]:
        return [digest.hexdigest() for digest in self.digests]


def _words(words: list[Word] | None, duration_s: float) -> list[dict[str, Any]] | None:
    """Words in order, checked against the length of the recording."""
    if words is None:
        return None
    for word in words:
        if not (-WORD_SLACK_S <= word.start_s <= word.end_s <= duration_s + WORD_SLACK_S):
            raise BadInputError(
                "words outside the recording",
                f"{word.text!r} at {word.start_s}-{word.end_s} s, the recording lasts {duration_s:.2f} s",
            )
    return [
        {
            "channel": w.channel,
            "text": w.text.encode(errors="replace").decode(),  # JSON can hold half characters
            "start_s": min(max(w.start_s, 0.0), duration_s),
            "end_s": min(w.end_s, duration_s),
            "confidence": w.confidence,
        }
        for w in sorted(words, key=lambda w: (w.start_s, w.end_s, w.channel))
    ]


def activity_of(cell: pa.ListScalar) -> tuple[Intervals, Intervals]:
    """A value of the column `activity` as arrays, without a Python object per time."""
    first, second = (track.values.flatten().to_numpy().reshape(-1, 2) for track in cell)
    return first, second


def tracks_of(row: dict[str, Any], root: Path) -> tuple[Track, Track]:
    """The tracks of an annotated recording, as they were found."""
    first, second = (Track(root / t["path"], t["channel"], t["offset_s"], t["speaker"]) for t in row["tracks"])
    return first, second
