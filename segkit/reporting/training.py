"""What the folder of a training run holds to look at: curves, the change on the validation split, and samples.

>>> _ticks(0.0, 0.93)
[0.0, 0.2, 0.4, 0.6, 0.8]
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import soundfile

from segkit.errors import SegkitWarning, UsageError
from segkit.runs import Run, Sample, numbers
from segkit.schemas import Axis

WIDTH, HEIGHT, LEFT, BOTTOM, EDGE = 300, 120, 42, 20, 6
"""Of a drawn chart, in units of its SVG: the whole, and the margins for labels."""

MACHINERY = {
    "kl": ("KL divergence", "from the policy it began with"),
    "zero_std": ("zero std", "share of groups that teach nothing: all their rewards are equal"),
    "loss": ("loss", "what is minimised"),
    "clipped": ("clipped", "share of the ratios that were clipped"),
    "ratio_off": ("ratio off", "largest |ratio - 1| before the first update"),
    "grad_norm": ("norm of the gradient", "before clipping"),
    "mismatch": ("mismatch", "distance between log-probabilities of sampling and of training"),
    "lr": ("learning rate", ""),
    "context_s": ("context", "mean length heard, in seconds"),
    "frames_per_s": ("speed", "frames of all completions per second"),
    "sampling_share": ("sampling", "share of the time that it took"),
    "memory_gib": ("memory", "at its peak, in GiB"),
}
"""Title and explanation of what concerns all axes."""


PEOPLE = "recorded agents"
"""The line of what the agents of the recordings get in the same segments."""


@dataclass(frozen=True)
class Series:
    """A line: its name, and its points as (step, value)."""

    name: str
    points: list[tuple[int, float]]


@dataclass(frozen=True)
class Chart:
    """Lines over the same steps, from the first to the last of the run; at least one point in all."""

    title: str
    about: str
    series: list[Series]
    steps: tuple[int, int]

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest value; of a constant, zero and twice of it."""
        values = [value for one in self.series for _, value in one.points]
        low, high = min(values), max(values)
        return (low, high) if high > low else (min(2 * low, 0.0), max(2 * high, 0.0) or float(not low))

    def x(self, step: float) -> float:
        """Where a step is drawn."""
        first, last = self.steps
        return round(LEFT + (WIDTH - LEFT - EDGE) * (step - first) / max(last - first, 1), 1)

    def y(self, value: float) -> float:
        """Where a value is drawn."""
        low, high = self.range
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - EDGE) * (value - low) / (high - low), 1)

    def line(self, series: Series) -> str:
        """A series as points of an SVG polyline."""
        return " ".join(f"{self.x(step)},{self.y(value)}" for step, value in series.points)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Where a line of the grid is drawn, and its label."""
        return [(self.y(value), f"{value:.4g}".replace("e-0", "e-")) for value in _ticks(*self.range)]

    @property
    def spoken(self) -> str:
        """The chart in words."""
        ends = [(one.name, *one.points[0], *one.points[-1]) for one in self.series]
        return f"{self.title}. " + "; ".join(
            f"{name}: {a:.3g} at step {first}, {b:.3g} at step {last}" for name, first, a, last, b in ends
        )


@dataclass(frozen=True)
class Change:
    """A number on the validation split, at the first and at the last evaluation, and what people get there.

    None where there was none: a delay, for example, needs a response.
    """

    axis: str
    name: str
    before: float | None
    after: float | None
    people: float | None

    @property
    def by(self) -> float | None:
        """How much it rose."""
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True)
class Shown:
    """What is shown of a run: settings, charts by axis and of all, evaluations, and pairs of samples by axis."""

    config: dict[str, Any]
    steps: int
    by_axis: dict[str, list[Chart]]
    overall: list[Chart]
    evaluated: tuple[int, int] | None
    changes: list[Change]
    samples: dict[str, list[Sample]]

    @property
    def validated(self) -> bool:
        """Whether there is a line of the validation split in the charts."""
        return any(one.name == "validation" for charts in self.by_axis.values() for c in charts for one in c.series)

    @property
    def paired(self) -> bool:
        """Whether the samples of an axis are of one segment, for all axes."""
        return all(len({one.segment_id for one in found}) == 1 for found in self.samples.values())


def read(run: Run) -> Shown:
    """All there is to show of a run, finished or not.

    Raises:
        UsageError: it has not come to its first line of metrics.
    """
    if not run.lines:
        raise UsageError(
            f"{str(run.path)!r} holds no metrics yet. The report needs a run with at least one step behind it."
        )
    if run.folder.lost_samples():
        warnings.warn(
            f"The samples in {str(run.path / 'samples')!r} are of an earlier version of segkit, which did not list "
            "them: the page shows none.",
            SegkitWarning,
            stacklevel=2,
        )
    curves: dict[str, list[tuple[int, float]]] = {}
    for metrics in run.lines:
        for name, value in numbers(metrics):
            curves.setdefault(name, []).append((metrics["step"], value))
    evaluations = run.evaluations
    steps = min(line["step"] for line in run.lines), run.steps
    by_axis = {str(axis): charts for axis in Axis if (charts := _charts_of(axis, curves, steps))}
    first = [name for name in ("kl", "zero_std") if name in curves]
    rest = [name for name in curves if name.split("/")[0] not in ("axes", "validation", *first)]
    heard = [sample for sample in run.samples if _is_heard(run.path / sample.file)]
    return Shown(
        config=run.config,
        steps=run.steps,
        by_axis=by_axis,
        overall=[
            Chart(
                *MACHINERY.get(name, (_title("", name.replace("/", ": ")), "")), [Series("train", curves[name])], steps
            )
            for name in first + rest
        ],
        evaluated=(evaluations[0]["step"], evaluations[-1]["step"]) if len(evaluations) > 1 else None,
        changes=list(_changes(evaluations[0]["validation"], evaluations[-1]["validation"]))
        if len(evaluations) > 1
        else [],
        samples={str(axis): found for axis in Axis if (found := _pair(heard, axis))},
    )


def _charts_of(axis: str, curves: dict[str, list[tuple[int, float]]], steps: tuple[int, int]) -> list[Chart]:
    """Rewards first, then what they come from; training, validation and people in one chart."""
    evaluated = any(name.startswith("validation/") for name in curves)
    rooms = {
        "train": f"axes/{axis}",
        "validation": f"validation/{axis}",
        PEOPLE: f"{'validation' if evaluated else 'axes'}/{axis}/human",
    }
    names = [
        name.split("/", 2)[2]
        for name in curves
        if name.startswith((f"axes/{axis}/", f"validation/{axis}/")) and not {"groups", "human"} & {*name.split("/")}
    ]
    ordered = sorted(dict.fromkeys(names), key=lambda name: not name.startswith("reward/"))
    return [
        Chart(
            _title(kind, short),
            "",
            [Series(where, curves[f"{room}/{name}"]) for where, room in rooms.items() if f"{room}/{name}" in curves],
            steps,
        )
        for name in ordered
        for kind, _, short in [name.rpartition("/")]
        if kind != "reward_std"
    ]


def _title(kind: str, name: str) -> str:
    """`longest_s` as "longest (s)"; a reward says that it is one."""
    in_seconds = name.endswith("_s") and not name.endswith("_per_s")
    plain = name.removesuffix("_s" if in_seconds else "").replace("_", " ") + (" (s)" if in_seconds else "")
    return f"reward: {plain}" if kind == "reward" else plain


def _changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Change]:
    then, now = dict(numbers(before)), dict(numbers(after))
    for name in sorted(then.keys() | now.keys(), key=lambda name: (_place(name), "/reward/" not in name, name)):
        axis, kind, short = name.split("/", 2)
        if kind != "human":
            people = now.get(f"{axis}/human/{kind}/{short}")
            yield Change(axis, _title(kind, short), then.get(name), now.get(name), people)


def _place(name: str) -> int:
    """The place of an axis in the usual order."""
    axes = list(map(str, Axis))
    axis = name.split("/")[0]
    return axes.index(axis) if axis in axes else len(axes)


def _is_heard(path: Path) -> bool:
    """Whether a file is audio; a killed process may have left half a header."""
    try:
        return soundfile.info(path).frames > 0
    except soundfile.SoundFileError:
        return False


def _pair(samples: list[Sample], axis: str) -> list[Sample]:
    """The earliest and the latest sample of an axis; of one segment, if there are two of one."""
    own = [sample for sample in samples if sample.axis == axis]
    same = [(a, b) for a, b in combinations(own, 2) if a.segment_id == b.segment_id]
    if same:
        return [*max(same, key=lambda pair: pair[1].step - pair[0].step)]
    return own if len(own) < 2 else [own[0], own[-1]]


def _ticks(low: float, high: float) -> list[float]:
    """A handful of round numbers within a range."""
    rough = (high - low) / 3
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * min((1, 2, 5, 10), key=lambda factor: abs(factor * unit - rough))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]
