"""The card of a published dataset: terms, sources, statistics, limits, and how to load and rebuild it."""

from matplotlib.figure import Figure
from rich.filesize import decimal

from segkit import corpora
from segkit.dataset import card
from segkit.dataset.dataset import Dataset
from segkit.dataset.folder import Folder
from segkit.dataset.record import Record
from segkit.dataset.statistics import BINS, Statistics
from segkit.publishing.gate import Share
from segkit.schemas import SPLITS
from segkit.storage import write_text

LIMITS = """\
- Speech is where a detector or a transcript says so: boundaries are off by some hundredths of a second, and lengths
  next to a threshold fall to either side of it.
- A segment shows a form (a pause, a short gap, a short utterance), not an intention: a backchannel here is whatever is
  short, an interruption whatever starts before the other has ended.
- Where one speaker is heard on the other's channel (`bleed_db`), speech of one can be taken for speech of both.
- Splits keep speakers apart as far as the corpus names them."""


def write_card(folder: Folder, name: str, record: Record, found: list[Share]) -> None:
    """Write `README.md` and the picture in it.

    Args:
        folder: that is sent, with its Parquet files and its record in place.
        name: of the dataset on the Hub.
        record: of the dataset, with what was published of it.
        found: what is in it, with its terms.
    """
    numbers = Dataset(folder.path).statistics()
    draw(numbers).savefig(folder.picture)
    front_matter = card.front_matter(folder, {s.licence for s in found}, sum(s.segments for s in numbers))
    axes = list(dict.fromkeys(s.axis for s in numbers))
    parts = [_title(name, record), _terms(name, found, record), _load(name, folder, axes)]
    parts += [] if record.has_audio else [rebuild(name, list(dict.fromkeys(share.corpus for share in found)))]
    parts += [_statistics(folder, numbers), f"## Known limits\n\n{LIMITS}", card.settings(record), card.fields()]
    write_text(folder.card, "\n\n".join([front_matter, *parts]) + "\n")


def _title(name: str, record: Record) -> str:
    audio = (
        "with audio" if record.has_audio else "without audio: times, labels and events, to be rebuilt from the corpus"
    )
    return f"""# {name}

Segments of two-party conversations that show one behaviour each (a pause, a turn, a backchannel, an interruption),
{audio}. Made with segkit {record.job.segkit} after {card.METHOD}."""


def _terms(name: str, found: list[Share], record: Record) -> str:
    what, who = "Audio and words" if record.has_audio else "Words", name.partition("/")[0]
    lines = [card.terms_table([(share.terms, share.licence, share.segments) for share in found])]
    lines += [
        f"{what} of {s.corpus} are passed on under {s.licence}. {who} declares: {s.declared.reason}"
        for s in found
        if s.declared
    ]
    if record.published and record.published.words_removed_of:
        lines += [f"The words of {', '.join(record.published.words_removed_of)} are not in here."]
    return "\n\n".join([*lines, f"Cite the corpora, and the method: {card.METHOD}."])


def _load(name: str, folder: Folder, axes: list[str]) -> str:
    sizes = {axis: folder.shards(axis) for axis in axes} | {"annotations": folder.parts()}
    rows = [f"| {name} | {decimal(sum(path.stat().st_size for path in paths))} |" for name, paths in sizes.items()]
    table = "\n".join(["| config | size |", "|---|---|", *rows])
    return f"{card.load(name, axes[0])}\n\n{table}"


def rebuild(name: str, names: list[str]) -> str:
    made = [each for each in names if each in corpora.names() and not corpora.get(each).needs_root]
    commands = [
        f"segkit hydrate {name} /path/to/{each} -o {each}-segments --corpus {each}"
        for each in names
        if each not in made
    ]
    text = "With a copy of the corpus, segkit writes the whole dataset: the same rows, and the same samples, checked."
    parts = [text, "```bash\n" + "\n".join(commands) + "\n```"] if commands else []
    parts += [f"The corpus {corpus} is made, not copied: extract it again with the settings below." for corpus in made]
    return "\n\n".join(["## Rebuild the audio", *parts])


def _statistics(folder: Folder, numbers: list[Statistics]) -> str:
    lines = ["## Statistics", "", f"![Distributions]({folder.picture.name})", ""]
    lines += [
        "| corpus | axis | segments | train | validation | test | recordings | hours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for s in numbers:
        counts = " | ".join(f"{s.splits[split]:,}" for split in SPLITS)
        lines.append(f"| {s.corpus} | {s.axis} | {s.segments:,} | {counts} | {s.recordings:,} | {s.hours:.2f} |")
    return "\n".join(lines)


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
