"""What a run leaves to look at and to listen to: metrics.jsonl, TensorBoard, and samples as WAV."""

import json
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import soundfile
from torch.utils.tensorboard import SummaryWriter

from segkit.train.policy import Completions, Policy
from segkit.train.scenes import Scene
from segkit.train.scoring import Scored
from segkit.train.state import RunFolder


class Log:
    """The metrics of a run that has `done` steps behind it; later lines, of steps lost, are dropped."""

    def __init__(self, folder: RunFolder, done: int) -> None:
        folder.forget_metrics_after(done)
        self.folder = folder
        self.board = SummaryWriter(str(folder.path), purge_step=done + 1 if done else 0)

    def write(self, metrics: dict[str, Any]) -> None:
        """Add a step."""
        with self.folder.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")
        for name, value in _leaves(metrics):
            self.board.add_scalar(name, value, metrics["step"])
        self.board.flush()

    def samples(
        self,
        split: str,
        policy: Policy,
        scenes: Sequence[Scene],
        groups: Sequence[Completions],
        scored: Sequence[Scored],
        step: int,
    ) -> None:
        """The first completion of the first group of each axis: the user left, the model right.

        Those of the validation split are of the same segments at every evaluation.
        """
        folder = self.folder.path / "samples" / f"step-{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        heard = set()
        for scene, group, result in zip(scenes, groups, scored, strict=True):
            if scene.axis in heard:
                continue
            heard.add(scene.axis)
            model = policy.decode(group.audio[:1])[0].float().cpu().numpy()
            name = f"{split}-{scene.axis}-{scene.segment['id']}-reward{result.components['timing'][0]:+.2f}.wav"
            stereo = np.stack([scene.audio, np.clip(model, -1, 1)], axis=1)
            draft = folder / f".{name}.tmp"  # whoever looks while this runs finds whole files
            soundfile.write(draft, stereo, policy.rate_hz, format="WAV", subtype="PCM_16")
            draft.replace(folder / name)

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.board.close()


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested metrics with names such as axes/pause/reward/timing."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and name != "step":
            yield f"{prefix}{name}", value
