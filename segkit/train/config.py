"""All settings of a training run. The defaults are the paper's: arXiv 2606.11167, 4.3 and appendix A.

`segkit/train/presets/paper.yaml` lists every field with its meaning, the other presets what differs; `segkit
align --config` reads files of the same form, and `--set` changes single fields.

    >>> load("paper").groups
    32
    >>> load("single-gpu", overrides={"steps": "3"}).steps
    3
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from segkit.alignment.judge import JudgeSettings
from segkit.alignment.rewards import RewardSettings
from segkit.errors import UsageError, nearest
from segkit.schemas import Axis, Settings, VadSettings
from segkit.schemas.settings import setting_names, with_overrides

if TYPE_CHECKING:
    import torch

PRESETS = ("paper", "paper-literal", "single-gpu", "nano")

TRANSCRIPT = "transcript"
"""The backend of a dataset whose speech was not heard, but read: nothing that could hear what a model says."""

FREE = (
    *("evaluation", "model.checkpointing", "model.export", "optimiser.microbatch", "sampling.rows"),
    *("judge.url", "judge.timeout_s", "judge.retries", "judge.concurrency"),
)
"""What may change when a run is resumed: it decides memory, speed and what is looked at, and no more than the rounding
of what is sampled and learnt."""


@dataclass(frozen=True)
class ModelConfig:
    """What of the policy is trained, and in which precision."""

    dtype: str = "auto"
    lora_rank: int = 0
    lora_scaling: float = 2.0
    checkpointing: bool = True
    export: str = "merged"

    def torch_dtype(self, device: "torch.device") -> "torch.dtype":
        """The precision of the weights on a device."""
        import torch

        name = self.dtype if self.dtype != "auto" else ("bfloat16" if device.type == "cuda" else "float32")
        return {"bfloat16": torch.bfloat16, "float32": torch.float32}[name]


@dataclass(frozen=True)
class SamplingConfig:
    """How completions are sampled."""

    text_temperature: float = 0.7
    audio_temperature: float = 0.8
    audio_top_k: int = 250
    opening_s: float = 3.0
    rows: int = 64


@dataclass(frozen=True)
class ContextConfig:
    """The piece of the recording before the segment that the model hears first."""

    probability: float = 0.5
    max_s: float = 30.0


@dataclass(frozen=True)
class ObjectiveConfig:
    """The GRPO objective."""

    clip: float = 0.2
    beta: float = 0.01


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with a cosine schedule to zero."""

    lr: float = 2e-7
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    max_grad_norm: float = 2.0
    warmup_steps: int = 0
    microbatch: int = 1


@dataclass(frozen=True)
class EvaluationConfig:
    """What is looked at along the way."""

    every: int = 10
    segments: int = 8
    samples_every: int = 10
    checkpoint_every: int = 10
    keep_checkpoints: int = 2


@dataclass(frozen=True)
class AlignConfig:
    """A training run. `groups` segments per step, `completions` of each; `minibatch` of each per update."""

    steps: int = 100
    groups: int = 32
    completions: int = 16
    minibatch: int = 1
    axes: str = "pause,turn_taking,backchannel,interruption"
    max_segment_s: float = math.inf
    seed: int = 0
    asr: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    context: ContextConfig = field(default_factory=ContextConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    rewards: RewardSettings = field(default_factory=RewardSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    vad: VadSettings = field(default_factory=VadSettings)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def checked(self) -> "AlignConfig":
        """Itself, if all values make sense together.

        Raises:
            UsageError: they do not.
        """
        s, o = self.sampling, self.optimiser
        expected = {
            "steps": (self.steps >= 1, "1 or more"),
            "groups": (self.groups >= 1, "1 or more"),
            "completions": (self.completions >= 2, "2 or more: a group is compared within itself"),
            "minibatch": (
                1 <= self.minibatch <= self.completions and self.completions % self.minibatch == 0,
                f"a divisor of completions ({self.completions})",
            ),
            "max_segment_s": (self.max_segment_s > 0, "more than 0"),
            "seed": (self.seed >= 0, "0 or more"),
            "asr": (self.asr.split(":")[0] in ("", "whisperx"), "nothing, whisperx, or whisperx:MODEL"),
            "model.dtype": (self.model.dtype in ("auto", "bfloat16", "float32"), "auto, bfloat16 or float32"),
            "model.lora_rank": (self.model.lora_rank >= 0, "0 for all weights, or a rank"),
            "model.export": (self.model.export in ("merged", "lora"), "merged or lora"),
            "sampling.text_temperature": (s.text_temperature > 0, "more than 0: greedy completions are all the same"),
            "sampling.audio_temperature": (s.audio_temperature > 0, "more than 0"),
            "sampling.audio_top_k": (s.audio_top_k >= 0, "0 or more"),
            "sampling.opening_s": (s.opening_s >= 0, "0 or more"),
            "sampling.rows": (s.rows >= 1, "1 or more"),
            "context.probability": (0 <= self.context.probability <= 1, "0 to 1"),
            "context.max_s": (self.context.max_s >= 0, "0 or more"),
            "objective.clip": (0 < self.objective.clip < 1, "between 0 and 1"),
            "objective.beta": (self.objective.beta >= 0, "0 or more"),
            "optimiser.lr": (o.lr > 0, "more than 0"),
            "optimiser.beta1": (0 <= o.beta1 < 1, "0 to less than 1"),
            "optimiser.beta2": (0 <= o.beta2 < 1, "0 to less than 1"),
            "optimiser.weight_decay": (o.weight_decay >= 0, "0 or more"),
            "optimiser.warmup_steps": (o.warmup_steps >= 0, "0 or more"),
            "optimiser.microbatch": (o.microbatch >= 1, "1 or more"),
            "optimiser.max_grad_norm": (o.max_grad_norm > 0, "more than 0"),
            "evaluation.every": (self.evaluation.every >= 1, "1 or more"),
            "evaluation.segments": (self.evaluation.segments >= 0, "0 or more"),
            "evaluation.samples_every": (self.evaluation.samples_every >= 1, "1 or more"),
            "evaluation.checkpoint_every": (self.evaluation.checkpoint_every >= 1, "1 or more"),
            "evaluation.keep_checkpoints": (self.evaluation.keep_checkpoints >= 1, "1 or more"),
        }
        for name, (fine, wanted) in expected.items():
            if not fine:
                raise UsageError(f"Setting {name!r} is {_value(self, name)!r}. Expected {wanted}.")
        if self.model.export == "lora" and not self.model.lora_rank:
            raise UsageError("Setting 'model.export' is 'lora', but 'model.lora_rank' is 0. Expected export: merged.")
        if self.asr and not self.judge.url:
            raise UsageError("Setting 'asr' is for the judge, and there is none. Set judge.url, or leave out --asr.")
        if not self.parsed_axes():
            raise UsageError("Setting 'axes' is empty. Expected at least one axis.")
        return self

    def parsed_axes(self) -> tuple[Axis, ...]:
        """The axes to train on.

        Raises:
            UsageError: an unknown one.
        """
        names = [name.strip() for name in self.axes.split(",") if name.strip()]
        for name in names:
            if name not in list(Axis):
                raise UsageError(f"Setting 'axes' has {name!r}. {nearest(name, list(Axis))}")
        return tuple(axis for axis in Axis if axis in names)

    @property
    def updates(self) -> int:
        """Optimiser steps per step."""
        return self.completions // self.minibatch


def preset_text(preset: str) -> str:
    """A preset's YAML, with what each field means.

    Raises:
        UsageError: there is none of that name.
    """
    if preset not in PRESETS:
        raise UsageError(f"Unknown preset {preset!r}. {nearest(preset, PRESETS)}")
    return resources.files("segkit.train").joinpath("presets", f"{preset}.yaml").read_text(encoding="utf-8")


def load(
    preset: str = "paper",
    file: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    dataset: Settings | None = None,
) -> AlignConfig:
    """A preset, changed by a YAML file, changed by single fields such as `{"optimiser.lr": "1e-6"}`.

    What the settings of a dataset say (`of_dataset`) stands in the place of what the preset says.

    Raises:
        UsageError: an unknown preset or field, a value of the wrong type, or a file that is not such YAML.
    """
    changes = _flat(yaml.safe_load(preset_text(preset)))
    if dataset is not None:
        taken = of_dataset(dataset)
        if taken["vad.backend"] == TRANSCRIPT:
            del taken["vad.backend"]
        changes |= {name: str(value) for name, value in taken.items()}
    if file is not None:
        try:
            given = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(f"{str(file)!r} cannot be read as YAML: {error}") from None
        if not isinstance(given, dict):
            raise UsageError(f"{str(file)!r} holds no settings. Expected YAML such as `segkit align --print-config`.")
        changes |= _flat(given)
    return with_overrides(AlignConfig(), changes | dict(overrides or {})).checked()


def of_dataset(settings: Settings) -> dict[str, Any]:
    """What the settings of a dataset say of fields here: how speech is found and grouped, what a backchannel is."""
    parts = {"vad": settings.vad, "rewards.timeline": settings.timeline}
    fields = {f"{part}.{name}": getattr(of, name) for part, of in parts.items() for name in setting_names(of)}
    return fields | {"rewards.max_backchannel_s": settings.backchannel.max_backchannel_s}


def differences(config: AlignConfig, settings: Settings) -> list[str]:
    """Where rewards measure otherwise than the dataset did, in words."""
    pairs = {name: (_value(config, name), theirs) for name, theirs in of_dataset(settings).items()}
    return [f"{name} is {own}, in the dataset {theirs}" for name, (own, theirs) in pairs.items() if own != theirs]


def _value(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested YAML as {"dotted.name": "value"}."""
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            many = value if isinstance(value, list) else [] if value is None else [value]
            flat[f"{prefix}{name}"] = ",".join(map(str, many))
    return flat
