"""The GRPO objective over text tokens.

Source: arXiv 2606.11167, section 3.2: per completion, the mean over the frames of the segment of
-min(rho A, clip(rho, 1 - eps, 1 + eps) A) + beta KL. rho is the probability of the sampled text token
relative to the policy that sampled it; KL[pi || reference] is exact, over the whole vocabulary. Audio
tokens are sampled, but are not in the loss. Both distributions are those that were sampled from: the
softmax of the logits over the sampling temperature.

Letters in the shapes: B completions, T frames, V text tokens.

    >>> logits = torch.zeros(1, 3, 5)
    >>> scored = torch.tensor([[False, True, True]])
    >>> tokens, old = torch.zeros(1, 3, dtype=torch.long), -torch.full((1, 3), 5.0).log()
    >>> loss = grpo(logits, logits, tokens, old, torch.tensor([2.0]), scored, 0.7, clip=0.2, beta=0.01)
    >>> round(loss.loss.item(), 4), loss.kl.item(), loss.clipped.item()
    (-2.0, 0.0, 0.0)
"""

from typing import NamedTuple

import torch
from torch import Tensor

LARGEST_LOG_RATIO = 20.0
"""Nats; float32 overflows at 88, and infinity times an advantage of 0 is NaN."""


class Loss(NamedTuple):
    """The loss, with a gradient, and what to watch, without one; each a scalar, the mean over completions.

    Attributes:
        loss: what is minimised.
        kl: KL[pi || reference] per frame, nats.
        clipped: share of frames in which the clipped term is the smaller one, so that nothing is learnt.
        ratio_off: the largest |rho - 1|; zero before the first update.
    """

    loss: Tensor
    kl: Tensor
    clipped: Tensor
    ratio_off: Tensor


def token_log_probs(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """Log-probabilities of `tokens`, shape (B, T), under logits, shape (B, T, V), in float32."""
    scaled = logits.float() / temperature
    return scaled.gather(-1, tokens[..., None]).squeeze(-1) - scaled.logsumexp(-1)


def grpo(
    logits: Tensor,
    reference_logits: Tensor,
    tokens: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    scored: Tensor,
    temperature: float,
    clip: float,
    beta: float,
) -> Loss:
    """The loss of some completions.

    Args:
        logits: of the policy, (B, T, V).
        reference_logits: of the policy before training, (B, T, V).
        tokens: the sampled text, (B, T).
        old_log_probs: of `tokens` when they were sampled, (B, T).
        advantages: (B,).
        scored: which frames are of the segment, (B, T); opening, context and padding are not. At least
            one frame per completion.
        temperature: of the text when it was sampled.
        clip: eps.
        beta: weight of the KL divergence.
    """
    # Frames that are not scored leave here, so that nothing of them can reach the loss or its gradient.
    pi = (logits[scored].float() / temperature).log_softmax(-1)  # (N, V)
    reference = (reference_logits[scored].float() / temperature).log_softmax(-1)
    weight = (scored / scored.sum(1, keepdim=True))[scored] / len(scored)  # sums to 1
    advantage = advantages[:, None].expand_as(scored)[scored]

    log_ratio = pi.gather(-1, tokens[scored][:, None]).squeeze(-1) - old_log_probs[scored]
    # A ratio beyond any use is held where its square is still a number; its gradient, ratio x d log pi, goes on.
    log_ratio = log_ratio + (log_ratio.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO) - log_ratio).detach()
    ratio = log_ratio.exp()
    free, held = ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage
    # The gradient of sum p (log p - log r) is that of sum c log p with c = p (log p - log r) held fixed, and
    # in this form exactly zero where the policies are equal: Adam would blow up what rounding leaves.
    terms = (pi.exp() * (pi - reference)).detach()
    kl, kl_gradient = terms.sum(-1), (terms * pi).sum(-1)
    loss = weight @ (beta * (kl + kl_gradient - kl_gradient.detach()) - torch.minimum(free, held))
    with torch.no_grad():
        return Loss(loss, weight @ kl, weight @ (held < free).float(), (ratio - 1).abs().max())
