"""Moshi's checkpoints: find one on the Hub or in a folder, check it, load it.

A checkpoint is what `moshi.models.loaders.CheckpointInfo` describes: `config.json` names the weights of
the language model, of Mimi, and the text tokenizer (`files.py`). Only safetensors are read. With
`"codec": "codec2-700c"` in place of Mimi's weights, a model hears and speaks through `segkit.models.codec2`, as nano
does.
"""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
from moshi.models import loaders
from moshi.models.compression import MimiModel
from moshi.models.lm import LMModel
from safetensors import safe_open
from sentencepiece import SentencePieceProcessor

from segkit.errors import UsageError, one_line
from segkit.models.codec2 import CODEC2, Codec2
from segkit.models.files import MOSHI, Config, MimiConfig, Place, file_of, lacking, names_of, parsed
from segkit.models.internals import LM_DEFAULTS, MIMI_DEFAULTS
from segkit.models.tiny import write_tiny_moshi

HUB_ERRORS = HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError
"""The Hub does not have it, does not give it, or cannot be reached."""


def find_checkpoint(policy: str, workdir: Path | None = None) -> "MoshiCheckpoint":
    """Find a checkpoint's files; warns if it had to assume what the weights are.

    Args:
        policy: "nano" (inside segkit), "moshi", "tiny" (random weights), a folder, or an id on the Hub.
        workdir: where "tiny" is written; a temporary folder unless given.

    Raises:
        UsageError: no such folder, nothing of that id to be had, or no Moshi.
    """
    if policy == "nano":
        return _open(Path(str(resources.files("segkit.models").joinpath("nano"))))
    if policy == "tiny":
        return _open(write_tiny_moshi((workdir or Path(mkdtemp(prefix="segkit-model-"))) / "tiny-moshi"))
    if (folder := Path(policy)).is_dir():
        inner = folder / "consolidated"
        try:
            return _open(inner if inner.is_dir() and not (folder / "config.json").exists() else folder)
        except HUB_ERRORS as error:
            raise UsageError(f"{policy!r} names files that the Hub does not give: {one_line(error)}.") from None
    try:
        return _open(MOSHI if policy == "moshi" else policy)
    except HUB_ERRORS as error:
        raise UsageError(
            f"--policy got {policy!r}: no such folder, and nothing from the Hub ({one_line(error) or repr(error)}). "
            "Expected nano, moshi, tiny, a folder with a config.json, or an id on the Hub; for a gated model log in "
            "with `hf auth login`."
        ) from None


def _open(place: Place) -> "MoshiCheckpoint":
    config_path = file_of(place, "config.json")
    if config_path is None and isinstance(place, Path):
        raise UsageError(f"{str(place)!r} is not a Moshi: it has no config.json. Expected the files of a Moshi.")
    config = parsed(Config, place, config_path) if config_path else Config()
    names = names_of(place, config)
    files: dict[str, Any] = {argument: file_of(place, name) for argument, name in names.items()}
    if missing := [argument for argument, path in files.items() if path is None]:
        raise UsageError(lacking(place, config, names, missing))
    if mimi_config := files.get("mimi_config_path"):
        parsed(MimiConfig, place, mimi_config)
    files.setdefault("mimi_weights", Path())  # Codec2 has no weights
    hub_id = "" if isinstance(place, Path) else place
    info = loaders.CheckpointInfo.from_hf_repo(hub_id, **files, config_path=config_path)
    (info.lm_config or {}).pop("codec", None)
    weights = names["moshi_weights"]
    on_hub = weights if weights.startswith("hf://") else hub_id and f"hf://{hub_id}/{weights}"
    return MoshiCheckpoint(str(place), info, config.codec, on_hub).checked()


@dataclass(frozen=True)
class MoshiCheckpoint:
    """A Moshi on disk."""

    name: str
    info: loaders.CheckpointInfo
    codec_name: str = "mimi"
    weights_on_hub: str = ""  # hf://OWNER/NAME/FILE; empty where they are not from there

    def checked(self) -> "MoshiCheckpoint":
        """Itself, if it is a Moshi that can be trained.

        Raises:
            UsageError: it is not; says why.
        """
        config: dict[str, Any] = LM_DEFAULTS if self.info.lm_config is None else self.info.lm_config
        missing = [key for key in ("dim", "n_q", "dep_q", "card", "delays", "text_card") if config.get(key) is None]
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
        except Exception as error:  # whatever moshi raises on files that are not those of its models
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
        except Exception as error:  # whatever moshi raises on files that are not those of its models
            raise self._unfit(error) from error

    def tokenizer(self) -> SentencePieceProcessor:
        """The text tokenizer."""
        try:
            return self.info.get_text_tokenizer()
        except Exception as error:  # whatever moshi raises on files that are not those of its models
            raise self._unfit(error) from error

    def _unfit(self, error: Exception) -> Exception:
        if isinstance(error, torch.OutOfMemoryError | UsageError):
            return error
        return UsageError(f"{self.name!r} cannot be loaded as a Moshi: {' '.join(str(error).split())[:300]}")


def _shapes(path: Path) -> dict[str, list[int]]:
    """Of the tensors in a file of safetensors."""
    with safe_open(path, "pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a dict
