"""What can be set for `segkit align`. The defaults are the paper's: arXiv 2606.11167, 4.3 and appendix A.

>>> AlignSettings().groups, AlignSettings.preset("single-gpu").model.lora_rank
(32, 32)
>>> align_settings("single-gpu", {"steps": "3"}).steps
3
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

from pydantic import model_validator

from segkit.schemas.segment import Axis
from segkit.settings.base import Settings, Unfit, flat, setting
from segkit.settings.extraction import Axes, SegmentSettings, VadSettings
from segkit.settings.models import ModelSettings, SamplingSettings
from segkit.settings.rewards import JudgeSettings, RewardSettings


class ContextSettings(Settings):
    """The piece of the recording before the segment that the model hears first."""

    probability: float = setting(0.5, "that there is one", "paper 4.3", ge=0, le=1)
    max_s: float = setting(
        30.0, "longest piece at the last step; the limit grows linearly from 0", "paper 4.3", ge=0, lt=math.inf
    )


class ObjectiveSettings(Settings):
    """The GRPO objective."""

    clip: float = setting(0.2, "epsilon of the ratio of probabilities", "paper A", gt=0, lt=1)
    beta: float = setting(0.01, "weight of the exact KL divergence from the policy before training", "paper A", ge=0)


class OptimiserSettings(Settings):
    """AdamW with a cosine schedule to zero."""

    lr: float = setting(2e-7, "learning rate at the first step, or after the warm-up", "paper A", gt=0)
    beta1: float = setting(0.9, "decay of the first moment", "paper A", ge=0, lt=1)
    beta2: float = setting(0.95, "decay of the second moment", "paper A", ge=0, lt=1)
    weight_decay: float = setting(0.1, "decoupled", "paper A", ge=0)
    max_grad_norm: float = setting(2.0, "a longer gradient is shortened to this norm", "paper A", gt=0)
    warmup_steps: int = setting(0, "steps of a linear warm-up", ge=0)
    microbatch: int = setting(
        1, "completions per forward and backward pass; changes memory, not the result", resumable=True, ge=1
    )


class EvaluationSettings(Settings):
    """What is looked at along the way."""

    every: int = setting(
        10, "steps between evaluations on the validation split; also before and after training", resumable=True, ge=1
    )
    segments: int = setting(8, "per axis; 0: no evaluation", resumable=True, ge=0)
    samples_every: int = setting(
        10, "steps between samples of training to listen to; each evaluation leaves some, too", resumable=True, ge=1
    )
    checkpoint_every: int = setting(10, "steps between checkpoints to resume from", resumable=True, ge=1)
    keep_checkpoints: int = setting(2, "older ones are removed", resumable=True, ge=1)


class AlignSettings(Settings):
    """A training run. The paper used 32 GPUs with one group on each; here one process holds all groups of a step."""

    steps: int = setting(
        100,
        "in each, groups x completions are sampled, then come the updates; an epoch in the paper",
        "paper 4.3",
        ge=1,
    )
    groups: int = setting(32, "segments per step, each of an axis drawn at random", "paper 4.3", ge=1)
    completions: int = setting(16, "of each segment, which are compared with each other", "paper 4.3", ge=2)
    minibatch: int = setting(1, "completions of each group per update, a divisor of completions", "paper 4.3", ge=1)
    axes: Axes = setting(tuple(Axis), "which behaviours", "paper 4.3")
    max_segment_s: float = setting(math.inf, "leave longer segments out; limits memory", gt=0)
    seed: int = setting(0, "of everything drawn at random", ge=0)
    asr: str = setting(
        "", "what the judge reads of the model; empty: its text tokens; whisperx or whisperx:MODEL: its audio"
    )
    model: ModelSettings = ModelSettings()
    sampling: SamplingSettings = SamplingSettings()
    context: ContextSettings = ContextSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    rewards: RewardSettings = RewardSettings()
    judge: JudgeSettings = JudgeSettings()
    vad: VadSettings = VadSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    presets: ClassVar[str] = "align"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.completions % self.minibatch:
            raise Unfit("minibatch", self.minibatch, f"a divisor of completions ({self.completions})")
        if self.model.export == "lora" and not self.model.lora_rank:
            raise Unfit("model.export", "lora", "merged, as model.lora_rank is 0")
        if self.asr.partition(":")[0] not in ("", "whisperx"):
            raise Unfit("asr", self.asr, "nothing, whisperx, or whisperx:MODEL")
        if self.asr and not self.judge.url:
            raise Unfit("asr", self.asr, "nothing without a judge, for which it is: set judge.url")
        return self

    @property
    def updates(self) -> int:
        """Optimiser steps per step."""
        return self.completions // self.minibatch


def align_settings(
    preset: str = "paper", values: Mapping[str, Any] = MappingProxyType({}), dataset: SegmentSettings | None = None
) -> AlignSettings:
    """A preset, changed by single settings such as `{"optimiser.lr": 1e-6}`.

    What the settings of a dataset say (`of_dataset`) stands in the place of what the preset says.

    Raises:
        UsageError: an unknown preset or name, or a value of another type or out of range.
    """
    changes = AlignSettings.preset_changes(preset)
    if dataset is not None:
        taken = of_dataset(dataset)
        if taken["vad.backend"] == "transcript":
            del taken["vad.backend"]  # the speech was not heard but read, which is not possible for what a model says
        changes |= taken
    return AlignSettings().changed(changes | flat(values))


def of_dataset(settings: SegmentSettings) -> dict[str, Any]:
    """What the settings of a dataset say of settings here: how speech is found and grouped, what a backchannel is."""
    parts: dict[str, Settings] = {"vad": settings.vad, "rewards.timeline": settings.timeline}
    found = {f"{part}.{name}": of.value(name) for part, of in parts.items() for name in of.names()}
    return found | {"rewards.max_backchannel_s": settings.backchannel.max_backchannel_s}


def differences(settings: AlignSettings, dataset: SegmentSettings) -> list[str]:
    """Where rewards measure in another way than the dataset did, in words."""
    pairs = {name: (settings.value(name), theirs) for name, theirs in of_dataset(dataset).items()}
    return [f"{name} is {own}, in the dataset {theirs}" for name, (own, theirs) in pairs.items() if own != theirs]
