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

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import segkit
from segkit.dataset.dataset import Dataset
from segkit.dataset.folder import Folder
from segkit.errors import UsageError
from segkit.reporting import training
from segkit.reporting.clip import COLUMNS, PIXELS_PER_S, of_file, of_segment
from segkit.reporting.picture import COLOURS, EVENT
from segkit.runs import Run, RunFolder
from segkit.schemas import Axis
from segkit.storage import write_text

CONTROLS = dict.fromkeys([*range(0x09), 0x0B, *range(0x0E, 0x20), *range(0x7F, 0xA0)])
"""Characters that HTML forbids; left out of all texts."""


def write_report(source: Path, output: Path, per_axis: int = 10) -> None:
    """Write the page about a dataset folder, with up to `per_axis` segments of each axis, or about a training run.

    Raises:
        UsageError: the folder is neither, or there is nothing in it yet.
    """
    if per_axis < 1:
        raise UsageError(f"Got {per_axis} segments per axis. Expected at least 1.")
    is_run = RunFolder(source).is_run()
    if not is_run and not Folder(source).record_file.exists():
        raise UsageError(
            f"{str(source)!r} is neither a dataset folder nor a training run. Expected a folder that `segkit extract` "
            "or `segkit align` wrote."
        )
    _make_room(output)
    write_text(output, _training_page(Run(source)) if is_run else _dataset_page(Dataset(source), per_axis))


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
        loader=PackageLoader("segkit.reporting", ""),
        autoescape=True,
        finalize=lambda value: value.translate(CONTROLS) if isinstance(value, str) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own = resources.files("segkit.reporting")
    css, js = (Markup((own / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    shared = {
        "css": css,
        "js": js,
        "colours": {**COLOURS, "event": EVENT},
        "version": segkit.__version__,
        "axis_keys": {str(axis): i for i, axis in enumerate(Axis, 1)},
    }
    return room.get_template("page.html").render(**shared, columns=COLUMNS, pixels_per_s=PIXELS_PER_S, **facts)


def _dataset_page(dataset: Dataset, per_axis: int) -> str:
    stats = dataset.statistics()
    splits = Counter[str]()
    for one in stats:
        splits.update(one.splits)
    with ThreadPoolExecutor() as pool:  # most of the time is MP3, which needs no GIL
        clips = list(pool.map(of_segment, map(dataset.segment, _sample(dataset, per_axis))))
    return _render(
        kind="dataset",
        title=", ".join(dict.fromkeys(one.corpus for one in stats)),
        run=dataset.record,
        stats=stats,
        splits=splits,
        corpora=list(dict.fromkeys(one.corpus for one in stats)),
        axes=[str(axis) for axis in Axis if any(one.axis == axis for one in stats)],
        clips=clips,
    )


def _sample(dataset: Dataset, per_axis: int) -> list[str]:
    """The ids of up to `per_axis` segments of each axis, by axis, corpus, recording and time."""
    keys = ["corpus", "recording_id", "start_s", "id"]
    rows = dataset.table().select(["axis", *keys]).to_pylist()
    chosen = [
        sorted(in_turn([row for row in rows if row["axis"] == axis])[:per_axis], key=lambda row: [row[k] for k in keys])
        for axis in Axis
    ]
    return [row["id"] for of_axis in chosen for row in of_axis]


def in_turn(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
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


def _training_page(run: Run) -> str:
    shown = training.read(run)
    clips = {
        axis: [
            of_file(
                run.path / one.file,
                f"{axis}-{one.step}",
                axis,
                f"step {one.step}",
                {"split": one.split, "segment": one.segment_id, "reward": f"{one.reward:+.2f}"},
            )
            for one in samples
        ]
        for axis, samples in shown.samples.items()
    }
    return _render(kind="training", title=run.path.resolve().name, run=shown, clips=clips)
