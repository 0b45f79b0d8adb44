"""One self-contained HTML page about a dataset or a training run: to look at, to listen to, to pass on.

    write_report(Path("segments"), Path("report.html"))

Everything is inside the page: styles, script, pictures as SVG, and audio as MP3 (the user left, the agent right).
Times are seconds from the start of the segment; places in a picture are percent of its width.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import segkit
from segkit.dataset import read_run, read_table, readable, shards
from segkit.errors import UsageError
from segkit.folders import write_text
from segkit.report import training
from segkit.report.clip import COLUMNS, PIXELS_PER_S, of_file, of_segment
from segkit.report.picture import COLOURS, EVENT
from segkit.report.stats import statistics
from segkit.schemas import Axis

CONTROLS = dict.fromkeys([*range(0x09), 0x0B, *range(0x0E, 0x20), *range(0x7F, 0xA0)])
"""Characters that HTML forbids; left out of all texts."""


def write_report(source: Path, output: Path, per_axis: int = 10) -> None:
    """Write the page about a dataset folder, with up to `per_axis` segments of each axis, or about a training run.

    Raises:
        UsageError: the folder is neither, or there is nothing in it yet.
    """
    if per_axis < 1:
        raise UsageError(f"Got {per_axis} segments per axis. Expected at least 1.")
    is_run = training.is_run(source)
    if not is_run and not (source / "run.json").exists():
        raise UsageError(
            f"{str(source)!r} is no dataset folder (data/ and run.json) and no training run (config.json and "
            "metrics.jsonl). Expected a folder that `segkit extract` or `segkit align` wrote."
        )
    _make_room(output)
    write_text(output, _training_page(source) if is_run else _dataset_page(source, per_axis))


def _make_room(output: Path) -> None:
    """Make the folder of a file, and see that it can be written before the work, not after it."""
    try:
        if output.exists() and not output.is_file():
            raise UsageError(f"{str(output)!r} is a folder or a device. Expected a file to write, such as report.html.")
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise UsageError(f"{str(output)!r} cannot be written: {error.strerror}. Choose another place.") from error


def _render(**facts: Any) -> str:
    room = Environment(
        loader=PackageLoader("segkit.report", ""),
        autoescape=True,
        finalize=lambda value: value.translate(CONTROLS) if isinstance(value, str) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own = resources.files("segkit.report")
    css, js = (Markup((own / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    shared = {
        "css": css,
        "js": js,
        "colours": {**COLOURS, "event": EVENT},
        "version": segkit.__version__,
        "axis_keys": {str(axis): i for i, axis in enumerate(Axis, 1)},
    }
    return room.get_template("page.html").render(**shared, columns=COLUMNS, pixels_per_s=PIXELS_PER_S, **facts)


def _dataset_page(out: Path, per_axis: int) -> str:
    run = read_run(out)
    if "segments" not in run:
        raise UsageError(
            f"{str(out)!r} holds a run that has not come to its end. Start the same `segkit extract` again."
        )
    stats = statistics(out)
    splits = Counter[str]()
    for one in stats:
        splits.update(one.splits)
    with ThreadPoolExecutor() as pool:  # most of the time is MP3, which needs no GIL
        clips = list(pool.map(of_segment, _sample(out, per_axis)))
    return _render(
        kind="dataset",
        title=", ".join(dict.fromkeys(one.corpus for one in stats)),
        run=run,
        stats=stats,
        splits=splits,
        corpora=list(dict.fromkeys(one.corpus for one in stats)),
        axes=[str(axis) for axis in Axis if any(one.axis == axis for one in stats)],
        clips=clips,
    )


def _sample(out: Path, per_axis: int) -> list[dict[str, Any]]:
    """Up to `per_axis` rows of each axis with their audio, by axis, corpus, recording and time."""
    keys = ["axis", "corpus", "recording_id", "start_s", "id"]
    rows = read_table(out).select(keys).to_pylist()
    chosen = [row for axis in Axis for row in _in_turn([row for row in rows if row["axis"] == axis])[:per_axis]]
    wanted = pa.array([row["id"] for row in chosen], pa.string())
    found: list[dict[str, Any]] = []
    for path in shards(out):
        with readable(path):
            file = pq.ParquetFile(path)
            for i in range(file.num_row_groups):  # audio is read where a wanted row is, and nowhere else
                here = pc.is_in(file.read_row_group(i, columns=["id"])["id"], wanted)
                found += file.read_row_group(i).filter(here).to_pylist() if pc.any(here).as_py() else []
    axes = list(map(str, Axis))
    return sorted(found, key=lambda row: [axes.index(row["axis"]), *[row[key] for key in keys[1:]]])


def _in_turn(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Corpora take turns, and in each its recordings; else by `id`, a hash: chance, but the same every time."""
    rows = sorted(rows, key=lambda row: row["id"])
    for keys in (("corpus", "recording_id"), ("corpus",)):
        seen = Counter[tuple[str, ...]]()
        turns = []
        for row in rows:
            group = tuple(row[key] for key in keys)
            turns.append(seen[group])
            seen[group] += 1
        rows = [rows[i] for i in sorted(range(len(rows)), key=turns.__getitem__)]
    return rows


def _training_page(folder: Path) -> str:
    run = training.read(folder)
    clips = {
        axis: [
            of_file(
                one.path,
                f"{axis}-{one.step}",
                axis,
                f"step {one.step}",
                {"split": one.split, "segment": one.segment_id, "reward": f"{one.reward:+.2f}"},
            )
            for one in samples
        ]
        for axis, samples in run.samples.items()
    }
    return _render(kind="training", title=folder.resolve().name, run=run, clips=clips)
