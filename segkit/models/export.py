"""What training made of a Moshi, in files that moshi's own tools load."""

import json
from pathlib import Path
from typing import Any

import torch
from moshi.models import loaders
from moshi.models.lm import LMModel
from moshi.modules.lora import LoRALinear, replace_all_linear_with_lora
from safetensors.torch import save_file

from segkit.models.checkpoints import MoshiCheckpoint
from segkit.models.internals import LM_DEFAULTS
from segkit.settings import ModelSettings


def export(checkpoint: MoshiCheckpoint, lm: LMModel, model: ModelSettings, folder: Path) -> list[str]:
    """Write what was trained, as `model.export` says, with a config that moshi's own tools load.

    Returns:
        The commands that run it: `moshi.server` and `moshi.run_inference`; none with Codec2, which they have not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    info = checkpoint.info
    lm_config: dict[str, Any] = dict(LM_DEFAULTS if info.lm_config is None else info.lm_config)
    for name in ("lora", "lora_rank", "lora_scaling"):
        lm_config.pop(name, None)  # a former adapter is in the weights
    config = lm_config | {"model_type": info.model_type, "lm_gen_config": info.lm_gen_config}
    own = "lora.safetensors" if model.export == "lora" else "model.safetensors"
    names = {
        "moshi_name": info.moshi_weights,
        "tokenizer_name": info.tokenizer,
        "lora_name" if model.export == "lora" else "moshi_name": folder / own,
    }
    if checkpoint.codec_name == "mimi":
        names["mimi_name"] = info.mimi_weights
    else:
        config |= {"codec": checkpoint.codec_name, "mimi_name": None}
    # Not resolved: in the Hub's cache these are links to files without a suffix, by which moshi knows safetensors.
    config |= {name: f"file://{path.absolute()}" for name, path in names.items()}
    if info.mimi_config is not None:
        (folder / "mimi.json").write_text(json.dumps(info.mimi_config, indent=2))
        config["mimi_config_name"] = f"file://{(folder / 'mimi.json').absolute()}"
    if model.export == "lora":
        config |= {"lora": True, "lora_rank": model.lora_rank, "lora_scaling": model.lora_scaling}
        weights = _adapter(lm, lm_config, model)
    else:
        weights = _merged(lm)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, folder / own)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    if checkpoint.codec_name != "mimi":
        return []
    return [
        f"python -m moshi.server --config-path {folder / 'config.json'}" + " --no_fuse_lora" * (model.export == "lora"),
        f"python -m moshi.run_inference --config {folder / 'config.json'} INPUT.wav OUTPUT.wav",
    ]


def _merged(lm: LMModel) -> dict[str, torch.Tensor]:
    """All weights, with adapters merged: W + scaling B A, summed in float32."""
    weights = dict(lm.state_dict())
    for name, module in lm.named_modules():
        if isinstance(module, LoRALinear):
            w, a, b = (weights.pop(f"{name}.{part}.weight") for part in ("frozen_W", "lora_A", "lora_B"))
            weights[f"{name}.weight"] = (w.float() + module.scaling * (b.float() @ a.float())).to(w.dtype)
    return weights


def _adapter(lm: LMModel, lm_config: dict[str, Any], model: ModelSettings) -> dict[str, torch.Tensor]:
    """The adapters; moshi expects one for every linear layer, so those that were not trained are zero."""
    weights = {name: tensor for name, tensor in lm.state_dict().items() if ".lora_" in name}
    shell = loaders.get_moshi_lm(None, lm_config, device="meta", dtype=lm.dtype)
    replace_all_linear_with_lora(shell, model.lora_rank, model.lora_scaling)
    for name, tensor in shell.state_dict().items():
        if ".lora_" in name and name not in weights:
            weights[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
    return weights
