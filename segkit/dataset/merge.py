"""Several datasets as one: the same files in one folder, with a record that says where they are from.

Rows are not changed, so files are copied as they are. The datasets have to agree on what a segment is: whatever reads
the result (statistics, the rewards of `segkit align`) reads it with one set of thresholds.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segkit.dataset.card import write_card
from segkit.dataset.dataset import Dataset
from segkit.dataset.folder import Folder
from segkit.dataset.record import AxisRecord, JobRecord, Merged, ProblemRecord, Problems, Published, Record, Recordings
from segkit.dataset.rows import read
from segkit.errors import UsageError
from segkit.schemas import SPLITS, Axis
from segkit.storage import changes, whole
from segkit.tasks import Hook, nobody

COMMON = ("schema_", "settings", "context_s", "rate_hz", "annotations_only")
"""What the jobs of merged datasets have in common."""


def merge(sources: Sequence[Dataset], out: Folder, hook: Hook = nobody) -> Record:
    """Write a dataset with all segments and recordings of others; returns its record.

    Args:
        sources: two or more.
        out: the folder to write: new, or of a merge of the same datasets that was interrupted.
        hook: called with the number of files done, as the stage "merging".

    Raises:
        UsageError: the datasets do not fit together, or the folder holds something else.
    """
    _expect_fitting(sources)
    job = _job(sources)
    with out.claimed(job):
        copies = _copies(sources, out)
        for stale in set(out.shards() + out.parts()) - {target for _, target in copies}:
            stale.unlink()
        for done, (source, target) in enumerate(copies, 1):
            with whole(target) as draft:
                shutil.copyfile(source, draft)
            hook("merging", done, len(copies))
        record = _record(sources, job)
        write_card(out, record)
        record.write(out.record_file)
    return record


def _copies(sources: Sequence[Dataset], out: Folder) -> list[tuple[Path, Path]]:
    """Each file with its place in the new dataset: shards of an axis and a split are numbered through."""
    copies = [(part, out.annotations / part.name) for each in sources for part in each.folder.parts()]
    for axis in Axis:
        for split in SPLITS:
            shards = [path for each in sources for path in each.folder.shards(axis, split)]
            copies += [(path, out.shard(axis, split, i, len(shards))) for i, path in enumerate(shards)]
    return copies


def _expect_fitting(sources: Sequence[Dataset]) -> None:
    if len(sources) < 2:
        raise UsageError(f"Got {len(sources)} dataset. Expected two or more to merge.")
    for other in sources[1:]:
        _expect_same_settings(sources[0], other)
    _expect_once("recordings", sources, lambda folder: folder.parts(), ["corpus", "recording_id"])
    _expect_one_split_per_speaker(sources)
    _expect_once("segments", sources, lambda folder: folder.shards(), ["id"])
    _expect_one_way_to_read(sources)


def _expect_same_settings(first: Dataset, other: Dataset) -> None:
    jobs = [each.record.job.model_dump(mode="json", include={*COMMON}) for each in (first, other)]
    kinds = [{"audio": each.has_audio, **job} for each, job in zip((first, other), jobs, strict=True)]
    if changed := changes(*kinds):
        raise UsageError(
            f"{str(first.path)!r} and {str(other.path)!r} were made with other settings ({changed}). Expected the "
            "same: extract one of them again."
        )


def _expect_once(
    what: str, sources: Sequence[Dataset], files: Callable[[Folder], list[Path]], columns: list[str]
) -> None:
    """Refuse rows that have the same values in some columns."""
    counts = Counter[str]()
    for each in sources:
        for path in files(each.folder):
            counts.update(" ".join(map(str, row.values())) for row in read(path, columns).to_pylist())
    if twice := [name for name, count in counts.items() if count > 1]:
        raise UsageError(f"The datasets have {len(twice)} {what} in common, such as {twice[0]}. Expected none.")


def _expect_one_split_per_speaker(sources: Sequence[Dataset]) -> None:
    split_of: dict[tuple[str, str], str] = {}
    for each in sources:
        for path in each.folder.shards():
            for row in read(path, ["corpus", "split", "user_speaker", "agent_speaker"]).to_pylist():
                for speaker in (row["user_speaker"], row["agent_speaker"]):
                    found = split_of.setdefault((row["corpus"], speaker), row["split"])
                    if found != row["split"]:
                        raise UsageError(
                            f"{speaker!r} of {row['corpus']} would be in two splits, {found} and {row['split']}. "
                            "Expected each speaker in one: extract the recordings together."
                        )


def _expect_one_way_to_read(sources: Sequence[Dataset]) -> None:
    options: dict[str, dict[str, Any]] = {}
    for job in (each.job for source in sources for each in _sources_of(source)):
        if changed := changes(options.setdefault(job.corpus, job.options), job.options):
            raise UsageError(
                f"The corpus {job.corpus} was read with two sets of options ({changed}). Expected one, by which its "
                "audio can be rebuilt."
            )


def _sources_of(dataset: Dataset) -> list[Merged]:
    """Where a dataset is from: itself, or what was merged into it."""
    r = dataset.record
    own = Merged(name=dataset.path.name, fingerprint=r.fingerprint, job=r.job, settings_hash=r.settings_hash)
    return r.merged or [own]


def _job(sources: Sequence[Dataset]) -> JobRecord:
    jobs = [each.record.job for each in sources]
    corpora = ", ".join(dict.fromkeys(job.corpus for job in jobs))
    axes = [axis for axis in Axis if any(axis in job.axes for job in jobs)]
    return jobs[0].model_copy(
        update={
            "corpus": corpora,
            "options": {"merged": [each.record.fingerprint for each in sources]},
            "axes": axes,
            "per_axis": sum(job.per_axis for job in jobs),
            "limit": None,
        }
    )


def _record(sources: Sequence[Dataset], job: JobRecord) -> Record:
    records = [each.record for each in sources]
    gone = {name for r in records if r.published for name in r.published.words_removed_of}
    published = Published(audio=records[0].has_audio, words_removed_of=sorted(gone))
    return Record(
        status="complete",
        job=job,
        settings_hash=", ".join(dict.fromkeys(r.settings_hash for r in records)),
        recordings=Recordings(
            found=sum(r.recordings.found for r in records),
            used=sum(r.recordings.used for r in records),
            hours=round(sum(r.recordings.hours for r in records), 4),
            splits=_summed(r.recordings.splits for r in records),
        ),
        segments={
            axis: AxisRecord(
                kept=sum(r.segments[axis].kept for r in records if axis in r.segments),
                splits=_summed(r.segments[axis].splits for r in records if axis in r.segments),
                dropped=_summed(r.segments[axis].dropped for r in records if axis in r.segments),
            )
            for axis in job.axes
        },
        words_dropped=_summed(r.words_dropped for r in records),
        recordings_of_unknown_speakers=sum(r.recordings_of_unknown_speakers for r in records),
        warnings=_all(r.warnings for r in records),
        problems=_all(r.problems for r in records),
        published=published if any(r.published for r in records) else None,
        merged=[each for source in sources for each in _sources_of(source)],
    )


def _all(problems: Iterable[Problems]) -> Problems:
    return Problems.of([ProblemRecord(**each.model_dump()) for some in problems for each in some.inputs])


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total = Counter[str]()
    for each in counts:
        total.update(each)
    return dict(total)
