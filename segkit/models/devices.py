"""Where a policy computes: a device by its full name, so that all parts of a run mean the same one."""

import torch

from segkit.errors import UsageError
from segkit.settings import ModelSettings


def resolve(name: str) -> str:
    """The full name, "cpu" or "cuda:N", of "auto" (a GPU where torch finds one), "cpu", "cuda" or "cuda:N".

    `torch.cuda.set_device` refuses a device without its number.

    Raises:
        UsageError: torch cannot use the device.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not gpus):
        return "cpu"
    names = [f"cuda:{i}" for i in range(gpus)]
    if name in ("auto", "cuda") and gpus:
        return names[torch.cuda.current_device()]
    if name not in names:
        raise UsageError(f"Device {name!r} cannot be used here. Expected {', '.join(['auto', 'cpu', *names])}.")
    return name


def torch_dtype(model: ModelSettings, device: torch.device) -> torch.dtype:
    """The precision of the weights on a device."""
    name = model.dtype if model.dtype != "auto" else ("bfloat16" if device.type == "cuda" else "float32")
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[name]
