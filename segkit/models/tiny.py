"""A small Moshi with random weights, as a checkpoint folder: to try every stage on a CPU in seconds.

It has Moshi's 17 streams and delays, Mimi's rates, and no knowledge: what it says is noise.

    >>> folder = write_tiny_moshi(Path("tiny"))  # doctest: +SKIP
    >>> sorted(path.name for path in folder.iterdir())  # doctest: +SKIP
    ['config.json', 'mimi.json', 'mimi.safetensors', 'model.safetensors', 'tokenizer.model']
"""

import json
from pathlib import Path
from typing import Any

import torch
from moshi.models import loaders
from moshi.models.compression import MimiModel
from moshi.quantization.core_vq import EuclideanCodebook
from safetensors.torch import save_file

from segkit.models.internals import mark_initialised
from segkit.models.nano.pretrain import learn_tokenizer
from segkit.synthesis.phrases import TOPICS

PHRASES = [" ".join(words) for topic in TOPICS.values() for words in topic.values()]
CODEBOOK = 64
WIDTH = 32
SEANET = {
    "channels": 1,
    "dimension": WIDTH,
    "causal": True,
    "n_filters": 4,
    "n_residual_layers": 1,
    "activation": "ELU",
    "compress": 2,
    "dilation_base": 2,
    "disable_norm_outer_blocks": 0,
    "kernel_size": 7,
    "residual_kernel_size": 3,
    "last_kernel_size": 3,
    "norm": "none",
    "pad_mode": "constant",
    "ratios": [8, 6, 5, 4],
    "true_skip": True,
}
MIMI: dict[str, Any] = {
    "sample_rate": 24000,
    "channels": 1,
    "frame_rate": 12.5,
    "seanet": SEANET,
    "transformer": {
        "d_model": WIDTH,
        "num_heads": 2,
        "num_layers": 1,
        "causal": True,
        "layer_scale": 0.01,
        "context": 250,
        "conv_layout": True,
        "max_period": 10000,
        "gating": "none",
        "norm": "layer_norm",
        "positional_embedding": "rope",
        "dim_feedforward": 2 * WIDTH,
        "input_dimension": WIDTH,
        "output_dimensions": [WIDTH],
    },
    "quantizer": {
        "dimension": 16,
        "n_q": 8,
        "bins": CODEBOOK,
        "input_dimension": WIDTH,
        "output_dimension": WIDTH,
    },
}
LM: dict[str, Any] = {
    "dim": 64,
    "text_card": 64,
    "existing_text_padding_id": 3,
    "n_q": 16,
    "dep_q": 8,
    "card": CODEBOOK,
    "num_heads": 4,
    "num_layers": 2,
    "hidden_scale": 4.125,
    "causal": True,
    "layer_scale": None,
    "context": 3000,
    "max_period": 10000,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "depformer_dim": 32,
    "depformer_dim_feedforward": 132,
    "depformer_num_heads": 2,
    "depformer_num_layers": 1,
    "depformer_layer_scale": None,
    "depformer_multi_linear": True,
    "depformer_context": 8,
    "depformer_max_period": 10000,
    "depformer_gating": "silu",
    "depformer_pos_emb": "none",
    "depformer_weights_per_step": True,
    "delays": [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1],
}


def write_tiny_moshi(folder: Path, seed: int = 0) -> Path:
    """Write the checkpoint; the same files for the same seed. The caller's random numbers stay as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mimi = loaders.get_mimi(None, MIMI)
        _make_sensitive(mimi)
        moshi = loaders.get_moshi_lm(None, LM, dtype=torch.float32)
    save_file(mimi.state_dict(), folder / "mimi.safetensors")
    save_file(moshi.state_dict(), folder / "model.safetensors")
    (folder / "mimi.json").write_text(json.dumps(MIMI, indent=2))
    names = {
        "model_type": "moshi",
        "moshi_name": "model.safetensors",
        "mimi_name": "mimi.safetensors",
        "mimi_config_name": "mimi.json",
        "tokenizer_name": "tokenizer.model",
    }
    (folder / "config.json").write_text(json.dumps(LM | names, indent=2))
    (folder / "tokenizer.model").write_bytes(learn_tokenizer(PHRASES, LM["text_card"]))
    return folder


@torch.no_grad()
def _make_sensitive(mimi: MimiModel) -> None:
    """Give a random Mimi codes that change with the audio: no biases, and codebooks as wide as what they code.

    Left alone, codebooks are zero until k-means has seen audio, and biases drown the signal.
    """
    for name, parameter in mimi.named_parameters():
        if name.endswith("conv.bias"):
            parameter.zero_()
    latents = mimi.encode_to_latent(0.1 * torch.randn(1, 1, mimi.sample_rate), quantize=False)
    quantizer: Any
    for quantizer in (mimi.quantizer.rvq_first, mimi.quantizer.rvq_rest):
        width = quantizer.input_proj(latents).std()
        codebooks = [module for module in quantizer.modules() if isinstance(module, EuclideanCodebook)]
        for i, codebook in enumerate(codebooks):
            codebook.embedding_sum.normal_().mul_(width * 0.7**i)
            mark_initialised(codebook)
