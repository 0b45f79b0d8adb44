"""Rebuild a dataset that was published without audio, from the reader's own copy of the corpus.

The rows are the publisher's; audio is cut from the copy by the code that cut it first, and compared with the hashes of
the publisher's samples. Words that could not be passed on are read from the copy's transcripts, and compared, too. What
is missing or differs is named per recording, and left out: without its audio a segment, without its words these alone.
Which channel a speaker is on, and where a file starts on the clock, are the publisher's; the copy gives the files.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from segkit import corpora
from segkit.audio import sample_at
from segkit.dataset.card import write_card
from segkit.dataset.dataset import Dataset
from segkit.dataset.folder import Folder
from segkit.dataset.record import AxisRecord, Hydrated, Problems, Record, Recordings
from segkit.dataset.rows import activity_of, note, read, write_annotations, write_segments
from segkit.errors import BadInputError, NothingUsableError, UsageError
from segkit.extraction import words
from segkit.extraction.annotate import relative
from segkit.extraction.job import PREFIX, Job
from segkit.extraction.row import Source, cells, words_hash, words_near
from segkit.extraction.run import find
from segkit.schemas import Conversation
from segkit.schemas.arrow import ANNOTATIONS
from segkit.settings import fingerprint
from segkit.storage import write_text
from segkit.tasks import Hook, nobody, run_tasks

DONE_KEY = b"segkit_hydrated"
MARK = "hydrated"
MISSING, DIFFERS = "not in this copy of the corpus", "audio differs from the publisher's"
NO_WORDS, OTHER_WORDS = "no usable transcript in this copy", "words differ from the publisher's"
ODD = "published times or channels make no sense"
MISPLACED = "published in a file of another axis or split"

Lost = Counter[tuple[str, str]]
"""How many segments, or words of segments, of a recording are left out for a reason: (recording, reason)."""


def hydrate(
    source: Path,
    root: Path,
    out: Path,
    corpus: str = "",
    options: Mapping[str, Any] = MappingProxyType({}),
    workers: int = 1,
    hook: Hook = nobody,
) -> Record:
    """Rebuild a dataset; returns its record. A run that was interrupted goes on when called again.

    Args:
        source: the published dataset folder.
        root: the reader's copy of the corpus.
        out: the dataset folder to write.
        corpus: which corpus of the dataset; may be empty if there is one only.
        options: of its adapter, by name; the others are the publisher's, or the defaults for a corpus that `run.json`
            does not describe.
        workers: processes on this machine.
        hook: called with the number of files done, as the stage "rebuilding".

    Raises:
        UsageError: the source is not such a dataset, or holds several corpora and none is named.
        NothingUsableError: nothing could be rebuilt.
    """
    published = Dataset(source)
    published.expect_segments()
    target = Folder(out)
    if out.exists() and any(out.iterdir()) and not target.mark(MARK).exists():
        raise UsageError(f"{str(out)!r} holds something else. Expected a new folder, or one that hydrate has begun.")
    job = _job(published, root.absolute(), out.absolute(), corpus, options)
    conversations = {c.id: c for c in find(job)[0]}
    with job.folder.claimed(job.record):
        write_text(job.folder.mark(MARK), "segkit hydrate writes here\n")
        annotations = _annotations(job, published.folder, conversations)
        paths = published.folder.shards()
        _expect_single_ids(paths)
        targets = [job.folder.data / path.relative_to(published.folder.data) for path in paths]
        for stale in set(job.folder.shards()).difference(targets):
            stale.unlink()  # of another source
        tasks = [(job, path, target, _of_shard(path, annotations)) for path, target in zip(paths, targets, strict=True)]
        lost, silent = Lost(), Lost()
        kept: dict[str, Counter[str]] = defaultdict(Counter)
        for number, (i, (counts, lost_here, silent_here)) in enumerate(run_tasks(_rebuild, tasks, workers), 1):
            lost += lost_here
            silent += silent_here
            kept[paths[i].parent.name] += Counter(counts)
            hook("rebuilding", number, len(tasks))
        if not any(counts.total() for counts in kept.values()):
            reasons = ", ".join(sorted({reason for _, reason in lost}))
            raise NothingUsableError(
                f"Nothing could be rebuilt: {reasons}. Is {str(root)!r} the corpus {job.corpus!r}?"
            )
        record = _record(published.record, kept, lost, silent, job)
        write_card(job.folder, record)
        record.write(job.folder.record_file)
    return record


def _job(published: Dataset, root: Path, out: Path, corpus: str, options: Mapping[str, Any]) -> Job:
    """The publisher's job on the reader's folders."""
    names = sorted(
        {name for path in published.folder.shards() for name in read(path, ["corpus"])["corpus"].to_pylist()}
    )
    if corpus not in names and (corpus or len(names) != 1):
        raise UsageError(f"--corpus got {corpus!r}. Expected one of the corpora of the dataset: {', '.join(names)}.")
    corpus = corpus or names[0]
    if not corpora.get(corpus).needs_root:
        raise UsageError(f"The corpus {corpus!r} is made, not copied: extract it again with the settings of run.json.")
    record = published.record.job_of(corpus) or published.record.job.model_copy(
        update={"corpus": corpus, "options": {}}
    )
    try:
        job = Job.of(record, root, out)
    except UsageError as error:
        raise UsageError(
            f"run.json of {str(published.path)!r} describes a job that this segkit cannot read: {error}"
        ) from None
    return replace(
        job,
        options=job.options.changed(options, PREFIX),
        settings=job.settings.changed({"annotations_only": False, "limit": None}),
    )


def _expect_single_ids(paths: list[Path]) -> None:
    names = Counter(name for path in paths for name in read(path, ["id"])["id"].to_pylist())
    if twice := [name for name, count in names.items() if count > 1]:
        raise UsageError(
            f"The dataset has {len(twice)} ids more than once, such as {twice[0]}. It is not as published."
        )


def _annotations(job: Job, source: Folder, conversations: dict[str, Conversation]) -> dict[str, Source]:
    """The annotations of the corpus, with the copy's files and words; written, and keyed by recording."""
    corpus = job.open_corpus()
    found: dict[str, Source] = {}
    for path in source.parts():
        table = read(path, filters=[("corpus", "=", job.corpus)])
        rows = table.to_pylist()
        for row, spoken in zip(rows, table["activity"], strict=True):
            conversation = conversations.get(row["recording_id"])
            if row["problem"] is None and conversation:
                _add_words(row, corpus, conversation)
                tracks = zip(row["tracks"], conversation.tracks, strict=True)
                here = [t | {"path": relative(job, own.path)} for t, own in tracks]
                found[row["recording_id"]] = Source(job, row | {"tracks": here}, activity_of(spoken))
        if rows:
            write_annotations(job.folder.annotations / path.name, pa.Table.from_pylist(rows, schema=ANNOTATIONS))
    return found


def _of_shard(path: Path, annotations: dict[str, Source]) -> dict[str, Source]:
    """The annotations that a worker needs for one file."""
    names = read(path, ["recording_id"])["recording_id"].unique().to_pylist()
    return {name: annotations[name] for name in names if name in annotations}


def _add_words(row: dict[str, Any], corpus: corpora.Corpus, conversation: Conversation) -> None:
    """Read words that were taken out; those of a recogniser are not in the copy."""
    if row["words"] is None and (row["words_source"] or "").startswith("corpus"):
        try:
            words.fill(row, corpus.transcript(conversation))
        except BadInputError as error:
            row["transcript_problem"], row["detail"] = error.reason, error.detail


def _rebuild(job: Job, path: Path, target: Path, annotations: dict[str, Source]) -> tuple[dict[str, int], Lost, Lost]:
    """Rebuild one file; returns how many rows of each split it has, what is lost, and whose words are.

    Runs in a worker.
    """
    said = [repr(annotations[name].annotation["words"]) for name in sorted(annotations)]
    plan = fingerprint(path.name, sha256(path.read_bytes()).hexdigest(), str(job.root), job.corpus, job.options, said)
    if done := _finished(target, plan):
        return done["kept"], Lost(), Lost({(recording, reason): n for recording, reason, n in done["silent"]})
    rows = [row for row in read(path).to_pylist() if row["corpus"] == job.corpus]
    by_recording = defaultdict(list)
    for row in rows:
        by_recording[row["recording_id"]].append(row)
    lost, silent = Lost(), Lost()
    whole: dict[str, dict[str, Any]] = {}
    for recording_id, segments in by_recording.items():
        source = annotations.get(recording_id)
        for row in segments:
            try:
                if source is None:
                    raise BadInputError(MISSING, recording_id)
                if (row["axis"], row["split"]) != (path.parent.name, path.name.partition("-")[0]):
                    raise BadInputError(MISPLACED, row["id"])
                whole[row["id"]] = _filled(source, row)
                if whole[row["id"]]["words"] is None and row["words_hash"]:
                    silent[recording_id, NO_WORDS if source.annotation["words"] is None else OTHER_WORDS] += 1
            except BadInputError as error:
                lost[recording_id, error.reason] += 1
    kept = [whole[row["id"]] for row in rows if row["id"] in whole]
    counts = dict(Counter(row["split"] for row in kept))
    target.unlink(missing_ok=True)
    if kept:
        unsaid = [[*key, n] for key, n in silent.items()]
        done = {"plan": plan, "kept": counts, "lost": lost.total(), "silent": unsaid}
        write_segments(target, kept, {DONE_KEY: done})
    return counts, lost, silent


def _finished(target: Path, plan: str) -> dict[str, Any] | None:
    """The report of a file that was rebuilt from this source without loss."""
    report = note(target, DONE_KEY)
    return report if report.get("plan") == plan and not report["lost"] else None


def _filled(source: Source, row: dict[str, Any]) -> dict[str, Any]:
    """A row with its audio and words; without words, if the copy has none or others.

    Raises:
        BadInputError: the row makes no sense, or the audio cannot be read, or is not the publisher's.
    """
    user, length_s = row["user_channel"], source.annotation["duration_s"]
    if user not in (0, 1) or not 0 <= row["start_s"] < row["end_s"] <= length_s + 1:
        raise BadInputError(ODD, f"{row['id']}: channel {user}, {row['start_s']} to {row['end_s']} s of {length_s} s")
    begin_s = source.begin_s(row["start_s"])
    rate_hz = source.job.settings.rate_hz or source.recording.rate_hz
    audio = cells(source.cut(begin_s, row["end_s"], rate_hz), user, row["id"], rate_hz)
    for role in ("user", "agent"):
        if row[f"{role}_hash"] not in (None, audio[f"{role}_hash"]):
            raise BadInputError(DIFFERS, f"{row['id']}: {role}")
    if row["user_hash"] is None:  # it never had audio: now it lies on samples
        context = sample_at(row["start_s"], rate_hz) - sample_at(begin_s, rate_hz)
        total = sample_at(row["end_s"], rate_hz) - sample_at(begin_s, rate_hz)
        audio |= {"context_s": context / rate_hz, "duration_s": (total - context) / rate_hz}
    said = row["words"]
    if said is None and row["words_hash"]:
        found = words_near(source.annotation, user, begin_s, row["start_s"], row["end_s"])
        said = found if words_hash(found) == row["words_hash"] else None
    return row | audio | {"words": said}


def _record(published: Record, kept: dict[str, Counter[str]], lost: Lost, silent: Lost, job: Job) -> Record:
    """The publisher's record with what became of it here; where that is of another corpus, from the annotations."""
    base = published if job.corpus == published.job.corpus else _from_annotations(job)
    segments = {
        axis: base.segments.get(axis, AxisRecord()).model_copy(
            update={"kept": kept[axis].total(), "splits": dict(kept[axis])}
        )
        for axis in dict.fromkeys([*base.segments, *kept])
    }
    sent = published.published
    facts = Hydrated(
        lost=_by_recording(lost), without_words=_by_recording(silent), from_=sent.model_dump() if sent else {}
    )
    return base.model_copy(
        update={"job": job.record, "segments": segments, "hydrated": facts, "published": None, "merged": None}
    )


def _by_recording(lost: Lost) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (recording, reason), n in sorted(lost.items()):
        found.setdefault(recording, {})[reason] = n
    return found


def _from_annotations(job: Job) -> Record:
    """The record of a corpus, as far as it follows from its recordings: not which candidates were dropped."""
    columns = ["problem", "duration_s", "tracks"]
    rows = [row for path in job.folder.parts() for row in read(path, columns).to_pylist()]
    usable = [row for row in rows if row["problem"] is None]
    hours = round(sum(row["duration_s"] for row in usable) / 3600, 4)
    return Record(
        status="complete",
        job=job.record,
        settings_hash=job.settings_hash,
        recordings=Recordings(found=len(rows), used=len(usable), hours=hours),
        recordings_of_unknown_speakers=sum(not all(t["speaker"] for t in row["tracks"]) for row in usable),
        problems=Problems(counts=dict(Counter(row["problem"] for row in rows if row["problem"]))),
    )
