"""The dataset card: `README.md` with the front matter that makes the folder loadable by axis."""

import json
from collections.abc import Iterable

from huggingface_hub import DatasetCardData

from segkit.dataset.folder import PARTS, SHARDS, Folder
from segkit.dataset.record import Record
from segkit.dataset.terms import Terms, terms_in
from segkit.schemas import SPLITS, Axis
from segkit.schemas.arrow import SEGMENTS, describe
from segkit.storage import write_text

SPDX_ON_THE_HUB = {"apache-2.0", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit"}
"""Licences that the Hub knows by these names; others are "other", with their name."""

METHOD = "Ohashi, Zeghidour, Défossez, Kharitonov (2026), arXiv 2606.11167"


def write_card(folder: Folder, record: Record) -> None:
    """Write the card of a dataset that is not published: what is inside, how it was made, and how to load it."""
    found = terms_in(folder)
    axes = [axis for axis, counts in record.segments.items() if counts.kept] or ["pause"]
    what = "short segments of conversations that show one behaviour each, two mono tracks"
    title = f"# Segments of two-party conversations: {record.job.corpus}\n\n{made_with(record, what)}"
    amount = f"{record.recordings.used} recordings, {record.recordings.hours:.2f} h."
    parts = [
        title,
        load("path/of/this/folder", axes[0]),
        counts_of(record),
        terms_table([(each, each.licence, segments) for each, segments in found.items()]),
        amount,
        settings(record),
    ]
    write_text(
        folder.card, "\n\n".join([front_matter(folder, [each.licence for each in found]), *parts, fields()]) + "\n"
    )


def front_matter(folder: Folder, licences: Iterable[str], rows: int | None = None) -> str:
    """What the Hub reads: licence, size, and one config per axis that has files, and one for the annotations."""
    configs = [
        {
            "config_name": str(axis),
            "data_files": [
                {"split": split, "path": SHARDS.format(axis=axis, split=split)}
                for split in SPLITS
                if folder.shards(axis, split)
            ],
        }
        for axis in Axis
        if folder.shards(axis)
    ]
    annotations = {"config_name": "annotations", "data_files": [{"split": "train", "path": PARTS}]}
    names = sorted(set(licences))
    known = len(names) == 1 and names[0].lower() in SPDX_ON_THE_HUB
    data = DatasetCardData(
        license=names[0].lower() if known else "other",
        license_name=None if known else ", ".join(names),
        size_categories=None if rows is None else [size_category(rows)],
        tags=["segkit", "full-duplex"],
        configs=[*configs, annotations],
        ignore_metadata_errors=False,
    )
    return f"---\n{data.to_yaml()}\n---"


def size_category(rows: int) -> str:
    """How the Hub names sizes.

    >>> size_category(999), size_category(1000), size_category(54321)
    ('n<1K', '1K<n<10K', '10K<n<100K')
    """
    marks = ["1K", "10K", "100K", "1M", "10M"]
    place = max(len(str(rows)) - 3, 0)
    return f"{marks[place - 1]}<n<{marks[place]}" if place else f"n<{marks[0]}"


def made_with(record: Record, what: str) -> str:
    """A sentence on what it is and where it is from."""
    return (
        f"Made with segkit {record.job.segkit} after {METHOD}: {what}, `user` and `agent`, with the context in front."
    )


def load(name: str, axis: str) -> str:
    """How to load an axis."""
    return f"""## Load it

```python
from datasets import load_dataset

segments = load_dataset("{name}", "{axis}")
```

`annotations` has one row per recording: who speaks when, and the words. `run.json` has all settings, and counts and
reasons of what was dropped."""


def counts_of(record: Record) -> str:
    """The table of axes."""
    rows = [
        f"| {axis} | {counts.kept} | {', '.join(f'{split} {n}' for split, n in counts.splits.items())} |"
        for axis, counts in record.segments.items()
    ]
    return "\n".join(["| axis | segments | splits |", "|---|---|---|", *rows])


def terms_table(found: Iterable[tuple[Terms, str, int]]) -> str:
    """Who made the recordings: terms, the licence by which they are passed on, and the number of segments of each."""
    rows = [
        f"| {each.corpus} | {segments:,} | {licence} | {each.citation} | {each.how_to_get_it} |"
        for each, licence, segments in found
    ]
    heads = ["| corpus | segments | licence of the recordings | cite | get it |", "|---|---|---|---|---|"]
    return "\n".join(["## Sources and terms", "", *heads, *rows])


def settings(record: Record) -> str:
    """All that decided what is inside."""
    jobs = [(each.name, each.job) for each in record.merged or []] or [("", record.job)]
    blocks = [
        f"{name}\n\n```json\n{json.dumps(job.model_dump(mode='json'), indent=2)}\n```".strip() for name, job in jobs
    ]
    return "\n\n".join(["## Settings", *blocks])


def fields() -> str:
    """The table of all fields of a segment."""
    rows = "\n".join(f"| `{name}` | {text} |" for name, text in describe(SEGMENTS).items())
    return f"## Fields\n\n| field | meaning |\n|---|---|\n{rows}"
