"""A training run from top to bottom.

Source: arXiv 2606.11167, 3.2, 4.3 and appendix A. Where this departs from it:

- One process holds all groups of a step, in place of 32 GPUs with one group each: the same minibatches and
  updates, one after the other.
- The context is heard, not imposed: the model listens to the user's part of the preceding recording and
  speaks for itself. So the text that is trained on was sampled by the model from the first frame on.
- Opening and context are rounded to frames (80 ms), so that a segment begins on one.
- Rewards close the loopholes of the text by default (`segkit.settings.LITERAL` is the text), and text is sampled
  from the whole distribution, that of the objective.
- The deviation of a group divides by G; a group without one teaches nothing but the KL term.
- Weights are updated in float32 and used in the model's precision (`segkit.train.optimiser`).
- LoRA is offered, for GPUs that cannot hold all weights and their moments.

All chance is a function of the seed, the step, the segment and the number of the completion: a run that is
killed and resumed ends with the same weights, bit for bit where the machine's arithmetic repeats itself.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segkit.alignment.advantages import decoupled
from segkit.dataset.dataset import Dataset
from segkit.dataset.rows import Row
from segkit.errors import UsageError
from segkit.models.devices import resolve, torch_dtype
from segkit.models.open import find_model, load
from segkit.models.protocols import Completions, Trainable
from segkit.rollouts import evaluation
from segkit.rollouts.evaluation import SAMPLING
from segkit.rollouts.judging import Judge
from segkit.rollouts.rollout import rollout
from segkit.rollouts.scenes import Scene, Segments
from segkit.rollouts.scoring import JUDGED, Scored, Scorer, facts_by_axis
from segkit.runs import RunFolder
from segkit.segmenters import vad
from segkit.segmenters.transcription import Transcriber
from segkit.settings import AlignSettings, as_json
from segkit.tasks import Hook, nobody
from segkit.train import checkpoints, memory
from segkit.train.log import Log
from segkit.train.optimiser import MasterAdamW
from segkit.train.update import update


@dataclass(frozen=True, eq=False)
class Stage:
    """All that a run works with."""

    policy: Trainable
    train: Segments
    validation: Segments
    scorer: Scorer

    @property
    def longest_s(self) -> float:
        """Length of the longest segment of both splits."""
        return max(self.train.longest_s(), self.validation.longest_s())


@dataclass(frozen=True, eq=False)
class Step:
    """What was said in a step, how good it was, and what follows from that: one of each per group."""

    scenes: list[Scene]
    groups: list[Completions]
    scored: list[Scored]
    advantages: list[NDArray[np.float64]]

    @property
    def zero_std(self) -> float:
        """The share of groups that teach nothing, for all their completions are equally good."""
        return _share_of_zeros(self.advantages)

    def facts(self, settings: AlignSettings) -> dict[str, Any]:
        """Rewards by axis, and the groups that they are of."""
        facts = facts_by_axis(self.scenes, self.scored, settings.rewards)
        for axis, each in facts.items():
            own = [a for scene, a in zip(self.scenes, self.advantages, strict=True) if scene.axis == axis]
            each |= {"groups": len(own), "zero_std": _share_of_zeros(own)}
        return facts


def _share_of_zeros(advantages: list[NDArray[np.float64]]) -> float:
    return float(np.mean([not each.any() for each in advantages]))


def align(
    dataset: Dataset,
    folder: RunFolder,
    policy_name: str,
    settings: AlignSettings,
    device: str = "auto",
    resume: bool = False,
    hook: Hook = nobody,
) -> None:
    """Train, and export the result.

    Args:
        dataset: with audio.
        folder: of the run.
        policy_name: see `segkit.models.open.find_model`.
        settings: of the run.
        device: as `segkit.models.devices.resolve` takes it.
        resume: go on with the run in the folder.
        hook: called with the progress within a step; as the stage "steps", the metrics of each finished step; and, as
            the stage "exported", the commands that run the result.

    Raises:
        UsageError: a dataset, policy, folder or setting that does not fit.
        TrainingError: the run cannot go on.
    """
    device = resolve(device)
    with folder.claimed(identity(dataset, policy_name, settings, device), resume):
        stage = set_up(dataset, policy_name, settings, device, folder)
        with memory.explained(stage.policy, stage.longest_s, settings):
            optimiser = MasterAdamW(stage.policy.parameters(), settings.optimiser, settings.steps)
            done = checkpoints.restore(folder, optimiser) if resume else 0
            with Log(folder, done) as log:
                if not done:
                    log.write({"step": 0, "validation": evaluate(stage, settings, 0, log, hook)})
                for step in range(done, settings.steps):
                    metrics = one_step(stage, optimiser, settings, step, log, hook)
                    finished = step + 1
                    if finished % settings.evaluation.every == 0 or finished == settings.steps:
                        metrics["validation"] = evaluate(stage, settings, finished, log, hook)
                    log.write(metrics)
                    hook("steps", finished, settings.steps, metrics)
                    if finished % settings.evaluation.checkpoint_every == 0 or finished == settings.steps:
                        checkpoints.save(folder, optimiser, finished, settings.evaluation.keep_checkpoints)
        hook("exported", 1, 1, {"commands": stage.policy.export(folder.export)})


def set_up(dataset: Dataset, policy_name: str, settings: AlignSettings, device: str, folder: RunFolder) -> Stage:
    """Load data, policy, and what scores, to a device by its full name; what does not fit shows here, cheap first."""
    detector = vad.load(settings.vad, device)
    found = find_model(policy_name, folder.path)
    if found.has_adapter and settings.model.export == "lora":
        raise UsageError(
            f"{policy_name!r} has an adapter already, and an adapter on top of it would need both. Export whole "
            "weights: --set model.export=merged."
        )
    train, validation = (
        Segments(dataset, split, settings.axes, settings.max_segment_s, required)
        for split, required in (("train", True), ("validation", False))
    )
    judge = Judge(settings.judge, folder.judged) if settings.judge.url else None
    judged = [train.tables[axis] for axis in JUDGED if axis in train.tables]
    if judge and judged and not settings.asr and all(table["words"].null_count == len(table) for table in judged):
        raise UsageError(
            f"The judge reads words, and {str(dataset.path)!r} has none on {' and '.join(JUDGED)}. Extract them with a "
            "transcript, add --asr whisperx, or leave out judge.url."
        )
    with seeded(settings.seed, device):
        policy = load(found, True, settings.model, settings.sampling, device)
    transcriber = Transcriber(settings.asr.partition(":")[2] or "tiny.en", device) if settings.asr else None
    stage = Stage(policy, train, validation, Scorer(settings.rewards, detector, judge, transcriber))
    memory.check(policy, stage.longest_s, settings)
    return stage


def draw(segments: Segments, settings: AlignSettings, step: int) -> list[tuple[Row, float]]:
    """The segments of a step with the lengths of their contexts in seconds.

    An axis is drawn for each, then a segment of it; with a probability, it gets context of a length up
    to a limit that grows linearly from 0 at the first step to its maximum at the last (4.3).
    """
    rng = np.random.default_rng([settings.seed, step])
    limit_s = settings.context.max_s * step / max(settings.steps - 1, 1)
    drawn = []
    for _ in range(settings.groups):
        axis = list(segments.tables)[rng.integers(len(segments.tables))]
        row = segments.row(axis, int(rng.integers(len(segments.tables[axis]))))
        wanted, length_s = rng.random() < settings.context.probability, rng.uniform(0, limit_s)
        drawn.append((row, length_s if wanted else 0.0))
    return drawn


def sample_groups(
    stage: Stage, settings: AlignSettings, step: int, groups: int | None, hook: Hook
) -> tuple[list[Scene], list[Completions]]:
    """Draw the segments of a step, or the first few of them, and sample their completions."""
    scenes = stage.train.scenes(draw(stage.train, settings, step)[:groups], stage.policy)
    chance = SAMPLING, settings.seed, step
    return scenes, rollout(stage.policy, scenes, settings.completions, chance, settings.sampling.rows, hook)


def score_groups(stage: Stage, scenes: list[Scene], groups: list[Completions], hook: Hook) -> Step:
    """Score what was said."""
    scored = stage.scorer.score(stage.policy, scenes, groups, hook)
    return Step(scenes, groups, scored, [decoupled(each.components.values()) for each in scored])


def one_step(
    stage: Stage, optimiser: MasterAdamW, settings: AlignSettings, step: int, log: Log, hook: Hook
) -> dict[str, Any]:
    """Draw, sample, score, update; returns the step's metrics."""
    began = time.perf_counter()
    policy, failures = stage.policy, stage.scorer.failures
    failures.clear()  # those of a step, whatever was before
    scenes, groups = sample_groups(stage, settings, step, None, hook)
    sampled_s = time.perf_counter() - began
    found = score_groups(stage, scenes, groups, hook)
    if (step + 1) % settings.evaluation.samples_every == 0:
        log.samples("train", policy, scenes, groups, found.scored, step + 1)
    facts = update(policy, optimiser, scenes, groups, found.advantages, settings, step, hook)
    frames = sum(scene.frames for scene in scenes) * settings.completions
    return {
        "step": step + 1,
        "axes": found.facts(settings),
        "zero_std": found.zero_std,
        **facts,
        "lr": optimiser.learning_rate(step),
        "context_s": float(np.mean([scene.context_s for scene in scenes])),
        "judge_failures": dict(failures),
        "frames_per_s": frames / (time.perf_counter() - began),
        "sampling_share": sampled_s / (time.perf_counter() - began),
        "memory_gib": memory.peak_gib(policy.device),
    }


def evaluate(stage: Stage, settings: AlignSettings, step: int, log: Log, hook: Hook) -> dict[str, Any]:
    """Mean rewards on the same segments of the validation split, with the same chance, every time; and samples."""
    if not settings.evaluation.segments or not stage.validation.tables:
        return {}
    found = evaluation.evaluate(
        stage.policy,
        stage.validation,
        stage.scorer,
        settings.evaluation.segments,
        seed=settings.seed,
        rows=settings.sampling.rows,
        hook=hook,
    )
    log.samples("validation", stage.policy, *found, step)
    facts = facts_by_axis(found.scenes, found.scored, settings.rewards)
    return {axis: {name: each[name] for name in ("reward", "diagnostics", "human")} for axis, each in facts.items()}


@contextmanager
def seeded(seed: int, device: torch.device | str) -> Iterator[None]:
    """All of torch's chance within, on the CPU and the device, is that of the seed."""
    with torch.random.fork_rng([] if torch.device(device).type == "cpu" else [device]):
        torch.manual_seed(seed)
        yield


def identity(dataset: Dataset, policy_name: str, settings: AlignSettings, device: str) -> dict[str, Any]:
    """What decides the result of a run, as JSON."""
    dtype = torch_dtype(settings.model, torch.device(device))
    return as_json({"policy": policy_name, "dataset": dataset.record.fingerprint, "dtype": dtype, "config": settings})
