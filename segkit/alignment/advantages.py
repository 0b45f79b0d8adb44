"""From the rewards of a group of completions to their advantages.

Sources: group-relative advantages, arXiv 2402.03300 (GRPO); reward-decoupled normalisation, arXiv
2601.05242 (GDPO), as arXiv 2606.11167 (3.2, 4.3) uses them. The standard deviation is that of the
group itself (divided by G, not G - 1).

    >>> standardise(np.array([1.0, 3.0, 1.0, 3.0])).tolist()
    [-1.0, 1.0, -1.0, 1.0]
    >>> standardise(np.array([0.1, 0.1, 0.1])).tolist()
    [0.0, 0.0, 0.0]
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

SMALLEST_STD = 1e-6
"""Rewards are seconds, shares and marks: what differs by less is equal, up to rounding."""


def standardise(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
    """(r - mean) / std over the last axis, shape (..., G); zero where the group's rewards are equal."""
    centred = rewards - rewards.mean(axis=-1, keepdims=True)
    std = centred.std(axis=-1, keepdims=True)
    return np.divide(centred, std, out=np.zeros_like(centred), where=std > SMALLEST_STD)


def decoupled(components: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Sum of the components, (G,) each, every one standardised on its own, with equal weights.

    A component with a score missing (NaN) is left out for the whole group: completions with and without
    it could not be compared.
    """
    return np.sum([standardise(scores) for scores in components if np.isfinite(scores).all()], axis=0)
