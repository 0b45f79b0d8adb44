"""The dataset card: `README.md` with the front matter that makes the folder loadable by axis."""

import json
from typing import Any

from segkit import corpora
from segkit.extract.job import Job
from segkit.folders import write_text
from segkit.schemas.arrow import SEGMENTS, describe
from segkit.schemas.settings import as_json


def write_card(job: Job, report: dict[str, Any]) -> None:
    """Write the card of a finished run; `report` is what `run.json` holds."""
    splits = {axis: list(counts["splits"]) for axis, counts in report["segments"].items()}
    write_text(job.out / "README.md", front_matter(splits) + body(job, report))


def front_matter(splits: dict[str, list[str]], more: str = "") -> str:
    """YAML: one config per axis that has segments, with its splits, and one for the annotations; more lines."""
    configs = []
    for axis, names in splits.items():
        if files := [{"split": split, "path": f"data/{axis}/{split}-*.parquet"} for split in names]:
            configs.append({"config_name": axis, "data_files": files})
    annotations = [{"split": "train", "path": "annotations/*.parquet"}]
    configs.append({"config_name": "annotations", "data_files": annotations})
    # JSON is YAML: no second serialiser for twenty lines
    return f'---\n{more}configs: {json.dumps(configs, indent=2)}\ntags: ["segkit", "full-duplex"]\n---\n'


def fields() -> str:
    """The table of all fields of a segment."""
    rows = "\n".join(f"| `{name}` | {text} |" for name, text in describe(SEGMENTS).items())
    return f"## Fields\n\n| field | meaning |\n|---|---|\n{rows}"


def body(job: Job, report: dict[str, Any]) -> str:
    """What is inside, how it was made, and how to load it."""
    corpus = corpora.get(job.corpus)
    axes = "\n".join(
        f"| {axis} | {counts['kept']} | " + ", ".join(f"{split} {n}" for split, n in counts["splits"].items()) + " |"
        for axis, counts in report["segments"].items()
    )
    first = next((axis for axis, counts in report["segments"].items() if counts["kept"]), "pause")
    return f"""
# Segments of two-party conversations: {job.corpus}

Made with segkit {report["job"]["segkit"]} after arXiv 2606.11167: short segments of
conversations that show one behaviour each. Every segment has two mono tracks,
`user` and `agent`, with the context in front.

```python
from datasets import load_dataset

segments = load_dataset("path/of/this/folder", "{first}")
```

| axis | segments | splits |
|---|---|---|
{axes}

Source: {corpus.title} ({report["recordings"]["used"]} recordings, {report["recordings"]["hours"]:.2f} h).
Licence of the source: {corpus.licence}. Citation: {corpus.citation}.
`annotations` holds one row per recording: who spoke when, and the words. `run.json` holds all
settings, and counts and reasons of what was dropped.

## Settings

```json
{json.dumps(as_json(job.settings), indent=2)}
```

{fields()}
"""
