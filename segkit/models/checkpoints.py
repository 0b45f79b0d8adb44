"""Moshi's checkpoint files: find them on the Hub or in a folder, check them, load them.

A checkpoint is what `moshi.models.loaders.CheckpointInfo` describes: `config.json` names the weights of
the language model, of Mimi, and the text tokenizer. Only safetensors are read. With `"codec": "codec2-700c"`
in place of Mimi's weights, a model hears and speaks through `segkit.models.codec2`, as nano does.

With `"lora": true`, an adapter is what `lora_name` names, or else a `lora.safetensors` beside the config. With neither,
the weights are whole, with an adapter merged into them: moshi-finetune writes the same config beside both.
"""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from moshi.models import loaders
from moshi.models.compression import MimiModel
from moshi.models.lm import LMModel
from safetensors import SafetensorError, safe_open
from sentencepiece import SentencePieceProcessor

from segkit.errors import UsageError
from segkit.models.codec2 import CODEC2, Codec2
from segkit.models.internals import LM_DEFAULTS, MIMI_DEFAULTS
from segkit.models.tiny import write_tiny_moshi

MOSHI = "kyutai/moshiko-pytorch-bf16"
FILES = {  # argument of CheckpointInfo: (name in config.json, name where the config has none)
    "moshi_weights": ("moshi_name", loaders.MOSHI_NAME),
    "mimi_weights": ("mimi_name", loaders.MIMI_NAME),
    "tokenizer": ("tokenizer_name", loaders.TEXT_TOKENIZER_NAME),
    "mimi_config_path": ("mimi_config_name", None),
    "lora_weights": ("lora_name", None),
}
ADAPTER = "lora.safetensors"  # moshi-finetune's name for it, which is not in its config.json

HUB_ERRORS = HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError
"""The Hub does not have it, does not give it, or cannot be reached."""

UNFIT = TypeError, ValueError, KeyError, AssertionError, RuntimeError, OSError, SafetensorError
"""What moshi raises on files that are not those of its models."""


def find_checkpoint(policy: str, workdir: Path | None = None) -> "MoshiCheckpoint":
    """Find a checkpoint's files.

    Args:
        policy: "nano" (inside segkit), "moshi", "tiny" (random weights), a folder, or an id on the Hub.
        workdir: where "tiny" is written; a temporary folder unless given.

    Raises:
        UsageError: no such folder, nothing of that id to be had, or no Moshi.
    """
    if policy == "nano":
        return _in_folder(Path(str(resources.files("segkit.models").joinpath("nano"))))
    if policy == "tiny":
        return _in_folder(write_tiny_moshi((workdir or Path(mkdtemp(prefix="segkit-model-"))) / "tiny-moshi"))
    if (folder := Path(policy)).is_dir():
        return _in_folder(folder)
    hub_id = MOSHI if policy == "moshi" else policy
    try:
        config_path = _on_hub(hub_id, "config.json")
        config = json.loads(Path(config_path).read_text(encoding="utf-8")) if config_path else {}
        if "codec" in config:
            raise UsageError(f"{hub_id!r} has a codec without weights. Download it, and give its folder to --policy.")
        adapter = _on_hub(hub_id, ADAPTER) if config.get("lora") and not config.get("lora_name") else None
        info = loaders.CheckpointInfo.from_hf_repo(hub_id, config_path=config_path, lora_weights=adapter)
    except HUB_ERRORS as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UsageError(
            f"--policy got {policy!r}: no such folder, and nothing from the Hub ({reason}). Expected nano, moshi, "
            "tiny, a folder with a config.json, or an id on the Hub; for a gated model log in with `hf auth login`."
        ) from None
    return MoshiCheckpoint(hub_id, info).checked()


def _on_hub(hub_id: str, name: str) -> str | None:
    """A file, or None if there is none: a Moshi 7B from before there were configs, or a model without an adapter."""
    try:
        return hf_hub_download(hub_id, name)
    except LocalEntryNotFoundError:  # offline; that there is none may be known from before
        if try_to_load_from_cache(hub_id, name) is _CACHED_NO_EXIST:
            return None
        raise
    except EntryNotFoundError:
        return None


def _in_folder(folder: Path) -> "MoshiCheckpoint":
    config_path = folder / "config.json"
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        files = {"mimi_weights": Path()} | {  # Codec2 has no weights
            argument: name if str(name).startswith("hf://") else folder / name.removeprefix("file://")
            for argument, (key, fallback) in FILES.items()
            if (name := config.get(key, fallback))
        }
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UsageError(
            f"{str(folder)!r} is not a Moshi: config.json: {error}. Expected the files of a Moshi of the Hub."
        ) from None
    if config.get("lora") and (folder / ADAPTER).exists():
        files.setdefault("lora_weights", folder / ADAPTER)
    missing = {FILES[name][0]: path for name, path in files.items() if isinstance(path, Path) and not path.exists()}
    if missing:
        lacks = [f"{path} ({'' if key in config else 'the default of '}{key})" for key, path in missing.items()]
        others = {path for path in folder.iterdir() if path.suffix in (".safetensors", ".model")} - {*files.values()}
        raise UsageError(
            f"{str(folder)!r} lacks {', '.join(lacks)}. In its config.json, set {', '.join(missing)} to a file's "
            "name in the folder, or to hf://OWNER/NAME/FILE for a file on the Hub. Files in the folder that are not in "
            f"use: {', '.join(sorted(path.name for path in others)) or 'none'}."
        )
    try:
        info = loaders.CheckpointInfo.from_hf_repo("", **files, config_path=config_path)
        codec = (info.lm_config or {}).pop("codec", "mimi")
    except HUB_ERRORS as error:
        raise UsageError(f"{str(folder)!r} names files that the Hub does not give: {error}") from None
    return MoshiCheckpoint(str(folder), info, codec).checked()


@dataclass(frozen=True)
class MoshiCheckpoint:
    """A Moshi on disk."""

    name: str
    info: loaders.CheckpointInfo
    codec_name: str = "mimi"

    def checked(self) -> "MoshiCheckpoint":
        """Itself, if it is a Moshi that can be trained.

        Raises:
            UsageError: it is not; says why.
        """
        config: dict[str, Any] = LM_DEFAULTS if self.info.lm_config is None else self.info.lm_config
        missing = [key for key in ("dim", "n_q", "dep_q", "card", "delays", "text_card") if key not in config]
        mimi = self.info.mimi_weights if self.codec_name == "mimi" else None
        weights = [p for p in (self.info.moshi_weights, mimi, self.info.lora_weights) if p]
        reasons = {
            f"its config.json has no {', '.join(missing)}": bool(missing),
            f"it is of the type {self.info.model_type!r}": self.info.model_type != "moshi",
            "it is conditioned on more than audio and text": bool(config.get("conditioners")),
            "it does not listen and speak": not missing and not 0 < config["dep_q"] < config["n_q"],
            "its text stream is delayed": not missing and config["delays"][0] != 0,
            f"its codec is {self.codec_name!r}": self.codec_name not in ("mimi", CODEC2),
            "its weights are quantised": bool(config.get("quantize")),
            'its config.json names an adapter without "lora": true': bool(self.info.lora_weights)
            and not config.get("lora"),
            "its weights are not safetensors": any(p.suffix != ".safetensors" for p in weights),
        }
        for reason, holds in reasons.items():
            if holds:
                raise UsageError(
                    f"--policy got {self.name!r}, which is not a Moshi that segkit can train: {reason}. Expected a "
                    f"full-duplex model as moshi loads it, such as {MOSHI}."
                )
        return self

    @property
    def has_adapter(self) -> bool:
        """Whether there is an adapter beside the weights."""
        return self.info.lora_weights is not None

    @property
    def rate_hz(self) -> int:
        """Of the audio that the codec takes."""
        if self.codec_name == CODEC2:
            return Codec2.sample_rate
        mimi: dict[str, Any] = self.info.mimi_config or MIMI_DEFAULTS
        return int(mimi["sample_rate"])

    def lm(self, device: str, dtype: torch.dtype) -> LMModel:
        """The language model; an adapter that the checkpoint has is merged into it."""
        without_file = {} if self.info.lora_weights else {"lora": False}  # moshi would add adapters of random numbers
        try:
            self._check_adapter()
            return self.info.get_moshi(device, dtype, fuse_lora=True, lm_kwargs_overrides=without_file)
        except UNFIT as error:
            raise self._unfit(error) from error

    def _check_adapter(self) -> None:
        """Refuse adapters inside the model's own weights, and a file that is not all of the configured adapter."""
        weights, adapter = self.info.moshi_weights, self.info.lora_weights
        if any(".lora_" in name for name in _shapes(weights)):
            raise UsageError(
                f"{str(weights)!r} holds adapters. Expected the model's weights alone, and the adapters merged into "
                "them, or in a file of their own: lora_name in config.json."
            )
        if adapter is None:
            return
        found = _shapes(adapter)
        lm = loaders.get_moshi_lm(None, self.info.lm_config, device="meta")
        expected = {name: [*tensor.shape] for name, tensor in lm.state_dict().items()}
        needed = {name for name in expected if ".lora_" in name}
        wrong = [name for name in sorted(needed | found.keys()) if found.get(name) != expected.get(name)]
        if wrong:
            first = wrong[0]
            raise UsageError(
                f"{str(adapter)!r} is not the adapter that config.json describes: {len(wrong)} tensors are missing, "
                f"of another shape, or not of this model. The first is {first}: found {found.get(first, 'none')}, "
                f"expected {expected.get(first, 'none')}. Expected adapters of all linear layers, of rank lora_rank."
            )

    def codec(self, device: str) -> MimiModel | Codec2:
        """The audio codec; Codec2 works on the CPU, wherever the model is."""
        if self.codec_name == CODEC2:
            return Codec2()
        try:
            return self.info.get_mimi(device)
        except UNFIT as error:
            raise self._unfit(error) from error

    def tokenizer(self) -> SentencePieceProcessor:
        """The text tokenizer."""
        try:
            return self.info.get_text_tokenizer()
        except UNFIT as error:
            raise self._unfit(error) from error

    def _unfit(self, error: Exception) -> Exception:
        if isinstance(error, torch.OutOfMemoryError):
            return error
        return UsageError(f"{self.name!r} cannot be loaded as a Moshi: {' '.join(str(error).split())[:300]}")


def _shapes(path: Path) -> dict[str, list[int]]:
    """Of the tensors in a file of safetensors."""
    with safe_open(path, "pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a dict
