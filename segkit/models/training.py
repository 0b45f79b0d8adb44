"""Moshi as a model to train: LoRA on its temporal transformer, or all of its weights, with a reference beside them.

The teacher-forced pass sees what streaming saw; `segkit.models.moshi` says how the streams lie. Letters in the
shapes: B completions, T frames, V text tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch
from moshi.models.compression import MimiModel
from moshi.models.lm import LMModel
from moshi.modules.lora import LoRALinear, replace_all_linear_with_lora
from moshi.utils.compile import no_compile
from torch import Tensor, nn

from segkit.models.checkpoints import MoshiCheckpoint
from segkit.models.export import export
from segkit.models.internals import delayed, widest_layer
from segkit.models.moshi import CODEC_FRAMES, MoshiSpeaker
from segkit.models.protocols import Completions
from segkit.models.streaming import compiled_if_possible, reserved
from segkit.settings import ModelSettings, SamplingSettings


class Moshi(MoshiSpeaker):
    """Moshi with trainable text behaviour: a `segkit.models.protocols.Trainable`.

    The depth transformer and the codec stay as they are: audio tokens are not in the loss.
    """

    def __init__(
        self, checkpoint: MoshiCheckpoint, model: ModelSettings, sampling: SamplingSettings, device: str
    ) -> None:
        super().__init__(checkpoint, model, sampling, device)
        self._untrained: LMModel | None = None
        if model.lora_rank:
            replace_all_linear_with_lora(self.lm.transformer, model.lora_rank, model.lora_scaling, self.device)
            for adapter in self.adapters():
                nn.init.zeros_(adapter.lora_B.weight)  # an adapter begins as nothing
                adapter.requires_grad_(True).frozen_W.requires_grad_(False)
        else:
            names = "depformer", "depformer_in", "depformer_emb", "depformer_text_emb", "linears"
            shared = [getattr(self.lm, name) for name in names]  # audio only: not trained, so not copied
            self._untrained = deepcopy(self.lm, {id(module): module for module in shared})
            for part in (self.lm.emb, self.lm.text_emb, self.lm.transformer, self.lm.out_norm, self.lm.text_linear):
                part.requires_grad_(True)

    def adapters(self) -> list[LoRALinear]:
        """The LoRA layers: every attention and feed-forward projection of the temporal transformer."""
        return [module for module in self.lm.transformer.modules() if isinstance(module, LoRALinear)]

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""
        return {name: p for name, p in self.lm.named_parameters() if p.requires_grad}

    def text_logits(self, completions: Completions) -> Tensor:
        """Logits of the text, (B, T, V), in one teacher-forced pass."""
        codes = torch.cat([completions.text[:, None], completions.audio, completions.user], 1)
        with compiled_if_possible(self.device):
            _, logits = self.lm.forward_text(delayed(self.lm, codes))
        return logits[:, 0]

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Within it, `text_logits` are those of the policy before training: adapters off, or the frozen copy."""
        trained, scaling = self.lm, self.model.lora_scaling
        try:
            self.lm = self._untrained or self.lm
            for adapter in self.adapters():
                adapter.scaling = 0.0
            yield
        finally:
            self.lm = trained
            for adapter in self.adapters():
                adapter.scaling = scaling

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Activations are computed again in the backward pass if so configured; nothing is compiled."""
        try:
            self.lm.transformer.checkpointing = self.model.checkpointing
            with no_compile():
                yield
        finally:
            self.lm.transformer.checkpointing = False

    def memory(self, rows: int, frames: int, completions: int, microbatch: int, scored_frames: int) -> dict[str, int]:
        """Estimated bytes by purpose; tests/test_moshi.py compares the parts that can be counted."""
        size = self.dtype.itemsize
        trained = sum(p.numel() for p in self.parameters().values())
        weights = [*self.lm.parameters(), *self.codec.parameters()]
        untrained = [] if self._untrained is None else list(self._untrained.parameters())
        held = {id(p): p.numel() * p.element_size() for p in [*weights, *untrained]}
        layers, width = len(self.lm.transformer.layers), self.lm.dim
        whole = 28  # widths of a layer per frame that are kept until backward, counted; 2 if they are computed again
        kept = 2 if self.model.checkpointing else whole
        codec = 0
        if isinstance(self.codec, MimiModel):  # four of the widest layer at once, counted
            widest = widest_layer(self.codec) * self.frame_samples
            codec = max(CODEC_FRAMES, frames) * 4 * widest * 4
        per_layer = microbatch * frames * width * size
        return {
            "weights": sum(held.values()),
            "gradients and optimiser": trained * (3 * 4 if size == 4 else 4 * 4 + size),
            "keys and values": rows * reserved(self.lm, frames + 2) * layers * 2 * width * size,
            "sampling: codec": codec,
            "scoring: codec and audio": codec + completions * frames * self.frame_samples * 2 * 4,  # before, resampled
            "updating: activations": per_layer * (layers * kept + (whole if self.model.checkpointing else 0)),
            "updating: text logits": microbatch * (6 * 4 * scored_frames + 2 * size * frames) * self.lm.text_card,
        }

    def export(self, folder: Path) -> list[str]:
        """Write the adapter or the merged weights with a config that moshi's own tools load."""
        return export(self.checkpoint, self.lm, self.model, folder)
