"""The folder of a training run: how it is laid out, which process holds it, and what is in it.

    RUN/
    ├── config.json             settings, policy, dataset
    ├── metrics.jsonl           a line per step
    ├── events.out.tfevents...  the same for TensorBoard
    ├── judge.jsonl             what the judge said, by content
    ├── checkpoint-000010/      originals and moments of the optimiser (safetensors), the step
    ├── samples.jsonl           a line per sample
    ├── samples/                what the model said: user left, model right
    ├── export/                 the result, as moshi's own tools load it, and --policy
    └── tiny-moshi/             the model, if the policy is tiny

Nothing else in segkit knows these names.

>>> run = Run("run")  # doctest: +SKIP
>>> run.metrics["axes/pause/reward/timing"].iloc[-1]  # doctest: +SKIP
-0.25
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.errors import UsageError
from segkit.settings import AlignSettings, as_json
from segkit.storage import changes, held, remove_drafts, write_text

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Sample:
    """A completion to listen to: stereo, the user left, the model right.

    Attributes:
        file: its name, from the folder of the run.
        step: after how many steps it was said.
        split, axis, segment_id: what it is an answer to.
        reward: of its timing.
    """

    file: str
    step: int
    split: str
    axis: str
    segment_id: str
    reward: float


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, there or not."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings, policy, dataset."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """A JSON line per step."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """A JSON line per sample."""
        return self.path / "samples.jsonl"

    @property
    def judged(self) -> Path:
        """The judge's marks."""
        return self.path / "judge.jsonl"

    @property
    def export(self) -> Path:
        """The result."""
        return self.path / "export"

    def sample(self, step: int, split: str, axis: str) -> Path:
        """The file of a sample."""
        return self.path / "samples" / f"step-{step:06d}" / f"{split}-{axis}.wav"

    def checkpoint(self, done: int) -> Path:
        """The folder of the checkpoint after so many steps."""
        return self.path / f"checkpoint-{done:06d}"

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(
            path for path in self.path.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()
        )

    def is_run(self) -> bool:
        """Whether this is the folder of a run, and not of a model, which has a config.json too."""
        try:
            found = json.loads(self.config.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(found, dict) and found.keys() >= {"policy", "dataset", "config"}

    def began(self) -> bool:
        """Whether there is anything to resume, or to lose."""
        return self.metrics.exists() or bool(self.checkpoints())

    @contextmanager
    def claimed(self, identity: dict[str, Any], resume: bool) -> Iterator[None]:
        """Hold the folder for a run: empty, or, to resume, of a run with the same settings but for resumable ones.

        A run that has not come to its first line of metrics does not count: its folder may be used for another.

        Args:
            identity: `policy`, `dataset`, `dtype` and `config`, as JSON.
            resume: whether to go on with the run that is there.

        Raises:
            UsageError: it holds something else, and the message says what; or another run holds it.
        """
        name = repr(str(self.path))
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{name} is a file. Expected a folder for the run.")
        if self.path.exists() and any(self.path.iterdir()):
            if not self.is_run():
                raise UsageError(f"{name} is not empty and is not the folder of a run. Choose another folder.")
            if self.began() and not resume:
                raise UsageError(f"{name} holds a run. Add --resume to go on with it, or choose another folder.")
            if self.began():
                self._check_same(identity)
        if resume and not self.began():
            raise UsageError(f"{name} has no run to resume. Leave out --resume, or check the name.")
        self.path.mkdir(parents=True, exist_ok=True)
        with held(self.path):
            write_text(self.config, json.dumps(identity, indent=2))
            remove_drafts(self.path)
            yield

    def _check_same(self, identity: dict[str, Any]) -> None:
        before = json.loads(self.config.read_text(encoding="utf-8"))
        try:
            before["config"] = as_json(AlignSettings.read(before["config"]))  # as this version writes it
        except UsageError as error:
            raise UsageError(f"{str(self.path)!r} holds a run of another version of segkit: {error}") from None
        if changed := changes(_without_resumable(before), _without_resumable(identity)):
            raise UsageError(
                f"{str(self.path)!r} holds a run with other settings ({changed}). Resume it with the same, or choose "
                "another folder."
            )

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Add a line."""
        _append(self.metrics, metrics)

    def write_sample(self, sample: Sample) -> None:
        """Add a sample, whose file is there."""
        _append(self.samples, asdict(sample))

    def forget_after(self, done: int) -> None:
        """Drop the lines of steps that will be done again; all of them, if none is done."""
        for path in (self.metrics, self.samples):
            kept = [line for line in _lines(path) if done and line["step"] <= done]
            if path.exists():
                write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics, oldest first."""
        return list(_lines(self.metrics))

    def lost_samples(self) -> bool:
        """Whether there are samples, but no list of them: once, what is known of them stood in their names."""
        return not self.samples.exists() and any(self.path.glob("samples/*/*.wav"))

    def read_samples(self) -> list[Sample]:
        """The samples whose files are there, oldest first."""
        found = [Sample(**line) for line in _lines(self.samples)]
        return [sample for sample in found if (self.path / sample.file).is_file()]


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines; a run that was killed, or goes on, may have left half of one."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and isinstance(found.get("step"), int):
            yield found


def _without_resumable(identity: dict[str, Any]) -> dict[str, Any]:
    """A copy without the settings that may change when a run is resumed."""
    rest = deepcopy(identity)
    for setting in AlignSettings.fields():
        if setting.extra.get("resumable"):
            *above, last = setting.name.split(".")
            node = rest["config"]
            for part in above:
                node = node.get(part, {})
            node.pop(last, None)
    return rest


def numbers(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The finite numbers of nested metrics, with names such as axes/pause/reward/timing."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and math.isfinite(value) and name != "step":
            yield f"{prefix}{name}", float(value)


class Run:
    """A training run that `segkit align` wrote, finished or not.

    Args:
        path: the folder.

    Raises:
        UsageError: it is not the folder of a run.

    Attributes:
        policy: the name of the model that was trained.
        config: all of `config.json`.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.folder = RunFolder(Path(path))
        if not self.folder.is_run():
            raise UsageError(
                f"{str(path)!r} is not the folder of a training run. Expected one that `segkit align` wrote, with "
                f"{self.folder.config.name} and {self.folder.metrics.name}."
            )
        self.config: dict[str, Any] = json.loads(self.folder.config.read_text(encoding="utf-8"))
        self.policy: str = self.config["policy"]

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def settings(self) -> AlignSettings:
        """The settings of the run."""
        return AlignSettings.read(self.config["config"])

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """The metrics of each step, nested, as they were written; step 0 is before training."""
        return self.folder.read_metrics()

    @property
    def metrics(self) -> "pd.DataFrame":
        """The metrics as a data frame, a row per step (the index), with columns such as axes/pause/reward/timing."""
        import pandas as pd

        rows = [{"step": line["step"], **dict(numbers(line))} for line in self.lines]
        return pd.DataFrame(rows, columns=None if rows else ["step"]).set_index("step")

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The lines with results on the validation split, oldest first."""
        return [line for line in self.lines if line.get("validation")]

    @property
    def samples(self) -> list[Sample]:
        """What can be listened to, oldest first."""
        return self.folder.read_samples()

    @property
    def steps(self) -> int:
        """How many steps are done."""
        return max((line["step"] for line in self.lines), default=0)

    @property
    def export(self) -> Path | None:
        """The folder of the result, which --policy takes; None as long as there is none."""
        return self.folder.export if (self.folder.export / "config.json").exists() else None

    def __repr__(self) -> str:
        return "\n".join([self._title, *(f"  {name}: {text}" for name, text in self._changes().items())])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows = "".join(f"<tr><th>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in self._changes().items())
        return f"<p>{escape(self._title)}</p><table>{rows}</table>"

    @property
    def _title(self) -> str:
        done = f"{self.steps} of {self.config['config'].get('steps', '?')} steps"
        return f"Run {str(self.path)!r}: {self.policy}, {done}{', exported' if self.export else ''}"

    def _changes(self) -> dict[str, str]:
        """Rewards on the validation split, at the first and at the last evaluation."""
        if not self.evaluations:
            return {}
        first, last = self.evaluations[0], self.evaluations[-1]
        before = {axis: each["reward"] for axis, each in first["validation"].items()}
        return {
            f"{axis} {name}": f"{_rounded(before.get(axis, {}).get(name))} -> {_rounded(reward)}"
            for axis, each in last["validation"].items()
            for name, reward in each["reward"].items()
        }


def _rounded(reward: float | None) -> str:
    return "none" if reward is None else f"{reward:+.3f}"
