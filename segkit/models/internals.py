"""What segkit needs of moshi beyond its public names. A new version of moshi has to be checked against this file.

Beside these, it relies on what moshi's own inference uses: `LMGen` with its hooks, `forward_text`, `forward_depformer`,
`get_streaming_state` and `set_streaming_state`, `set_attention_context`, and `CheckpointInfo`.
"""

from typing import Any, cast

import torch
from moshi.models import loaders
from moshi.models.lm import LMModel
from moshi.models.lm_utils import _delay_sequence
from moshi.quantization.core_vq import EuclideanCodebook
from torch import Tensor

LM_DEFAULTS: dict[str, Any] = loaders._lm_kwargs
"""The language model's config where a checkpoint has none."""

MIMI_DEFAULTS: dict[str, Any] = loaders._mimi_config
"""Mimi's config where a checkpoint has none."""


def delayed(lm: LMModel, codes: Tensor) -> Tensor:
    """What the model is fed for codes on one clock, (B, K, T) -> (B, K, T): first an initial token, then each stream
    by its delay later, without the last frame.
    """
    initial = lm._get_initial_token().expand(len(codes), -1, -1)
    return torch.cat([initial, _delay_sequence(lm.delays, codes, initial)[:, :, :-1]], 2)


def mark_initialised(codebook: EuclideanCodebook) -> None:
    """Keep a codebook from being made of the first audio that it sees."""
    codebook._initialized.fill_(1.0)


def attention_context(layer: Any) -> int | None:
    """For how many frames a layer of the temporal transformer keeps keys and values."""
    return cast(int | None, layer.self_attn.context)


def widest_layer(mimi: Any) -> int:
    """Channels of Mimi's widest layer, the last one of its decoder."""
    return int(mimi.decoder.n_filters)
