"""The updates of one step: old log-probabilities, then minibatch by minibatch the loss, its gradient, AdamW.

What has gone wrong unseen in public attempts is checked while it runs: the sampler and the trainer agree on
what was sampled, the reference is the policy until that is first updated, the ratio is 1 before the first update
of a step, and a group that teaches gives a gradient.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from segkit.alignment.objective import Loss, grpo, token_log_probs
from segkit.errors import TrainingError
from segkit.models.protocols import Completions, Trainable
from segkit.rollouts.scenes import Scene
from segkit.settings import AlignSettings
from segkit.tasks import Hook
from segkit.train.optimiser import MasterAdamW

LARGEST_MISMATCH = 0.5
"""Nats between sampling and teacher forcing, on average; rounding in bfloat16 gives a tenth of it."""

UNCERTAIN = math.log(0.5)
"""A token less likely than this was uncertain. Most are not: where all is padding, any mistake looks right."""

ROUNDING = 1 / 64
"""Of the largest logit: four units in the last place of bfloat16."""

LARGEST_RATIO_OFF = 0.5
"""|rho - 1| before the first update; zero where kernels repeat themselves, hundredths in bfloat16 where not."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Completions of one length, padded at the end.

    Attributes:
        completions: B of them, T frames.
        advantages: (B,).
        scored: which frames are of the segment, (B, T).
        axes: what they are of, for messages.
    """

    completions: Completions
    advantages: Tensor
    scored: Tensor
    axes: tuple[str, ...]


def update(
    policy: Trainable,
    optimiser: MasterAdamW,
    scenes: Sequence[Scene],
    groups: Sequence[Completions],
    advantages: Sequence[NDArray[np.float64]],
    settings: AlignSettings,
    step: int,
    hook: Hook,
) -> dict[str, float]:
    """All updates of a step: each sees `minibatch` completions of every group; returns what to watch.

    Raises:
        TrainingError: the loss or the gradient is NaN or infinite, or one of the checks fails.
    """
    with policy.updating():
        minibatches = list(_minibatches(scenes, groups, advantages, settings, policy.device))
        if not optimiser.updated:
            _check_reference(policy, minibatches[0][0])
        old = [[_old_log_probs(policy, batch, settings) for batch in batches] for batches in minibatches]
        facts = {"loss": 0.0, "kl": 0.0, "clipped": 0.0, "ratio_off": 0.0, "grad_norm": 0.0}
        facts["mismatch"] = _mismatch(minibatches, old, step)
        for u, (batches, before) in enumerate(zip(minibatches, old, strict=True)):
            hook("updating", u, len(minibatches))
            for batch, log_probs in zip(batches, before, strict=True):
                share = len(batch.axes) / (len(groups) * settings.minibatch)
                loss = _backward(policy, batch, log_probs, share, settings)
                optimiser.accumulate()
                if not math.isfinite(float(loss.loss)):
                    raise TrainingError(_diverged("loss", float(loss.loss), step, batch.axes))
                for name in ("loss", "kl", "clipped"):
                    facts[name] += float(getattr(loss, name)) * share / len(minibatches)
                if u == 0:
                    facts["ratio_off"] = max(facts["ratio_off"], float(loss.ratio_off))
            if facts["ratio_off"] > LARGEST_RATIO_OFF:
                raise TrainingError(
                    f"Step {step + 1}: before the first update, the ratio of probabilities is off 1 by "
                    f"{facts['ratio_off']:.3f}. Expected 1: the policy does not repeat itself."
                )
            grad_norm = optimiser.step(step)
            if not math.isfinite(grad_norm):
                axes = dict.fromkeys(axis for batch in batches for axis in batch.axes)
                raise TrainingError(_diverged("gradient", grad_norm, step, axes))
            facts["grad_norm"] += grad_norm / len(minibatches)
        hook("updating", len(minibatches), len(minibatches))
    if not facts["grad_norm"] and any(each.any() for each in advantages):
        raise TrainingError(f"Step {step + 1}: some completions are better than others, yet the gradient is zero.")
    return facts


def _backward(policy: Trainable, batch: Batch, old_log_probs: Tensor, share: float, settings: AlignSettings) -> Loss:
    """The loss of a batch, and its gradient times the batch's share of the minibatch."""
    with torch.no_grad(), policy.reference():
        reference = policy.text_logits(batch.completions)
    loss = grpo(
        policy.text_logits(batch.completions),
        reference,
        batch.completions.text,
        old_log_probs,
        batch.advantages,
        batch.scored,
        settings.sampling.text_temperature,
        settings.objective.clip,
        settings.objective.beta,
    )
    (loss.loss * share).backward()
    return loss._replace(loss=loss.loss.detach())


@torch.no_grad()
def _check_reference(policy: Trainable, batch: Batch) -> None:
    """Before the first update of a run, policy and reference are the same, to the bit, as their kernels are.

    In bfloat16, kernels may take another path for a copy at another address: there, rounding is allowed for.
    """
    with policy.reference():
        reference = policy.text_logits(batch.completions)[batch.scored]
    off = (policy.text_logits(batch.completions)[batch.scored] - reference).abs().max()
    if off > (0 if reference.dtype == torch.float32 else ROUNDING * reference.abs().max()):
        raise TrainingError(
            f"Before the first update, the policy's logits are off the reference's by up to {float(off):.3g}, so the "
            "KL divergence is not 0. Expected none: there are untrained weights in the policy, such as those of an "
            "adapter that was never loaded."
        )


@torch.no_grad()
def _old_log_probs(policy: Trainable, batch: Batch, settings: AlignSettings) -> Tensor:
    """Of the sampled text, under the weights that sampled it, (B, T)."""
    logits = policy.text_logits(batch.completions)
    return token_log_probs(logits, batch.completions.text, settings.sampling.text_temperature)


def _mismatch(minibatches: Sequence[list[Batch]], old: Sequence[list[Tensor]], step: int) -> float:
    """Mean distance between log-probabilities when sampling and under teacher forcing, nats.

    Over the frames in which one of them is of an uncertain token; 0 without any.
    """
    off = []
    for batches, before in zip(minibatches, old, strict=True):
        for batch, log_probs in zip(batches, before, strict=True):
            trained, sampled = log_probs[batch.scored], batch.completions.log_probs[batch.scored]
            if not torch.isfinite(trained + sampled).all():
                raise TrainingError(_diverged("log-probability", float((trained + sampled).min()), step, batch.axes))
            off.append((trained - sampled).abs()[torch.minimum(trained, sampled) < UNCERTAIN])
    mismatch = float(torch.cat(off).mean().nan_to_num(0.0))
    if mismatch > LARGEST_MISMATCH:
        raise TrainingError(
            f"Step {step + 1}: the sampled text is {mismatch:.2f} nats per token off its probability under teacher "
            f"forcing. Expected {LARGEST_MISMATCH} at most: streaming and training disagree, so nothing can be learnt. "
            "With bfloat16, try --set model.dtype=float32."
        )
    return mismatch


def _minibatches(
    scenes: Sequence[Scene],
    groups: Sequence[Completions],
    advantages: Sequence[NDArray[np.float64]],
    settings: AlignSettings,
    device: torch.device,
) -> Iterator[list[Batch]]:
    """For each update, `minibatch` completions of every group, `microbatch` of about one length at a time."""
    size = settings.optimiser.microbatch
    by_length = sorted(range(len(groups)), key=lambda g: scenes[g].frames)
    for first in range(0, settings.completions, settings.minibatch):
        chosen = [(g, i) for g in by_length for i in range(first, first + settings.minibatch)]
        chunks = [chosen[k : k + size] for k in range(0, len(chosen), size)]
        yield [_batch(chunk, scenes, groups, advantages, device) for chunk in chunks]


def _batch(
    chosen: Sequence[tuple[int, int]],
    scenes: Sequence[Scene],
    groups: Sequence[Completions],
    advantages: Sequence[NDArray[np.float64]],
    device: torch.device,
) -> Batch:
    frames = max(scenes[g].frames for g, _ in chosen)
    rows = [
        Completions(*(pad(part, (0, frames - scenes[g].frames)) for part in groups[g][i : i + 1].parts()))
        for g, i in chosen
    ]
    clock = torch.arange(frames, device=device)
    return Batch(
        Completions.concatenate(rows),
        torch.tensor([advantages[g][i] for g, i in chosen], dtype=torch.float32, device=device),
        torch.stack([(clock >= scenes[g].start_frame) & (clock < scenes[g].frames) for g, _ in chosen]),
        tuple(scenes[g].axis for g, _ in chosen),
    )


def _diverged(what: str, value: float, step: int, axes: Iterable[str]) -> str:
    return (
        f"Step {step + 1}: the {what} is {value} on {', '.join(axes)}. The weights were not changed by it, and the "
        "last checkpoint, if there is one, is good. Resuming would come to the same point: start another run with a "
        "lower optimiser.lr or a higher objective.beta."
    )
