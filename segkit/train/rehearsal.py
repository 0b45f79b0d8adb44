"""What a run would do, without doing it: everything is loaded, one group is said and scored, nothing is kept."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.alignment import rewards
from segkit.dataset.dataset import Dataset
from segkit.models.devices import resolve
from segkit.rollouts.scenes import Scene, Segments
from segkit.rollouts.scoring import Scored
from segkit.runs import RunFolder
from segkit.settings import AlignSettings
from segkit.tasks import Hook, nobody
from segkit.train import loop, memory


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """What was found.

    Attributes:
        device: by its full name.
        segments: those to train and those to evaluate on.
        weights: how many are trained.
        memory: estimated bytes by purpose, for the longest segments.
        peak: of these, bytes at the worst moment.
        scene, scored, advantages: the group.
        human: the agent of the recording, scored like a completion, by the names of rewards and diagnostics.
    """

    device: str
    segments: dict[str, Segments]
    weights: int
    memory: dict[str, int]
    peak: int
    scene: Scene
    scored: Scored
    advantages: NDArray[np.float64]
    human: dict[str, Any]


def rehearse(
    dataset: Dataset, policy: str, settings: AlignSettings, device: str = "auto", hook: Hook = nobody
) -> Rehearsal:
    """Load all that a run needs, and score one group; the arguments are those of `segkit.train.loop.align`.

    Raises:
        UsageError: a dataset, policy or setting that does not fit.
        TrainingError: it will not fit the memory.
    """
    device = resolve(device)
    with TemporaryDirectory() as scratch:
        stage = loop.set_up(dataset, policy, settings, device, RunFolder(Path(scratch)))
        scenes, groups = loop.sample_groups(stage, settings, 0, 1, hook)
        found = loop.score_groups(stage, scenes, groups, hook)
        parts = memory.estimate(stage.policy, stage.longest_s, settings)
    human = rewards.human(scenes[0].segment, settings.rewards)
    return Rehearsal(
        device=device,
        segments={"train": stage.train, "evaluate": stage.validation},
        weights=sum(p.numel() for p in stage.policy.parameters().values()),
        memory=parts,
        peak=memory.peak(parts),
        scene=scenes[0],
        scored=found.scored[0],
        advantages=found.advantages[0],
        human={"timing": human.value[0], **{name: value[0] for name, value in human.diagnostics.items()}},
    )
