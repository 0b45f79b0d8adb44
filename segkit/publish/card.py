"""The card of a published dataset: terms, sources, statistics, limits, and how to load and rebuild it."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.filesize import decimal

from segkit import corpora
from segkit.extract.card import fields, front_matter
from segkit.folders import write_text
from segkit.publish.gate import Share
from segkit.report import stats
from segkit.report.stats import BINS, Statistics
from segkit.schemas import SPLITS

PICTURE = "statistics.png"
SPDX_ON_THE_HUB = {"apache-2.0", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit"}
"""Licences that the Hub knows by these names; others are "other", with their name."""

METHOD = "Ohashi, Zeghidour, Défossez, Kharitonov (2026), arXiv 2606.11167"

LIMITS = """\
- Speech is where a detector or a transcript says so: boundaries are off by some hundredths of a second, and lengths
  next to a threshold fall to either side of it.
- A segment shows a form (a pause, a short gap, a short utterance), not an intention: a backchannel here is whatever is
  short, an interruption whatever starts before the other has ended.
- Where one speaker is heard on the other's channel (`bleed_db`), speech of one can be taken for speech of both.
- Splits keep speakers apart as far as the corpus names them."""


def write_card(folder: Path, name: str, run: dict[str, Any], found: list[Share], published: dict[str, Any]) -> None:
    """Write `README.md` and the picture in it.

    Args:
        folder: that is sent, with its Parquet files in place.
        name: of the dataset on the Hub.
        run: what `run.json` holds.
        found: the corpora and their terms.
        published: whether there is audio, and of which corpora words are missing.
    """
    numbers = stats.statistics(folder)
    draw(numbers).savefig(folder / PICTURE)
    licences = {share.licence.lower() for share in found}
    known = len(licences) == 1 and licences <= SPDX_ON_THE_HUB
    licence = f"license: {next(iter(licences))}\n" if known else f"license: other\nlicense_name: {_names(found)}\n"
    size = f'size_categories: ["{_category(sum(s.segments for s in numbers))}"]\n'
    axes = list(dict.fromkeys(s.axis for s in numbers))
    splits = {
        axis: [split for split in SPLITS if any(s.splits[split] for s in numbers if s.axis == axis)] for axis in axes
    }
    parts = [_title(name, run, published), _terms(name, found, published), _load(name, folder, axes)]
    parts += [] if published["audio"] else [_rebuild(name, found)]
    parts += [_statistics(numbers), f"## Known limits\n\n{LIMITS}", _settings(run), fields()]
    write_text(folder / "README.md", front_matter(splits, licence + size) + "\n" + "\n\n".join(parts) + "\n")


def _category(rows: int) -> str:
    """How the Hub names sizes."""
    marks = ["1K", "10K", "100K", "1M", "10M"]
    place = max(len(str(rows)) - 3, 0)
    return f"{marks[place - 1]}<n<{marks[place]}" if place else f"n<{marks[0]}"


def _names(found: list[Share]) -> str:
    return json.dumps(", ".join(sorted({share.licence for share in found})))


def _title(name: str, run: dict[str, Any], published: dict[str, Any]) -> str:
    what = (
        "with audio" if published["audio"] else "without audio: times, labels and events, to be rebuilt from the corpus"
    )
    return f"""# {name}

Segments of two-party conversations that show one behaviour each (a pause, a turn, a backchannel, an interruption),
{what}. Made with segkit {run["job"]["segkit"]} after {METHOD}."""


def _terms(name: str, found: list[Share], published: dict[str, Any]) -> str:
    lines = [
        "## Sources and terms",
        "",
        "| corpus | segments | licence of the recordings | cite | get it |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {s.corpus} | {s.segments:,} | {s.licence} | {s.citation} | {s.how_to_get_it} |" for s in found]
    what, who = "Audio and words" if published["audio"] else "Words", name.partition("/")[0]
    lines += [
        f"\n{what} of {s.corpus} are passed on under {s.licence}. {who} declares: {s.declared.reason}"
        for s in found
        if s.declared
    ]
    if published["words_removed_of"]:
        lines += [f"\nThe words of {', '.join(published['words_removed_of'])} are not in here."]
    return "\n".join([*lines, f"\nCite the corpora, and the method: {METHOD}."])


def _load(name: str, folder: Path, axes: list[str]) -> str:
    sizes = {axis: f"data/{axis}/*.parquet" for axis in axes} | {"annotations": "annotations/*.parquet"}
    lines = [
        f"| {config} | {decimal(sum(path.stat().st_size for path in folder.glob(files)))} |"
        for config, files in sizes.items()
    ]
    table = "\n".join(["| config | size |", "|---|---|", *lines])
    return f"""## Load it

```python
from datasets import load_dataset

segments = load_dataset("{name}", "{axes[0]}")
```

{table}

`annotations` has one row per recording: who speaks when."""


def _rebuild(name: str, found: list[Share]) -> str:
    made = {s.corpus for s in found if s.corpus in corpora.names() and not corpora.get(s.corpus).needs_root}
    commands = [
        f"segkit hydrate {name} /path/to/{s.corpus} -o {s.corpus}-segments --corpus {s.corpus}"
        for s in found
        if s.corpus not in made
    ]
    text = "With a copy of the corpus, segkit writes the whole dataset: the same rows, and the same samples, checked."
    parts = [text, "```bash\n" + "\n".join(commands) + "\n```"] if commands else []
    parts += [f"The corpus {corpus} is made, not copied: extract it again with the settings below." for corpus in made]
    return "\n\n".join(["## Rebuild the audio", *parts])


def _statistics(numbers: list[Statistics]) -> str:
    lines = ["## Statistics", "", f"![Distributions]({PICTURE})", ""]
    lines += [
        "| corpus | axis | segments | train | validation | test | recordings | hours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for s in numbers:
        counts = " | ".join(f"{s.splits[split]:,}" for split in SPLITS)
        lines.append(f"| {s.corpus} | {s.axis} | {s.segments:,} | {counts} | {s.recordings:,} | {s.hours:.2f} |")
    return "\n".join(lines)


def _settings(run: dict[str, Any]) -> str:
    return f"## Settings\n\n```json\n{json.dumps(run['job'], indent=2)}\n```"


def draw(numbers: list[Statistics]) -> Figure:
    """Histograms of the lengths per axis, seconds; one row for each axis of each corpus."""
    columns = max((len(s.lengths) for s in numbers), default=1)
    figure = Figure(figsize=(2.6 * columns, 1.5 * max(len(numbers), 1)), dpi=110, layout="constrained")
    grid = figure.subplots(max(len(numbers), 1), columns, squeeze=False)
    for row, s in zip(grid, numbers, strict=False):
        for axes, (name, lengths) in zip(row, s.lengths.items(), strict=False):
            low, high = lengths.histogram_range
            width = (high - low) / BINS
            axes.bar([low + (i + 0.5) * width for i in range(BINS)], lengths.histogram, width, color="#2563a8")
            axes.set_title(f"{s.corpus}, {s.axis}: {name} ({lengths.count:,})", fontsize=7)
            axes.tick_params(labelsize=6)
            axes.set_yticks([])
    for axes in grid.flat:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_visible(axes.has_data())
    return figure
