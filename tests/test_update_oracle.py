"""Two steps of training against the method written down a second time, in float64, from tokens and rewards to weights.

Source: arXiv 2606.11167, 3.2, 4.3 and appendix A. `Oracle` is meant to be read as the definition of what `update`
does: one completion at a time, without padding, without microbatches, and without anything of segkit or of
torch.optim. Of the model it uses only what maps the tokens that are fed to text logits.
"""

import math
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from moshi.modules.transformer import RMSNorm
from moshi.utils.compile import no_compile

from segkit.alignment.advantages import decoupled
from segkit.models.open import find_model
from segkit.models.protocols import Completions
from segkit.rollouts.scenes import Scene
from segkit.settings import AlignSettings
from segkit.tasks import nobody
from segkit.train.optimiser import MasterAdamW
from segkit.train.update import update

# The paper's.
TEMPERATURE, CLIP = 0.7, 0.2
BETA1, BETA2, EPS, WEIGHT_DECAY = 0.9, 0.95, 1e-8, 0.1

# Not the paper's, nor are the learning rates below: so large that ratios are clipped and the KL divergence counts.
BETA = 0.1
STEPS = 3  # of the schedule; the first two are taken
COMPLETIONS, MINIBATCH = 4, 2  # so two updates per step
MICROBATCH = 5  # of the six completions of an update: unequal parts, and padding in the larger one

MOSHI_DELAYS = [0, *(0, 1, 1, 1, 1, 1, 1, 1), *(0, 1, 1, 1, 1, 1, 1, 1)]  # of text, own audio, the user's audio
TINY_CARD = 64  # of text and of each codebook; this number itself is the initial token


@dataclass(frozen=True)
class Group:
    """All completions of one segment: their tokens and rewards."""

    start: int  # first frame of the segment; opening and context lie before it
    frames: int  # of all; the segment lasts until the end
    rewards: list[list[float]]  # components of the reward, each of all completions
    user: torch.Tensor  # (G, 8, frames)
    text: torch.Tensor  # (G, frames)
    audio: torch.Tensor  # (G, 8, frames)


def groups_of_step(step):
    """Three groups of different lengths, the shortest one in the middle, with random tokens."""
    generator = torch.Generator().manual_seed(step)
    segments = [(18, 30), (3, 22), (12, 37)]
    rewards = [
        [[[-1.0, 0.0, 0.0, -1.0]], [[-2.5, -0.1, -1.0, -0.4], [2.0, 0.0, 2.0, 1.0]], [[0.3, 0.7, 0.0, 0.1]]],
        [[[-0.2, -4.0, -1.0, -3.0], [0.0, 1.0, 1.0, 2.0]], [[0.0, 0.5, 0.9, 0.2]], [[-1.0, -1.0, -1.0, -1.0]]],
    ][step]

    def tokens(*shape):
        return torch.randint(TINY_CARD, (COMPLETIONS, *shape), generator=generator)

    return [
        Group(start, frames, components, user=tokens(8, frames), text=tokens(frames), audio=tokens(8, frames))
        for (start, frames), components in zip(segments, rewards, strict=True)
    ]


class Oracle:
    """The method: two language models, one of them trained, and the state of the optimiser."""

    def __init__(self, lm, trained, lr, max_grad_norm):
        self.lm, self.reference = in_float64(lm), in_float64(lm)  # the reference stays as it is
        self.weights = {name: weight for name, weight in self.lm.named_parameters() if trained(name)}
        for weight in self.weights.values():
            weight.requires_grad_(True)
        self.m = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.v = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.lr, self.max_grad_norm = lr, max_grad_norm
        self.grad_norms = []  # one per update, before clipping

    def log_pi(self, group, i, lm=None):
        """Log-probabilities of all text tokens at every frame of a completion, (frames, tokens).

        The model sees nothing of a frame before it has said its text: it is fed frame t - 1 at position t, frame
        t - 2 of the streams with a delay of 1, and the initial token while there is no such frame.
        """
        streams = torch.cat([group.text[i][None], group.audio[i], group.user[i]]).tolist()
        fed = [
            [stream[t - 1 - delay] if t - 1 - delay >= 0 else TINY_CARD for t in range(group.frames)]
            for stream, delay in zip(streams, MOSHI_DELAYS, strict=True)
        ]
        with no_compile():
            _, logits = (lm or self.lm).forward_text(torch.tensor([fed]))
        return torch.log_softmax(logits[0, 0] / TEMPERATURE, -1)

    @torch.no_grad()
    def text_log_probs(self, group):
        """Of the sampled text under the current weights, (G, frames)."""
        frames = torch.arange(group.frames)
        return torch.stack([self.log_pi(group, i)[frames, group.text[i]] for i in range(COMPLETIONS)])

    def advantages(self, group):
        """(r - mean) / std of each component within the group, summed; nothing where all are equal."""
        total = [0.0] * COMPLETIONS
        for rewards in group.rewards:
            mean = sum(rewards) / COMPLETIONS
            std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / COMPLETIONS)
            for i, r in enumerate(rewards):
                total[i] += (r - mean) / std if std else 0.0
        return total

    def loss(self, group, i, advantage, old):
        """Of one completion: loss, KL divergence and share of clipped frames, means over the segment's frames."""
        segment = slice(group.start, group.frames)
        log_pi = self.log_pi(group, i)[segment]
        with torch.no_grad():
            log_ref = self.log_pi(group, i, self.reference)[segment]
        ratio = (log_pi.gather(-1, group.text[i, segment, None])[:, 0] - old[i, segment]).exp()
        free, held = ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage
        kl = (log_pi.exp() * (log_pi - log_ref)).sum(-1)
        loss = BETA * kl - torch.minimum(free, held)
        return torch.stack([loss.mean(), kl.detach().mean(), (held < free).double().mean()])

    def update(self, groups, step):
        """All updates of a step; returns the means over the updates of what is watched."""
        advantages = [self.advantages(group) for group in groups]
        old = [self.text_log_probs(group) for group in groups]  # of the whole step: no update changes them
        learning_rate = self.lr * (1 + math.cos(math.pi * step / STEPS)) / 2
        facts = {"loss": 0.0, "kl": 0.0, "clipped": 0.0, "grad_norm": 0.0}
        updates = COMPLETIONS // MINIBATCH
        for u in range(updates):
            losses = [
                self.loss(group, i, advantages[g][i], old[g])
                for g, group in enumerate(groups)
                for i in range(u * MINIBATCH, (u + 1) * MINIBATCH)
            ]
            means = torch.stack(losses).mean(0)
            grad_norm = self.adamw(means[0], learning_rate)
            for name, value in zip(facts, [*means.tolist(), grad_norm], strict=True):
                facts[name] += value / updates
        return facts

    def adamw(self, loss, learning_rate):
        """One update of all weights; returns the norm of the gradient before clipping."""
        gradients = dict(zip(self.weights, torch.autograd.grad(loss, list(self.weights.values())), strict=True))
        grad_norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
        self.grad_norms.append(grad_norm)
        t = len(self.grad_norms)
        with torch.no_grad():
            for name, w in self.weights.items():
                g = gradients[name] * min(1.0, self.max_grad_norm / grad_norm)
                self.m[name] = BETA1 * self.m[name] + (1 - BETA1) * g
                self.v[name] = BETA2 * self.v[name] + (1 - BETA2) * g**2
                m, v = self.m[name] / (1 - BETA1**t), self.v[name] / (1 - BETA2**t)
                w -= learning_rate * WEIGHT_DECAY * w
                w -= learning_rate * m / (v.sqrt() + EPS)
        return grad_norm


def in_float64(lm):
    copy = deepcopy(lm).requires_grad_(False).double()
    for module in copy.modules():
        if isinstance(module, RMSNorm):
            module.dtype = torch.float64  # it would compute in float32
    return copy


def adapters_only(name):
    return name.startswith("transformer.") and (".lora_A." in name or ".lora_B." in name)


def all_but_the_depth_transformer(name):
    return name.startswith(("emb.", "text_emb.", "transformer.", "out_norm.", "text_linear."))


def snapshot(lm):
    return {name: tensor.detach().clone() for name, tensor in lm.named_parameters()}


@pytest.mark.parametrize(
    "rank, trained, lr, max_grad_norm",
    [(4, adapters_only, 3e-2, 0.8), (0, all_but_the_depth_transformer, 3e-3, 3.2)],
    ids=["lora", "all weights"],
)
def test_two_steps_are_the_method_from_tokens_and_rewards_to_every_weight(tmp_path, rank, trained, lr, max_grad_norm):
    changes = {
        "steps": STEPS,
        "groups": 3,
        "completions": COMPLETIONS,
        "minibatch": MINIBATCH,
        "model.lora_rank": rank,
        "objective.beta": BETA,
        "optimiser.lr": lr,
        "optimiser.microbatch": MICROBATCH,
        "optimiser.max_grad_norm": max_grad_norm,
    }
    settings = AlignSettings().changed(changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the adapters
        policy = find_model("tiny", tmp_path).trainable(settings.model, settings.sampling, "cpu")
    optimiser = MasterAdamW(policy.parameters(), settings.optimiser, settings.steps)
    oracle = Oracle(policy.lm, trained, lr, max_grad_norm)

    for step in (0, 1):
        before, wanted_before = snapshot(policy.lm), snapshot(oracle.lm)
        groups = groups_of_step(step)
        completions = [Completions(g.user, g.text, g.audio, oracle.text_log_probs(g).float()) for g in groups]
        scenes = [Scene({"axis": "pause", "id": "0"}, np.zeros(0, np.float32), g.start, g.frames, 0.0) for g in groups]
        advantages = [decoupled(map(np.array, g.rewards)) for g in groups]
        facts = update(policy, optimiser, scenes, completions, advantages, settings, step, nobody)
        expected = oracle.update(groups, step)

        assert expected["clipped"] > 0.05 and BETA * expected["kl"] > 0.05 * abs(expected["loss"])  # they count
        for name, value in expected.items():
            assert facts[name] == pytest.approx(value, rel=2e-4), (name, step)
        assert facts["mismatch"] < 1e-4 and facts["ratio_off"] < 1e-4

        after, wanted_after = snapshot(policy.lm), snapshot(oracle.lm)
        for name, weight in after.items():
            if not trained(name):
                assert torch.equal(weight, before[name]), (name, step)
                continue
            # On average over the weight: where a first gradient is nearly zero, rounding decides a single number of it.
            moved, wanted = weight - before[name], wanted_after[name] - wanted_before[name]
            assert (moved - wanted).abs().mean() < 5e-4 * wanted.abs().mean(), (name, step)
    assert min(oracle.grad_norms) < max_grad_norm < max(oracle.grad_norms)  # some gradients are clipped, others not
