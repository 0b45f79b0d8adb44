"""Moshi as a policy: any checkpoint that `moshi.models.loaders.CheckpointInfo` loads.

Streaming and the teacher-forced pass are the same function of the same tokens. Inside, stream k of the
model runs `delays[k]` frames late, its first input is an initial token, and streaming puts that token in
the place of the user's first frame: so frame 0 of the user is fed twice, as moshi's own inference does,
and what is sampled at step s is frame s - delay of its stream. tests/test_moshi.py holds this to 1e-4.

Letters in the shapes: B completions, T frames, K codebooks, V text tokens.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from moshi.models.lm import LMModel
from moshi.utils.compile import no_compile
from torch import Tensor

from segkit.audio import sample_at
from segkit.models.checkpoints import MoshiCheckpoint
from segkit.models.devices import torch_dtype
from segkit.models.protocols import Completions, Prologue
from segkit.models.streaming import Sampler, chance, schedule
from segkit.settings import ModelSettings, SamplingSettings
from segkit.tasks import Hook

CODEC_FRAMES = 1024
"""Frames that pass the codec at once, for Mimi 2 GB of activations; the rows of a batch go through in parts."""

WORD_START = "▁"


class MoshiSpeaker:
    """Moshi, hearing and speaking: a `segkit.models.protocols.Speaker`."""

    def __init__(
        self, checkpoint: MoshiCheckpoint, model: ModelSettings, sampling: SamplingSettings, device: str
    ) -> None:
        self.checkpoint, self.model, self.sampling = checkpoint, model, sampling
        self.device = torch.device(device)
        self.dtype = torch_dtype(model, self.device)
        self.codec = checkpoint.codec(device).requires_grad_(False)
        self.lm: LMModel = checkpoint.lm(device, self.dtype).requires_grad_(False)
        self.tokenizer = checkpoint.tokenizer()
        self.rate_hz, self.frame_samples = self.codec.sample_rate, self.codec.frame_size
        self.sampler = Sampler(self.lm, sampling)

    @cached_property
    def prologue(self) -> Prologue:
        """Silence for `sampling.opening_s`, rounded up to frames."""
        frames = -(-sample_at(self.sampling.opening_s, self.rate_hz) // self.frame_samples)
        return Prologue(np.zeros(frames * self.frame_samples, np.float32))

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


def _by_rows(codec: Callable[[Tensor], Tensor], batch: Tensor, frames: int) -> Tensor:
    """A pass through the codec, some rows at a time."""
    with no_compile():
        return torch.cat([codec(rows) for rows in batch.split(max(1, CODEC_FRAMES // max(frames, 1)))])
