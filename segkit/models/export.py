"""What training made of a Moshi, in files that moshi's own tools load.

The folder holds all that belongs to the model, but for the weights under an adapter, and its config.json names files
from there: it can be moved. moshi takes such names from the current folder.
"""

import json
import os
import shlex
import shutil
from contextlib import suppress
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
        The commands that run it, `moshi.server` and `moshi.run_inference`; none with Codec2, which they have not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    info = checkpoint.info
    lm_config: dict[str, Any] = dict(LM_DEFAULTS if info.lm_config is None else info.lm_config)
    for name in ("lora", "lora_rank", "lora_scaling"):
        lm_config.pop(name, None)  # a former adapter is in the weights
    config = lm_config | {"model_type": info.model_type, "lm_gen_config": info.lm_gen_config}
    _copy(info.tokenizer, folder / "tokenizer.model")
    config["tokenizer_name"] = "file://tokenizer.model"
    if checkpoint.codec_name == "mimi":
        _copy(info.mimi_weights, folder / "mimi.safetensors")
        config["mimi_name"] = "file://mimi.safetensors"
    else:
        config |= {"codec": checkpoint.codec_name, "mimi_name": None}
    if info.mimi_config is not None:
        (folder / "mimi.json").write_text(json.dumps(info.mimi_config, indent=2))
        config["mimi_config_name"] = "file://mimi.json"
    own = "lora.safetensors" if model.export == "lora" else "model.safetensors"
    if model.export == "lora":
        config |= {"lora": True, "lora_rank": model.lora_rank, "lora_scaling": model.lora_scaling}
        config |= {"lora_name": f"file://{own}", "moshi_name": _base(checkpoint, folder)}
        weights = _adapter(lm, lm_config, model)
    else:
        config["moshi_name"] = f"file://{own}"
        weights = _merged(lm)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, folder / own)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    if checkpoint.codec_name != "mimi":
        return []
    there = f"(cd {shlex.quote(str(folder))} && python -m moshi"
    fused = " --no_fuse_lora" if model.export == "lora" else ""
    return [
        f"{there}.server --config-path config.json{fused})",
        f"{there}.run_inference --config config.json INPUT.wav OUTPUT.wav)",
    ]


def _copy(source: Path, target: Path) -> None:
    with suppress(shutil.SameFileError):  # what was trained lay here
        shutil.copyfile(source, target)


def _base(checkpoint: MoshiCheckpoint, folder: Path) -> str:
    """The name of the weights under an adapter: on the Hub, from here within the run, or anywhere on this machine.

    Not resolved: in the Hub's cache these are links to files without a suffix, by which moshi knows safetensors.
    """
    path = checkpoint.info.moshi_weights.absolute()
    if path.is_relative_to(folder.absolute().parent):
        path = Path(os.path.relpath(path, folder.absolute()))
    return checkpoint.weights_on_hub or f"file://{path}"


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
