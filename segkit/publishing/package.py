"""The folder that is sent: a card, what `run.json` may say, and the dataset with audio or without.

It lies beside the dataset, which stays as it is. With audio it holds links to the files of the dataset, without it
copies. Of corpora that may not be passed on, copies have no words either, nor any detail of `run.json` that could quote
one; of the others, words stay.
"""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from segkit.dataset.folder import Folder
from segkit.dataset.record import JobRecord, Problems, Published, Record
from segkit.dataset.rows import columns_but_audio, in_batches, write_annotations, write_segments
from segkit.dataset.terms import Terms, terms
from segkit.errors import UsageError
from segkit.publishing.card import write_card
from segkit.publishing.gate import Share
from segkit.schemas.arrow import ANNOTATIONS
from segkit.storage import held, remove_drafts, whole, write_text

MARK = "published"


def prepare(out: Folder, name: str, found: list[Share], annotations_only: bool) -> Folder:
    """Make the folder to send, beside the dataset; returns it.

    Args:
        out: the dataset folder.
        name: of the dataset on the Hub, user/name.
        found: what is in it, with its terms.
        annotations_only: whether to leave out the audio.
    """
    if out.mark(MARK).exists():
        raise UsageError(f"{str(out.path)!r} was made by `segkit publish`, to be sent. Give the dataset that it is of.")
    folder = Folder(out.path.with_name(f"{out.path.name}-{'annotations' if annotations_only else 'published'}"))
    if folder.path.exists() and any(folder.path.iterdir()) and not folder.mark(MARK).exists():
        raise UsageError(f"{str(folder.path)!r} was not made by `segkit publish`. Move it: what is sent is put there.")
    folder.path.mkdir(exist_ok=True)
    with held(folder.path):
        remove_drafts(folder.path)
        write_text(folder.mark(MARK), "segkit publish writes here\n")
        _fill(folder, out, {share.terms for share in found if not share.may_be_shared}, annotations_only)
        write_card(folder, name, folder.record(), found)
    return folder


def _fill(folder: Folder, out: Folder, closed: set[Terms], annotations_only: bool) -> None:
    """Put the Parquet files and the record of a dataset into the folder to send, and nothing else."""
    sources = {folder.path / path.relative_to(out.path): path for path in out.shards() + out.parts()}
    for stale in set(folder.shards() + folder.parts()).difference(sources):
        stale.unlink()  # of an earlier dataset
    for target, source in sources.items():
        if annotations_only:
            _strip(source, target, closed, is_shard=source.is_relative_to(out.data))
        else:
            with whole(target) as draft:
                draft.symlink_to(source.resolve())
    record = out.record()
    gone = {each.corpus for each in closed} | set(record.published.words_removed_of if record.published else [])
    published = Published(audio=record.has_audio and not annotations_only, words_removed_of=sorted(gone))
    _without_quotes(record, published).write(folder.record_file)


def _strip(source: Path, target: Path, closed: set[Terms], is_shard: bool) -> None:
    """Copy a file without audio, and, where words may not be passed on, without words and what could quote them."""
    gone = {"words": None} if is_shard else {"words": None, "detail": None}
    rows = (
        row | (gone if terms(row["corpus"], row["licence"]) in closed else {})
        for some in in_batches(source, columns_but_audio() if is_shard else None, 512)
        for row in some
    )
    if is_shard:
        write_segments(target, rows)
    else:
        write_annotations(target, pa.Table.from_pylist(list(rows), schema=ANNOTATIONS))


def _without_quotes(record: Record, published: Published) -> Record:
    """The record as it is sent.

    The lists of problems and warnings can quote words, so only their counts go along; of files on the publisher's
    machine (a table of offsets, a model), only the names.
    """
    told = {"problems": record.problems, "warnings": record.warnings}
    if published.words_removed_of:
        told = {name: Problems(counts=each.counts) for name, each in told.items()}
    jobs = [each.model_copy(update={"job": _named_only(each.job)}) for each in record.merged or []] or None
    return record.model_copy(update={"job": _named_only(record.job), "published": published, "merged": jobs, **told})


def _named_only(job: JobRecord) -> JobRecord:
    return JobRecord.model_validate(_names_only(job.model_dump(mode="json")))


def _names_only(value: Any) -> Any:
    """Plain values with the folders of absolute paths taken away."""
    if isinstance(value, dict):
        return {key: _names_only(each) for key, each in value.items()}
    if isinstance(value, str):
        return re.sub(r"(^|:)/.*/", r"\1", value)
    return value
