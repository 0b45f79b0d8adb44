"""The folder that is sent: a card, what `run.json` may tell, and the dataset with audio or without.

It lies beside the dataset, which stays as it is. With audio it holds links to the files of the dataset, without it
copies. Of corpora that may not be passed on, copies have no words either, nor any detail of `run.json` that could quote
one; of the others, words stay.
"""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segkit.dataset import has_audio, read_run
from segkit.errors import UsageError
from segkit.extract.cut import file_schema
from segkit.folders import write_text
from segkit.publish.card import write_card
from segkit.publish.gate import Share
from segkit.schemas.arrow import ANNOTATIONS

SENT = ("README.md", "run.json", "statistics.png", "data/*/*.parquet", "annotations/*.parquet")
"""What a dataset repository consists of."""
MARK = ".published"
"""A file, not sent, that tells a folder of ours from others."""


def files(folder: Path) -> list[Path]:
    """What would be sent of a folder, in a stable order."""
    return sorted({path for pattern in SENT for path in folder.glob(pattern)})


def prepare(out: Path, name: str, found: list[Share], annotations_only: bool) -> Path:
    """Make the folder to send, beside the dataset; returns it.

    Args:
        out: the dataset folder.
        name: of the dataset on the Hub, user/name.
        found: the corpora in it, with their terms.
        annotations_only: whether to leave out the audio.
    """
    run = read_run(out)
    if run.get("status") != "complete":
        raise UsageError(f"{str(out)!r} is not finished. Run the same `segkit extract` again first.")
    if (out / MARK).exists():
        raise UsageError(f"{str(out)!r} was made by `segkit publish`, to be sent. Give the dataset that it is of.")
    folder = out.with_name(f"{out.name}-{'annotations' if annotations_only else 'published'}")
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise UsageError(f"{str(folder)!r} was not made by `segkit publish`. Move it: what is sent is put there.")
    folder.mkdir(exist_ok=True)
    write_text(folder / MARK, "segkit publish writes here\n")
    closed = {share.corpus for share in found if not share.may_be_shared}
    sources = {folder / path.relative_to(out): path for path in files(out) if path.suffix == ".parquet"}
    for stale in set(folder.rglob("*.parquet")).difference(sources):
        stale.unlink()  # of a former dataset
    for target, source in sources.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        if annotations_only:
            _strip(source, target, closed)
        else:
            target.unlink(missing_ok=True)
            target.symlink_to(source.resolve())
    gone = closed | set(run.get("published", {}).get("words_removed_of", []))
    published = {"audio": has_audio(run) and not annotations_only, "words_removed_of": sorted(gone)}
    run = _without_quotes(run, published)
    write_text(folder / "run.json", json.dumps(run, indent=2))
    write_card(folder, name, run, found, published)
    return folder


def _strip(source: Path, target: Path, closed: set[str]) -> None:
    """Copy a file without audio, and without words of some corpora."""
    segments = source.parent.parent.name == "data"
    schema = file_schema() if segments else ANNOTATIONS
    draft = target.with_suffix(".tmp")
    with (
        pq.ParquetFile(source) as file,
        pq.ParquetWriter(draft, schema, compression="zstd", write_page_index=True) as writer,
    ):
        columns = [name for name in schema.names if name not in ("user", "agent")]
        for batch in file.iter_batches(batch_size=512, columns=columns):
            rows = batch.to_pylist()
            for row in rows:
                if row["corpus"] in closed:
                    row["words"] = None
                    row |= {} if segments else {"detail": None}
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    draft.replace(target)


def _without_quotes(run: dict[str, Any], published: dict[str, Any]) -> dict[str, Any]:
    """`run.json` as it is sent.

    The list of problems can quote words, so only their counts go along; of files on the publisher's machine (a table of
    offsets, a model), only the names.
    """
    problems = dict(run["problems"])
    if published["words_removed_of"]:
        problems["list"] = []
    return run | {"job": _names_only(run["job"]), "problems": problems, "published": published}


def _names_only(value: Any) -> Any:
    """Plain values with the folders of absolute paths taken away."""
    if isinstance(value, dict):
        return {key: _names_only(each) for key, each in value.items()}
    if isinstance(value, str):
        return re.sub(r"(^|:)/.*/", r"\1", value)
    return value
