"""Which model a name means: the only place that decides it.

>>> model = open_model("nano")  # doctest: +SKIP
>>> codes = model.encode(torch.zeros(1, 8000))  # doctest: +SKIP
>>> (said,) = model.sample([codes[0]], seeds=[0], rows=1, hook=nobody)  # doctest: +SKIP
"""

from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Literal, overload

import torch

from segkit.errors import TrainingError
from segkit.models.checkpoints import MoshiCheckpoint, find_checkpoint
from segkit.models.devices import resolve
from segkit.models.moshi import MoshiSpeaker
from segkit.models.protocols import Checkpoint, Speaker, Trainable
from segkit.models.training import Moshi
from segkit.settings import ModelSettings, SamplingSettings


@dataclass(frozen=True)
class _OfMoshi:
    """A checkpoint of Moshi, which nano is one of."""

    files: MoshiCheckpoint

    @property
    def name(self) -> str:
        return self.files.name

    @property
    def rate_hz(self) -> int:
        return self.files.rate_hz

    @property
    def has_adapter(self) -> bool:
        return self.files.has_adapter

    def speaker(self, model: ModelSettings, sampling: SamplingSettings, device: str) -> Speaker:
        return MoshiSpeaker(self.files, model, sampling, device)

    def trainable(self, model: ModelSettings, sampling: SamplingSettings, device: str) -> Trainable:
        return Moshi(self.files, model, sampling, device)


def find_model(name: str, workdir: Path | None = None) -> Checkpoint:
    """Find and check a model's files, and load nothing.

    Args:
        name: "nano" (inside segkit), "moshi", "tiny" (random weights), a folder, or an id on the Hub.
        workdir: where "tiny" is written; a temporary folder unless given.

    Raises:
        UsageError: no such folder, nothing of that id to be had, or a model that segkit cannot use.
    """
    return _OfMoshi(find_checkpoint(name, workdir))


@overload
def open_model(
    name: str | PathLike[str],
    *,
    training: Literal[False] = False,
    model: ModelSettings | None = None,
    sampling: SamplingSettings | None = None,
    device: str = "auto",
) -> Speaker: ...
@overload
def open_model(
    name: str | PathLike[str],
    *,
    training: Literal[True],
    model: ModelSettings | None = None,
    sampling: SamplingSettings | None = None,
    device: str = "auto",
) -> Trainable: ...
def open_model(
    name: str | PathLike[str],
    *,
    training: bool = False,
    model: ModelSettings | None = None,
    sampling: SamplingSettings | None = None,
    device: str = "auto",
) -> Speaker:
    """Load a model to speak, or to be trained.

    Args:
        name: as for `find_model`.
        training: with a reference, gradients, and export: a `Trainable`.
        model: precision, and what is trained.
        sampling: how it speaks.
        device: as `segkit.models.devices.resolve` takes it.

    Raises:
        UsageError: no such model or device, or files that do not fit together.
        TrainingError: it does not fit the memory of the device.
    """
    return load(
        find_model(fspath(name)), training, model or ModelSettings(), sampling or SamplingSettings(), resolve(device)
    )


@overload
def load(
    found: Checkpoint, training: Literal[True], model: ModelSettings, sampling: SamplingSettings, device: str
) -> Trainable: ...
@overload
def load(
    found: Checkpoint, training: bool, model: ModelSettings, sampling: SamplingSettings, device: str
) -> Speaker: ...
def load(found: Checkpoint, training: bool, model: ModelSettings, sampling: SamplingSettings, device: str) -> Speaker:
    """Load a model that was found, to a device by its full name; the same weights for the same random state.

    Raises:
        UsageError: its files do not fit together.
        TrainingError: it does not fit the memory of the device.
    """
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # graphs are captured on the current one
    try:
        return (found.trainable if training else found.speaker)(model, sampling, device)
    except torch.OutOfMemoryError:
        raise TrainingError(
            f"{found.name!r} alone does not fit the memory of {device}. What helps most: --set model.lora_rank=32, "
            "which needs no second copy of the weights; --set model.dtype=bfloat16."
        ) from None
