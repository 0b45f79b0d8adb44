"""Moshi as a policy: any checkpoint that `moshi.models.loaders.CheckpointInfo` loads.

Streaming and the teacher-forced pass are the same function of the same tokens. Inside, stream k of the
model runs `delays[k]` frames late, its first input is an initial token, and streaming puts that token in
the place of the user's first frame: so frame 0 of the user is fed twice, as moshi's own inference does,
and what is sampled at step s is frame s - delay of its stream. tests/test_moshi.py holds this to 1e-4.

Letters in the shapes: B completions, T frames, K codebooks, V text tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from moshi.models.compression import MimiModel
from moshi.models.lm import LMModel
from moshi.models.lm_utils import _delay_sequence
from moshi.modules.lora import LoRALinear, replace_all_linear_with_lora
from moshi.utils.compile import no_compile
from torch import Tensor, nn

from segkit.train.checkpoints import Checkpoint, export
from segkit.train.config import ModelConfig, SamplingConfig
from segkit.train.policy import Completions, Hook
from segkit.train.rollout import schedule
from segkit.train.streaming import Sampler, chance, compiled_if_possible, reserved

CODEC_FRAMES = 1024
"""Frames that pass the codec at once, for Mimi 2 GB of activations; the rows of a batch go through in parts."""

WORD_START = "▁"


class MoshiPolicy:
    """Moshi with trainable text behaviour: LoRA on its temporal transformer, or all of its weights.

    The depth transformer and the codec stay as they are: audio tokens are not in the loss.
    """

    def __init__(self, checkpoint: Checkpoint, model: ModelConfig, sampling: SamplingConfig, device: str) -> None:
        self.checkpoint, self.model, self.sampling = checkpoint, model, sampling
        self.device = torch.device(device)
        self.dtype = model.torch_dtype(self.device)
        self.codec = checkpoint.codec(device).requires_grad_(False)
        self.lm: LMModel = checkpoint.lm(device, self.dtype).requires_grad_(False)
        self.tokenizer = checkpoint.tokenizer()
        self.rate_hz, self.frame_samples = self.codec.sample_rate, self.codec.frame_size
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
        self.sampler = Sampler(self.lm, sampling)

    def adapters(self) -> list[LoRALinear]:
        """The LoRA layers: every attention and feed-forward projection of the temporal transformer."""
        return [module for module in self.lm.transformer.modules() if isinstance(module, LoRALinear)]

    def trainable(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""
        return {name: p for name, p in self.lm.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """The user's audio, (B, T * frame_samples) -> codes, (B, K, T)."""
        streams = self.lm.n_q - self.lm.dep_q
        return _by_rows(self.codec.encode, audio[:, None], audio.shape[1] // self.frame_samples)[:, :streams]

    @torch.no_grad()
    def decode(self, audio: Tensor) -> Tensor:
        """Codes of the model's own audio, (B, K, T) -> audio, (B, T * frame_samples)."""
        return _by_rows(self.codec.decode, audio, audio.shape[2])[:, 0]

    @torch.no_grad()
    def sample(self, users: Sequence[Tensor], seeds: Sequence[int], rows: int, hook: Hook) -> list[Completions]:
        """Listen to each of the users' codes, (K, T), and speak meanwhile; one completion each.

        A streaming pass has `rows` rows. When a completion ends, the next one starts in its row, so that no row
        waits for the longest.
        """
        delays = self.lm.delays[1 : self.lm.dep_q + 1]
        lasts = [user.shape[1] + max(1, *delays) for user in users]  # steps, until the last frame is complete
        places, steps = schedule(lasts, rows)
        # On a GPU, where more rows cost little, all passes have the same number: one shape, and the same kernels.
        used = rows if self.device.type == "cuda" else 1 + max(row for row, _ in places)
        heard = users[0].new_zeros(used, users[0].shape[0], steps)
        numbers = torch.zeros(len(heard), steps, 1 + self.lm.dep_q, dtype=torch.float64)
        starts: dict[int, list[int]] = {}
        for user, seed, last, (row, start) in zip(users, seeds, lasts, places, strict=True):
            heard[row, :, start] = user[:, 0]  # frame 0 twice
            heard[row, :, start + 1 : start + 1 + user.shape[1]] = user
            numbers[row, start : start + last] = chance(seed, last, 1 + self.lm.dep_q)
            starts.setdefault(start, []).append(row)
        text, log_probs, audio = self.sampler(heard, numbers.to(self.device), starts, max(lasts), hook)
        said = []
        for user, (row, start) in zip(users, places, strict=True):
            frames = slice(start, start + user.shape[1])
            own = [audio[row, k, frames.start + delay : frames.stop + delay] for k, delay in enumerate(delays)]
            parts = user, text[row, frames], torch.stack(own), log_probs[row, frames]
            said.append(Completions(*(part[None] for part in parts)))
        return said

    def text_logits(self, completions: Completions) -> Tensor:
        """Logits of the text, (B, T, V), in one teacher-forced pass."""
        codes = torch.cat([completions.text[:, None], completions.audio, completions.user], 1)
        initial = self.lm._get_initial_token().expand(len(codes), -1, -1)
        late = _delay_sequence(self.lm.delays, codes, initial)
        with compiled_if_possible(self.device):
            _, logits = self.lm.forward_text(torch.cat([initial, late[:, :, :-1]], 2))
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

    def words(self, text: Tensor) -> list[tuple[int, str]]:
        """The words in the text of one completion, (T,), each with the frame it begins in."""
        silent = {self.lm.text_padding_token_id, self.lm.end_of_text_padding_id, *range(3)}
        words: list[tuple[int, str]] = []
        for frame, token in enumerate(text.tolist()):
            if token in silent or token >= self.tokenizer.vocab_size():
                continue
            piece = self.tokenizer.id_to_piece(token)
            if piece.startswith(WORD_START) or not words:
                words.append((frame, piece.removeprefix(WORD_START)))
            else:
                words[-1] = words[-1][0], words[-1][1] + piece
        return [(frame, word) for frame, word in words if word]

    def memory(self, rows: int, frames: int, completions: int, microbatch: int, scored_frames: int) -> dict[str, int]:
        """Estimated bytes by purpose; tests/test_moshi.py compares the parts that can be counted."""
        size = self.dtype.itemsize
        trained = sum(p.numel() for p in self.trainable().values())
        weights = [*self.lm.parameters(), *self.codec.parameters()]
        untrained = [] if self._untrained is None else list(self._untrained.parameters())
        held = {id(p): p.numel() * p.element_size() for p in [*weights, *untrained]}
        layers, width = len(self.lm.transformer.layers), self.lm.dim
        whole = 28  # widths of a layer per frame that are kept until backward, counted; 2 if they are computed again
        kept = 2 if self.model.checkpointing else whole
        codec = 0
        if isinstance(self.codec, MimiModel):  # four of the widest layer at once, counted
            widest = int(cast(Any, self.codec.decoder).n_filters) * self.frame_samples
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


def _by_rows(codec: Callable[[Tensor], Tensor], batch: Tensor, frames: int) -> Tensor:
    """A pass through the codec, some rows at a time."""
    with no_compile():
        return torch.cat([codec(rows) for rows in batch.split(max(1, CODEC_FRAMES // max(frames, 1)))])
