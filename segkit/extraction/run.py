"""The job from top to bottom: find, annotate, select, cut, and say what became of everything.

>>> job = Job("stereo", root=Path("calls"), out=Path("dataset"))
>>> record = run(job, workers=4)  # doctest: +SKIP
>>> record.segments["pause"].kept  # doctest: +SKIP
812
"""

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from segkit.dataset.card import write_card
from segkit.dataset.folder import Folder
from segkit.dataset.record import AxisRecord, ProblemRecord, Problems, Record, Recordings
from segkit.dataset.rows import activity_of, read
from segkit.decoding import scratch
from segkit.errors import NothingUsableError, SegkitError
from segkit.extraction.annotate import annotate, chunks, is_done
from segkit.extraction.cut import Shard, finished, plan_shards, write_shard
from segkit.extraction.job import Job
from segkit.extraction.select import Annotated, Pick, assign_splits, select
from segkit.extraction.words import evidence_of
from segkit.schemas import Axis, Conversation, Intervals, Problem
from segkit.schemas.arrow import ANNOTATIONS
from segkit.segmenters import vad
from segkit.segmenters.axes import find_patterns
from segkit.segmenters.transcription import fetch
from segkit.segmenters.trust import screen
from segkit.settings import ExtractionSettings
from segkit.tasks import Hook, nobody, run_tasks


def run(
    job: Job,
    workers: int = 1,
    engine: str = "local",
    device: str = "cpu",
    overwrite: bool = False,
    hook: Hook = nobody,
) -> Record:
    """Extract a dataset. A run that was interrupted goes on where it stopped when called again.

    Args:
        job: what to do.
        workers: processes on this machine.
        engine: "local" or "ray".
        device: where Silero runs: "cpu" or "cuda".
        overwrite: replace the segments of a run with other settings.
        hook: called with the progress: "annotating" counts recordings, "writing" segments.

    Raises:
        UsageError: a wrong setting, or a folder that holds something else.
        NothingUsableError: no recording could be used; `run.json` says why.
    """
    job = replace(job, root=job.root.absolute(), out=job.out.absolute())  # a worker may run elsewhere
    _check(job.settings, device)  # what cannot be had shows before anything is written
    with scratch.held(), job.folder.claimed(job.record, overwrite):
        survey = _annotate(job, workers, engine, device, hook)
        record = _select_and_cut(job, survey, workers, engine, hook)
        record.write(job.folder.record_file)
    if not record.complete:
        raise NothingUsableError(_nothing_usable(job, record))
    return record


class Plan(NamedTuple):
    """What a run would do: recordings found, how many of them are to be annotated, and what would be skipped."""

    recordings: int
    to_annotate: int
    skipped: list[Problem]


def plan(job: Job) -> Plan:
    """Look at the corpus and at what is done, and write nothing."""
    conversations, problems = find(job)
    parts = chunks(job, conversations)
    return Plan(len(conversations), sum(len(group) for part, group in parts.items() if not is_done(part)), problems)


def _check(settings: ExtractionSettings, device: str) -> None:
    """Raise `UsageError` for annotators that cannot be had."""
    if settings.vad.backend != "transcript":
        vad.load(settings.vad, device)
    if settings.asr.model:
        fetch(settings.asr.whisper)


def _annotate(job: Job, workers: int, engine: str, device: str, hook: Hook) -> "Survey":
    """Annotate what has not been; returns what all annotations hold."""
    conversations, problems = find(job)
    parts = chunks(job, conversations)
    done = {part for part in parts if is_done(part)}
    todo = [(job, group, part, device) for part, group in parts.items() if part not in done]
    survey = Survey(job, conversations, problems, hook)
    for part in done:
        survey.read(part)
    for i, _ in run_tasks(annotate, todo, workers, engine):
        survey.read(todo[i][2])
    _remove_superseded(job.folder, parts)
    return survey


def _select_and_cut(job: Job, survey: "Survey", workers: int, engine: str, hook: Hook) -> Record:
    """Choose segments, write those that are not written, and the card; returns the record."""
    s = job.settings
    recordings = survey.usable()
    picks = {axis: select(recordings, axis, s.per_axis, s.seed, job.settings_hash) for axis in s.axes}
    split_of = assign_splits(recordings, s.splits, s.seed)
    shards = [shard for axis in s.axes for shard in plan_shards(job, axis, picks[axis], split_of)]
    for stale in set(job.folder.shards()) - {shard.path for shard in shards}:
        stale.unlink()
    reports = _write(job, shards, workers, engine, hook)
    survey.problems += dict.fromkeys(Problem(**each) for report in reports for each in report.get("problems", []))
    record = _record(job, survey, recordings, picks, split_of, list(zip(shards, reports, strict=True)))
    write_card(job.folder, record)
    return record


def find(job: Job) -> tuple[list[Conversation], list[Problem]]:
    """The recordings of the corpus, and what looks like one but is not."""
    conversations, problems = [], []
    for item in job.open_corpus().find():
        name = item.id if isinstance(item, Conversation) else item.source
        files = [*item.audio, *item.transcripts] if isinstance(item, Conversation) else []
        unprintable = next((each for each in (name, *map(str, files)) if each != _printable(each)), None)
        if unprintable is not None:
            detail = f"rename {_printable(unprintable)}"
            problems.append(Problem(_printable(name), "file name is not UTF-8", detail))
        elif isinstance(item, Problem):
            problems.append(item)
        else:
            conversations.append(item)
            if len(conversations) == job.settings.limit:
                break
    return conversations, problems


def _printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


class Survey:
    """Collects annotated recordings and their segments as the parts come in, in any order."""

    def __init__(self, job: Job, conversations: list[Conversation], problems: list[Problem], hook: Hook) -> None:
        self.job, self.problems, self.hook, self.total = job, problems, hook, len(conversations)
        self.found = len({c.id for c in conversations} | {p.source for p in problems})
        self.strangers = {c.id for c in conversations if not all(track.speaker for track in c.tracks)}
        self.done = 0
        self.annotated: dict[str, tuple[Annotated, frozenset[str]]] = {}
        self.facts: Counter[str] = Counter()
        self.warnings: list[Problem] = []
        self.words_dropped: Counter[str] = Counter()

    def read(self, part: Path) -> None:
        """Take in the rows of one part."""
        columns = [name for name in ANNOTATIONS.names if name != "words" or self.job.settings.trust.needs_words]
        table = read(part, columns)
        for row, spoken in zip(table.drop(["activity"]).to_pylist(), table["activity"], strict=True):
            self.done += 1
            for reason in (row["problem"], row["transcript_problem"]):
                if reason:
                    self.problems.append(Problem(row["recording_id"], reason, row["detail"]))
            if row["problem"] is None:
                self._add(row, activity_of(spoken), part)
        self.hook("annotating", self.done, self.total, dict(self.facts))

    def _add(self, row: dict[str, Any], activity: tuple[Intervals, Intervals], part: Path) -> None:
        evidence = evidence_of(row, activity)
        found = {
            (axis, user): screen(candidates, axis, evidence, self.job.settings.trust)
            for (axis, user), candidates in find_patterns(activity, self.job.settings, self.job.settings.axes).items()
        }
        dropped = {axis: Counter[str]() for axis in self.job.settings.axes}
        for (axis, _), candidates in found.items():
            dropped[axis].update(candidates.dropped)
            self.facts[axis] += len(candidates.kept)
        self.facts["hours"] += row["duration_s"] / 3600
        self.warnings += [
            Problem(row["recording_id"], each["reason"], each["detail"]) for each in row["warnings"] or []
        ]
        self.words_dropped.update({each["reason"]: each["count"] for each in row["words_dropped"] or []})
        recording = Annotated(
            row["recording_id"],
            part,
            (row["tracks"][0]["speaker"], row["tracks"][1]["speaker"]),
            row["duration_s"],
            {key: candidates.kept for key, candidates in found.items()},
            dropped,
        )
        self.annotated[recording.recording_id] = recording, frozenset(row["audio_hash"] or [recording.recording_id])

    def usable(self) -> list[Annotated]:
        """The recordings by name, each audio once."""
        first_with: dict[frozenset[str], str] = {}
        usable = []
        for name, (recording, audio) in sorted(self.annotated.items()):
            if first_with.setdefault(audio, name) == name:
                usable.append(recording)
            else:
                detail = f"the same samples as {first_with[audio]}"
                self.problems.append(Problem(name, "duplicate audio", detail))
        return usable


def _write(job: Job, shards: list[Shard], workers: int, engine: str, hook: Hook) -> list[dict[str, Any]]:
    """Write the shards that are not there yet; returns the report of each."""
    reports = {i: report for i, shard in enumerate(shards) if (report := finished(shard))}
    todo = [i for i in range(len(shards)) if i not in reports]
    total = sum(len(shard.picks) for shard in shards)
    facts: Counter[str] = Counter()

    def count(*done: Shard) -> None:
        for shard in done:
            facts[shard.picks[0].axis] += len(shard.picks)
        hook("writing", facts.total(), total, dict(facts))

    if shards:
        count(*(shards[i] for i in reports))
    for k, report in run_tasks(write_shard, [(job, shards[i]) for i in todo], workers, engine):
        reports[todo[k]] = report
        count(shards[todo[k]])
    return [reports[i] for i in range(len(shards))]


def _remove_superseded(folder: Folder, parts: dict[Path, list[Conversation]]) -> None:
    """Remove annotations of the same recordings that are not of this job; those of others stay of use."""
    names = {conversation.id for group in parts.values() for conversation in group}
    for path in set(folder.parts()) - parts.keys():
        try:
            others = set(read(path, ["recording_id"])["recording_id"].to_pylist())
        except SegkitError:
            others = names  # it is damaged
        if names & others:
            path.unlink()


def _record(
    job: Job,
    survey: Survey,
    recordings: list[Annotated],
    picks: dict[Axis, list[Pick]],
    split_of: dict[str, str],
    written: list[tuple[Shard, dict[str, Any]]],
) -> Record:
    """Settings, counts, and the reasons of everything that was dropped."""
    segments = {}
    for axis, chosen in picks.items():
        dropped: Counter[str] = Counter()
        splits: Counter[str] = Counter()
        for recording in recordings:
            dropped.update(recording.dropped[axis])
            dropped["over --per-axis"] += sum(len(recording.patterns[axis, user]) for user in (0, 1))
        dropped["over --per-axis"] -= len(chosen)
        for shard, report in written:
            if shard.picks[0].axis == axis:
                dropped.update(report["dropped"])
                splits[shard.split] += report["written"]
        segments[str(axis)] = AxisRecord(kept=splits.total(), splits=dict(splits), dropped=dict(+dropped))
    return Record(
        status="complete" if recordings else "nothing usable",
        job=job.record,
        settings_hash=job.settings_hash,
        recordings=Recordings(
            found=survey.found,
            used=len(recordings),
            hours=round(sum(r.duration_s for r in recordings) / 3600, 4),
            splits=dict(Counter(split_of.values())),
        ),
        segments=segments,
        words_dropped=dict(survey.words_dropped),
        recordings_of_unknown_speakers=len(survey.strangers & {r.recording_id for r in recordings}),
        warnings=_problems(survey.warnings),
        problems=_problems(survey.problems),
    )


def _problems(found: list[Problem]) -> Problems:
    return Problems.of([ProblemRecord(**asdict(problem)) for problem in found])


def _nothing_usable(job: Job, record: Record) -> str:
    if not record.problems.inputs:
        return (
            f"No recordings of the corpus {job.corpus!r} below {str(job.root)!r}. "
            f"`segkit corpora {job.corpus}` shows the layout that is expected."
        )
    counts = ", ".join(f"{reason} ({n})" for reason, n in Counter(record.problems.counts).most_common())
    return f"None of the recordings could be used: {counts}. {str(job.folder.record_file)!r} lists them all."
