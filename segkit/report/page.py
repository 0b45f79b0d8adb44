"""One self-contained HTML page about a dataset or a training run: to look at, to listen to, to pass on.

    write_report(Path("segments"), Path("report.html"))

Everything is inside the page: styles, script, pictures as SVG, and audio as MP3 (the user left, the agent right).
Times are seconds from the start of the segment; places in a picture are percent of its width.
"""

import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import segkit
from segkit.dataset import read_run, read_table, shards
from segkit.errors import UsageError
from segkit.folders import write_text
from segkit.report import training
from segkit.report.clip import COLUMNS, PIXELS_PER_S, of_file, of_segment
from segkit.report.picture import COLOURS, EVENT
from segkit.report.stats import Distribution, Statistics, statistics
from segkit.schemas import Axis


def write_report(source: Path, output: Path, per_axis: int = 10) -> None:
    """Write the page about a dataset folder, with up to `per_axis` segments of each axis, or about a training run.

    Raises:
        UsageError: the folder is neither, or there is nothing in it yet.
    """
    if per_axis < 1 or output.is_dir():
        raise UsageError(
            f"Got {per_axis} segments per axis and {str(output)!r}. Expected at least 1, and a file to write."
        )
    if training.is_run(source):
        page = _training_page(source)
    elif (source / "run.json").exists():
        page = _dataset_page(source, per_axis)
    else:
        raise UsageError(
            f"{str(source)!r} is no dataset folder (data/ and run.json) and no training run (config.json and "
            "metrics.jsonl). Expected a folder that `segkit extract` or `segkit align` wrote."
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, page)


def _render(**facts: Any) -> str:
    room = Environment(
        loader=PackageLoader("segkit.report", ""),
        autoescape=True,
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
    rows = [row for axis in Axis for row in _sample(out, axis, per_axis)]
    with ThreadPoolExecutor() as pool:  # most of the time is MP3, which needs no GIL
        clips = list(pool.map(of_segment, rows))
    return _render(
        kind="dataset",
        title=", ".join(dict.fromkeys(one.corpus for one in stats)),
        run=run,
        stats=stats,
        splits=splits,
        distributions=_distributions(out, stats),
        axes=[str(axis) for axis in Axis if any(one.axis == axis for one in stats)],
        clips=clips,
    )


def _distributions(out: Path, stats: list[Statistics]) -> dict[str, dict[str, dict[str, tuple[str, Distribution]]]]:
    """By corpus, axis and name: the unit, and the distribution. A `Distribution` of decibels is one of numbers."""
    columns = {"SNR of the user": "user_snr_db", "SNR of the agent": "agent_snr_db", "crosstalk": "bleed_db"}
    rows = read_table(out).select(["corpus", "axis", *columns.values()]).to_pylist()
    found: dict[str, dict[str, dict[str, tuple[str, Distribution]]]] = {}
    for one in stats:
        own = [row for row in rows if (row["corpus"], row["axis"]) == (one.corpus, one.axis)]
        shapes = {name: ("s", shape) for name, shape in one.lengths.items()}
        for name, column in columns.items():
            levels_db = [row[column] for row in own if row[column] is not None and math.isfinite(row[column])]
            if levels_db:
                shapes[name] = "dB", Distribution.of(levels_db)
        found.setdefault(one.corpus, {})[one.axis] = shapes
    return found


def _sample(out: Path, axis: Axis, count: int) -> Iterator[dict[str, Any]]:
    """Up to `count` rows of an axis, evenly spread over corpora, recordings and time; the same ones every time."""
    keys = ["corpus", "recording_id", "start_s", "id"]
    rows = sorted(read_table(out, axis).select(keys).to_pylist(), key=lambda row: [row[key] for key in keys])
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)) if rows else []
    wanted = [rows[i]["id"] for i in places]
    found = {
        row["id"]: row
        for path in shards(out, axis)
        for row in pq.read_table(path, filters=[("id", "in", wanted)]).to_pylist()
    }
    yield from (found[name] for name in wanted)


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
