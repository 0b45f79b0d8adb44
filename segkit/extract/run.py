"""The job from top to bottom: find, annotate, select, cut, and say what became of everything.

>>> job = Job("stereo", root=Path("calls"), out=Path("dataset"))
>>> report = run(job, workers=4)  # doctest: +SKIP
>>> report["segments"]["pause"]["kept"]  # doctest: +SKIP
812
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segkit.errors import NothingUsableError, UsageError, nearest
from segkit.extract.annotate import activity_of, annotate, chunks, is_done
from segkit.extract.card import write_card
from segkit.extract.cut import Shard, finished, plan_shards, write_shard
from segkit.extract.engine import ENGINES, run_tasks
from segkit.extract.job import Job, claimed
from segkit.extract.select import Annotated, Pick, assign_splits, select
from segkit.extract.words import evidence_of
from segkit.folders import write_text
from segkit.schemas import Axis, Conversation, Intervals, Problem, Settings
from segkit.schemas.arrow import ANNOTATIONS
from segkit.segmenters import vad
from segkit.segmenters.axes import find_patterns
from segkit.segmenters.transcription import fetch
from segkit.segmenters.trust import screen

Hook = Callable[[str, int, int, dict[str, float]], None]
"""Called as hook(stage, done, total, facts): "annotating" counts recordings, "writing" segments. The
facts are `hours` of audio done and, per axis, the segments found or written."""

Report = dict[str, Any]
"""What `run.json` holds."""


def run(
    job: Job,
    workers: int = 1,
    engine: str = "local",
    device: str = "cpu",
    overwrite: bool = False,
    hook: Hook = lambda stage, done, total, facts: None,
) -> Report:
    """Extract a dataset. A run that was interrupted goes on where it stopped when called again.

    Args:
        job: what to do.
        workers: processes on this machine.
        engine: "local" or "ray".
        device: where Silero runs: "cpu" or "cuda".
        overwrite: replace the segments of a run with other settings.
        hook: told about the progress.

    Raises:
        UsageError: a wrong setting, or a folder that holds something else.
        NothingUsableError: no recording could be used; `run.json` says why.
    """
    if engine not in ENGINES:
        raise UsageError(f"Unknown engine {engine!r}. {nearest(engine, ENGINES)}")
    job = replace(job, root=job.root.absolute(), out=job.out.absolute())  # a worker may run elsewhere
    _check(job.settings, device)  # a wrong setting shows before anything is written
    with claimed(job, overwrite):
        for draft in job.out.rglob("*.tmp"):  # of a process that was killed
            draft.unlink()
        survey = _annotate(job, workers, engine, device, hook)
        report = _select_and_cut(job, survey, workers, engine, hook)
        write_text(job.run_file, json.dumps(report, indent=2))
    if not report["recordings"]["used"]:
        raise NothingUsableError(_nothing_usable(job, survey.problems))
    return report


def _check(settings: Settings, device: str) -> None:
    """Raise `UsageError` for annotators that do not exist, or cannot be had."""
    by_transcript = settings.vad.backend == "transcript"
    if not by_transcript:
        vad.load(settings.vad, device)
    if settings.vad.model and settings.vad.backend != "pyannote":
        raise UsageError(f"Setting 'vad.model' got {settings.vad.model!r}. Expected it with --vad pyannote only.")
    if settings.asr.model:
        if by_transcript:
            raise UsageError("--transcribe needs speech that is heard. Expected another --vad than transcript.")
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
    _remove_superseded(job.annotations_dir, parts)
    return survey


def _select_and_cut(job: Job, survey: "Survey", workers: int, engine: str, hook: Hook) -> Report:
    """Choose segments, write those that are not written, and the card; returns the report."""
    recordings = survey.usable()
    picks = {axis: select(recordings, axis, job.per_axis, job.seed, job.settings_hash) for axis in job.axes}
    split_of = assign_splits(recordings, job.splits, job.seed)
    shards = [shard for axis in job.axes for shard in plan_shards(job, axis, picks[axis], split_of)]
    for path in job.data_dir.rglob("*.parquet"):
        if path not in {shard.path for shard in shards}:
            path.unlink()
    reports = _write(job, shards, workers, engine, hook)
    report = _report(job, survey, recordings, picks, split_of, list(zip(shards, reports, strict=True)))
    write_card(job, report)
    return report


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
            if len(conversations) == job.limit:
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
        self.words_dropped: Counter[str] = Counter()

    def read(self, part: Path) -> None:
        """Take in the rows of one part."""
        columns = [name for name in ANNOTATIONS.names if name != "words" or self.job.settings.trust.needs_words]
        table = pq.read_table(part, columns=columns)
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
            for (axis, user), candidates in find_patterns(activity, self.job.settings, self.job.axes).items()
        }
        dropped = {axis: Counter[str]() for axis in self.job.axes}
        for (axis, _), candidates in found.items():
            dropped[axis].update(candidates.dropped)
            self.facts[axis] += len(candidates.kept)
        self.facts["hours"] += row["duration_s"] / 3600
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

    def tell(*done: Shard) -> None:
        for shard in done:
            facts[shard.picks[0].axis] += len(shard.picks)
        hook("writing", facts.total(), total, dict(facts))

    if shards:
        tell(*(shards[i] for i in reports))
    for k, report in run_tasks(write_shard, [(job, shards[i]) for i in todo], workers, engine):
        reports[todo[k]] = report
        tell(shards[todo[k]])
    return [reports[i] for i in range(len(shards))]


def _remove_superseded(folder: Path, parts: dict[Path, list[Conversation]]) -> None:
    """Remove annotations of the same recordings that are not of this job; those of others stay of use."""
    names = {conversation.id for group in parts.values() for conversation in group}
    for path in set(folder.glob("*.parquet")) - parts.keys():
        try:
            others = set(pq.read_table(path, columns=["recording_id"])["recording_id"].to_pylist())
        except pa.ArrowInvalid:
            others = names  # it is damaged
        if names & others:
            path.unlink()


def _report(
    job: Job,
    survey: Survey,
    recordings: list[Annotated],
    picks: dict[Axis, list[Pick]],
    split_of: dict[str, str],
    written: list[tuple[Shard, dict[str, Any]]],
) -> Report:
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
        segments[str(axis)] = {"kept": splits.total(), "splits": dict(splits), "dropped": dict(+dropped)}
    problems = sorted(survey.problems, key=lambda p: (p.source, p.reason))
    return {
        "status": "complete" if recordings else "nothing usable",
        "job": job.identity(),
        "settings_hash": job.settings_hash,
        "recordings": {
            "found": survey.found,
            "used": len(recordings),
            "hours": round(sum(r.duration_s for r in recordings) / 3600, 4),
            "splits": dict(Counter(split_of.values())),
        },
        "segments": segments,
        "words_dropped": dict(survey.words_dropped),
        "recordings_of_unknown_speakers": len(survey.strangers & {r.recording_id for r in recordings}),
        "problems": {
            "counts": dict(Counter(p.reason for p in problems)),
            "list": [asdict(p) for p in problems],
        },
    }


def _nothing_usable(job: Job, problems: list[Problem]) -> str:
    if not problems:
        return (
            f"No recordings of the corpus {job.corpus!r} below {str(job.root)!r}. "
            f"`segkit corpora {job.corpus}` shows the layout that is expected."
        )
    counts = ", ".join(f"{reason} ({n})" for reason, n in Counter(p.reason for p in problems).most_common())
    return f"None of the recordings could be used: {counts}. {str(job.run_file)!r} lists them all."
