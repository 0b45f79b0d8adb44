"""AdamW whose state is in float32 whatever the precision of the weights.

At a learning rate of 2e-7, an update is far smaller than the spacing of bfloat16 numbers around a weight:
applied to it directly, it would be lost. So each weight that is not float32 has a float32 original; updates
are applied there, and the weight is its rounded copy. Gradients of a minibatch add up in float32, too.

    >>> weight = torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    >>> optimiser = MasterAdamW({"w": weight}, OptimiserSettings(lr=1e-4, weight_decay=0.0), steps=1000)
    >>> for _ in range(100):
    ...     (3 * weight).sum().backward()
    ...     optimiser.accumulate()
    ...     grad_norm = optimiser.step(0)
    >>> weight.item(), round(grad_norm, 2)  # in steps of 1/256 from 1 downwards
    (0.98828125, 3.0)
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from segkit.settings import OptimiserSettings

MOMENTS = "exp_avg", "exp_avg_sq", "step"


class MasterAdamW:
    """AdamW with a float32 original of every weight, a cosine schedule, and clipping of the gradient's norm."""

    def __init__(self, weights: Mapping[str, nn.Parameter], settings: OptimiserSettings, steps: int) -> None:
        self.weights, self.settings, self.steps = weights, settings, steps
        self.originals = {
            name: w if w.dtype == torch.float32 else nn.Parameter(w.detach().float()) for name, w in weights.items()
        }
        self.adam = torch.optim.AdamW(
            self.originals.values(),
            lr=settings.lr,
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
            foreach=False,  # all weights at once would need copies of all of them
        )

    @property
    def updated(self) -> bool:
        """Whether there was an update, in this process or in the one before it."""
        return bool(self.adam.state)

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine from `lr` at the first step to zero after the last."""
        warmup = self.settings.warmup_steps
        if step < warmup:
            return self.settings.lr * (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(self.steps - warmup, 1)
        return self.settings.lr * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def accumulate(self) -> None:
        """Add the gradients of the weights to those of their originals; a float32 weight has done so itself."""
        for name, weight in self.weights.items():
            original = self.originals[name]
            if weight.grad is None or original is weight:
                continue
            if original.grad is None:
                original.grad = weight.grad.float()
            else:
                original.grad += weight.grad
            weight.grad = None

    @torch.no_grad()
    def step(self, step: int) -> float:
        """One update with the learning rate of a step; returns the norm of the gradient before clipping.

        A gradient that is not finite changes nothing: the caller sees the norm, and stops.
        """
        for group in self.adam.param_groups:
            group["lr"] = self.learning_rate(step)
        grad_norm = float(nn.utils.clip_grad_norm_(self.originals.values(), self.settings.max_grad_norm))
        if math.isfinite(grad_norm):
            self.adam.step()
            for name, weight in self.weights.items():
                if self.originals[name] is not weight:
                    weight.copy_(self.originals[name])
        self.adam.zero_grad()
        return grad_norm

    def state(self) -> dict[str, Tensor]:
        """All that a resumed run needs, as plain tensors: originals and moments."""
        tensors: dict[str, Tensor] = {}
        for name, original in self.originals.items():
            tensors[f"{name}:original"] = original.detach()
            for moment, value in self.adam.state.get(original, {}).items():
                tensors[f"{name}:{moment}"] = value
        return tensors

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned."""
        for name, original in self.originals.items():
            original.copy_(tensors[f"{name}:original"])
            self.weights[name].copy_(original)
            if f"{name}:step" in tensors:
                moments = {m: tensors[f"{name}:{m}"] for m in MOMENTS}
                self.adam.state[original] = {
                    m: value.clone() if m == "step" else value.to(original.device) for m, value in moments.items()
                }
