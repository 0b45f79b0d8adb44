"""The folder of a run: who holds it, its settings, metrics, and the checkpoints that it resumes from.

    RUN/
    ├── config.json             settings, policy, dataset
    ├── metrics.jsonl           a line per step
    ├── events.out.tfevents...  the same for TensorBoard
    ├── judge.jsonl             what the judge said, by content
    ├── checkpoint-000010/      originals and moments of the optimiser (safetensors), the step
    ├── samples/                what the model said: user left, model right
    └── export/                 the result, as moshi's own tools load it, and --policy

All chance is a function of the seed, the step, the segment and the completion, so a checkpoint holds no
generator's state. A checkpoint is written under another name and renamed: what has its name is whole.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from segkit.errors import SegkitError, UsageError
from segkit.folders import changes, held, write_text
from segkit.train.config import FREE
from segkit.train.optimiser import MasterAdamW


@dataclass(frozen=True)
class RunFolder:
    """A run's folder."""

    path: Path

    @property
    def metrics(self) -> Path:
        """A JSON line per step."""
        return self.path / "metrics.jsonl"

    def began(self) -> bool:
        """Whether there is anything to resume, or to lose."""
        return self.metrics.exists() or bool(self.checkpoints())

    @contextmanager
    def claimed(self, identity: dict[str, Any], resume: bool) -> Iterator[None]:
        """Hold the folder for a run: empty, or, to resume, of a run with the same settings but for `config.FREE`.

        A run that never came to its first line of metrics is none: its folder may be used for another.

        Raises:
            UsageError: it holds something else, and the message says what; or another run holds it.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{str(self.path)!r} is a file. Expected a folder for the run.")
        config = self.path / "config.json"
        if self.path.exists() and any(self.path.iterdir()):
            if not _is_of_a_run(config):
                raise UsageError(f"{str(self.path)!r} is not empty and holds no run. Choose another folder.")
            if self.began() and not resume:
                raise UsageError(
                    f"{str(self.path)!r} holds a run. Add --resume to go on with it, or choose another folder."
                )
            if self.began():
                _check_same(config, identity)
        if resume and not self.began():
            raise UsageError(f"{str(self.path)!r} holds no run to resume. Leave out --resume, or check the name.")
        self.path.mkdir(parents=True, exist_ok=True)
        with held(self.path):
            write_text(config, json.dumps(identity, indent=2))
            yield

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(
            path for path in self.path.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()
        )

    def save(self, optimiser: MasterAdamW, done: int, keep: int) -> None:
        """Write the checkpoint after `done` steps, and remove all but the last `keep`."""
        final = self.path / f"checkpoint-{done:06d}"
        draft = self.path / f".{final.name}.tmp"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        save_file({k: t.contiguous().cpu() for k, t in optimiser.state().items()}, draft / "optimiser.safetensors")
        (draft / "state.json").write_text(json.dumps({"done": done}))
        shutil.rmtree(final, ignore_errors=True)
        draft.rename(final)
        for old in self.checkpoints()[:-keep]:
            shutil.rmtree(old)

    def restore(self, optimiser: MasterAdamW) -> int:
        """Load the last checkpoint; returns how many steps were done, 0 without one.

        Raises:
            SegkitError: it does not fit this policy.
        """
        for draft in self.path.glob(".checkpoint-*.tmp"):  # of a process that was killed
            shutil.rmtree(draft)
        if not (found := self.checkpoints()):
            return 0
        try:
            optimiser.load(load_file(found[-1] / "optimiser.safetensors"))
            return int(json.loads((found[-1] / "state.json").read_text())["done"])
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
            raise SegkitError(
                f"{str(found[-1])!r} cannot be resumed from: {error}. Remove it to use the one before."
            ) from None

    def forget_metrics_after(self, done: int) -> None:
        """Drop the lines of steps that will be done again; all of them, if none is done."""
        if self.metrics.exists():
            lines = self.metrics.read_text().splitlines(keepends=True)
            kept = [line for line in lines if done and line.endswith("\n") and json.loads(line)["step"] <= done]
            write_text(self.metrics, "".join(kept))


def _is_of_a_run(config: Path) -> bool:
    """Whether a file is the config.json of a run, and not that of a model, which has the same name."""
    try:
        return json.loads(config.read_text(encoding="utf-8")).keys() >= {"policy", "dataset", "config"}
    except (OSError, ValueError, AttributeError):
        return False


def _check_same(config: Path, identity: dict[str, Any]) -> None:
    before = json.loads(config.read_text(encoding="utf-8"))
    if changed := changes(_without(before, FREE), _without(identity, FREE)):
        raise UsageError(
            f"{str(config.parent)!r} holds a run with other settings ({changed}). Resume it with the same, or choose "
            "another folder."
        )


def _without(identity: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """A copy without some settings."""
    rest = deepcopy(identity)
    for name in names:
        *above, last = name.split(".")
        node = rest.get("config", {})
        for part in above:
            node = node.get(part, {})
        node.pop(last, None)
    return rest
