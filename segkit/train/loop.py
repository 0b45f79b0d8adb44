"""A training run from top to bottom.

Source: arXiv 2606.11167, 3.2, 4.3 and appendix A. Where this departs from it:

- One process holds all groups of a step, in place of 32 GPUs with one group each: the same minibatches and
  updates, one after the other.
- The context is heard, not imposed: the model listens to the user's part of the preceding recording and
  speaks for itself. So the text that is trained on was sampled by the model from the first frame on.
- Opening and context are rounded to frames (80 ms), so that a segment begins on one.
- Rewards close the loopholes of the text by default (`rewards.LITERAL` is the text), and text is sampled
  from the whole distribution, that of the objective.
- The deviation of a group divides by G; a group without one teaches nothing but the KL term.
- Weights are updated in float32 and used in the model's precision (`segkit.train.optimiser`).
- LoRA is offered, for GPUs that cannot hold all weights and their moments.

All chance is a function of the seed, the step, the segment and the number of the completion: a run that is
killed and resumed ends with the same weights, bit for bit where the machine's arithmetic repeats itself.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segkit.alignment.judge import Judge
from segkit.dataset import read_run
from segkit.errors import TrainingError, UsageError
from segkit.schemas.settings import as_json, fingerprint
from segkit.segmenters import vad
from segkit.segmenters.transcription import Transcriber
from segkit.train import memory
from segkit.train.checkpoints import open_checkpoint
from segkit.train.config import AlignConfig
from segkit.train.devices import resolve
from segkit.train.log import Log
from segkit.train.moshi import MoshiPolicy
from segkit.train.optimiser import MasterAdamW
from segkit.train.policy import Hook, Policy
from segkit.train.rollout import rollout
from segkit.train.scenes import Segments
from segkit.train.scoring import JUDGED, Scorer, facts_by_axis
from segkit.train.state import RunFolder
from segkit.train.update import update

SAMPLING, EVALUATING = range(2)
"""What chance is drawn for."""


@dataclass(frozen=True, eq=False)
class Stage:
    """All that a run works with."""

    policy: Policy
    train: Segments
    validation: Segments
    scorer: Scorer

    @property
    def longest_s(self) -> float:
        """Length of the longest segment of both splits."""
        return max(self.train.longest_s(), self.validation.longest_s())


def align(
    dataset: Path,
    folder: RunFolder,
    policy_name: str,
    config: AlignConfig,
    device: str,
    resume: bool,
    hook: Hook,
    on_step: Callable[[dict[str, Any]], None],
) -> list[str]:
    """Train, and export the result; returns the commands that run it.

    Args:
        dataset: folder that `segkit extract` wrote.
        folder: of the run.
        policy_name: see `segkit.train.checkpoints.open_checkpoint`.
        config: all settings.
        device: as `segkit.train.devices.resolve` takes it.
        resume: go on with the run in the folder.
        hook: told about the progress within a step.
        on_step: given the metrics of each finished step.

    Raises:
        UsageError: a dataset, policy, folder or setting that does not fit.
        TrainingError: the run cannot go on.
    """
    device = resolve(device)
    with folder.claimed(identity(dataset, policy_name, config, device), resume):
        stage = set_up(dataset, policy_name, config, device, folder.path)
        with memory.explained(stage.policy, stage.longest_s, config):
            optimiser = MasterAdamW(stage.policy.trainable(), config.optimiser, config.steps)
            done = folder.restore(optimiser) if resume else 0
            with Log(folder, done) as log:
                if not done:
                    log.write({"step": 0, "validation": evaluate(stage, config, 0, log, hook)})
                for step in range(done, config.steps):
                    metrics = one_step(stage, optimiser, config, step, log, hook)
                    finished = step + 1
                    if finished % config.evaluation.every == 0 or finished == config.steps:
                        metrics["validation"] = evaluate(stage, config, finished, log, hook)
                    log.write(metrics)
                    on_step(metrics)
                    if finished % config.evaluation.checkpoint_every == 0 or finished == config.steps:
                        folder.save(optimiser, finished, config.evaluation.keep_checkpoints)
        return stage.policy.export(folder.path / "export")


def set_up(dataset: Path, policy_name: str, config: AlignConfig, device: str, workdir: Path) -> Stage:
    """Load data, policy, and what scores, to a device by its full name; what does not fit shows here, cheap first."""
    detector = vad.load(config.vad, device)
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # graphs are captured on the current one
    checkpoint = open_checkpoint(policy_name, workdir)
    if checkpoint.info.lora_weights and config.model.export == "lora":
        raise UsageError(
            f"{policy_name!r} has an adapter already, and an adapter on top of it would need both. Export whole "
            "weights: --set model.export=merged."
        )
    train = Segments(dataset, "train", config, checkpoint.rate_hz, required=True)
    validation = Segments(dataset, "validation", config, checkpoint.rate_hz, required=False)
    judge = Judge(config.judge, workdir / "judge.jsonl") if config.judge.url else None
    judged = [train.tables[axis] for axis in JUDGED if axis in train.tables]
    if judge and judged and not config.asr and all(table["words"].null_count == len(table) for table in judged):
        raise UsageError(
            f"The judge reads words, and {str(dataset)!r} has none on {' and '.join(JUDGED)}. Extract them with a "
            "transcript, add --asr whisperx, or leave out judge.url."
        )
    try:
        with seeded(config.seed, device):
            policy = MoshiPolicy(checkpoint, config.model, config.sampling, device)
    except torch.OutOfMemoryError:
        raise TrainingError(
            f"{policy_name!r} alone does not fit the memory of {device}. What helps most: --set model.lora_rank=32, "
            "which needs no second copy of the weights; --set model.dtype=bfloat16."
        ) from None
    transcriber = Transcriber(config.asr.partition(":")[2] or "tiny.en", device) if config.asr else None
    stage = Stage(policy, train, validation, Scorer(config, detector, judge, transcriber))
    memory.check(policy, stage.longest_s, config)
    return stage


def one_step(
    stage: Stage, optimiser: MasterAdamW, config: AlignConfig, step: int, log: Log, hook: Hook
) -> dict[str, Any]:
    """Draw, sample, score, update; returns the step's metrics."""
    began = time.perf_counter()
    policy, judge = stage.policy, stage.scorer.judge
    if judge:
        judge.failures.clear()  # those of a step, whatever was before
    scenes = stage.train.stage(stage.train.draw(config, step), config, policy.frame_samples)
    groups = rollout(policy, scenes, config.completions, (SAMPLING, config.seed, step), config.sampling.rows, hook)
    sampled_s = time.perf_counter() - began
    scored = stage.scorer.score(policy, scenes, groups, hook)
    if (step + 1) % config.evaluation.samples_every == 0:
        log.samples("train", policy, scenes, groups, scored, step + 1)
    facts = update(policy, optimiser, scenes, groups, scored, config, step, hook)
    frames = sum(scene.frames for scene in scenes) * config.completions
    return {
        "step": step + 1,
        "axes": facts_by_axis(scenes, scored, config.rewards),
        "zero_std": float(np.mean([not group.advantages.any() for group in scored])),
        **facts,
        "lr": optimiser.learning_rate(step),
        "context_s": float(np.mean([scene.context_s for scene in scenes])),
        "judge_failures": dict(judge.failures) if judge else {},
        "frames_per_s": frames / (time.perf_counter() - began),
        "sampling_share": sampled_s / (time.perf_counter() - began),
        "memory_gib": memory.peak_gib(policy.device),
    }


def evaluate(stage: Stage, config: AlignConfig, step: int, log: Log, hook: Hook) -> dict[str, Any]:
    """Mean rewards on the same segments of the validation split, with the same chance, every time; and samples."""
    if not config.evaluation.segments or not stage.validation.tables:
        return {}
    policy = stage.policy
    scenes = stage.validation.stage(stage.validation.first(config.evaluation.segments), config, policy.frame_samples)
    groups = rollout(policy, scenes, 1, (EVALUATING, config.seed), config.sampling.rows, hook)
    scored = stage.scorer.score(policy, scenes, groups, hook)
    log.samples("validation", policy, scenes, groups, scored, step)
    facts = facts_by_axis(scenes, scored, config.rewards)
    return {axis: {name: each[name] for name in ("reward", "diagnostics", "human")} for axis, each in facts.items()}


@contextmanager
def seeded(seed: int, device: torch.device | str) -> Iterator[None]:
    """All of torch's chance within, on the CPU and the device, is that of the seed."""
    with torch.random.fork_rng([] if torch.device(device).type == "cpu" else [device]):
        torch.manual_seed(seed)
        yield


def identity(dataset: Path, policy_name: str, config: AlignConfig, device: str) -> dict[str, Any]:
    """What decides the result of a run, as JSON."""
    dtype = config.model.torch_dtype(torch.device(device))
    return as_json({"policy": policy_name, "dataset": fingerprint(read_run(dataset)), "dtype": dtype, "config": config})
