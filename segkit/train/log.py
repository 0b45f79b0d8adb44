"""What a run leaves to look at and to listen to: metrics, also for TensorBoard, and samples as WAV."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
import soundfile
from torch.utils.tensorboard import SummaryWriter

from segkit.models.protocols import Completions, Speaker
from segkit.rollouts.scenes import Scene
from segkit.rollouts.scoring import Scored
from segkit.runs import RunFolder, Sample, numbers
from segkit.storage import whole


class Log:
    """The metrics of a run that has `done` steps behind it; later lines, of steps lost, are dropped."""

    def __init__(self, folder: RunFolder, done: int) -> None:
        folder.forget_after(done)
        self.folder = folder
        self.board = SummaryWriter(str(folder.path), purge_step=done + 1 if done else 0)

    def write(self, metrics: dict[str, Any]) -> None:
        """Add a step."""
        self.folder.write_metrics(metrics)
        for name, value in numbers(metrics):
            self.board.add_scalar(name, value, metrics["step"])
        self.board.flush()

    def samples(
        self,
        split: str,
        speaker: Speaker,
        scenes: Sequence[Scene],
        groups: Sequence[Completions],
        scored: Sequence[Scored],
        step: int,
    ) -> None:
        """The first completion of the first group of each axis: the user left, the model right.

        Those of the validation split are of the same segments at every evaluation.
        """
        heard = set()
        for scene, group, result in zip(scenes, groups, scored, strict=True):
            if scene.axis in heard:
                continue
            heard.add(scene.axis)
            model = speaker.decode(group.audio[:1])[0].float().cpu().numpy()
            stereo = np.stack([scene.audio, np.clip(model, -1, 1)], axis=1)
            path = self.folder.sample(step, split, scene.axis)
            with whole(path) as draft:
                soundfile.write(draft, stereo, speaker.rate_hz, format="WAV", subtype="PCM_16")
            name, reward = path.relative_to(self.folder.path).as_posix(), float(result.components["timing"][0])
            self.folder.write_sample(Sample(name, step, split, str(scene.axis), scene.segment["id"], reward))

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.board.close()
