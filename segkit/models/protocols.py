"""What segkit asks of a full-duplex model: hear and speak; and, to be trained, say how likely what it said was.

Letters in the shapes: B completions, T frames, K codebooks, V text tokens. Frame j of the user, of the
text and of the model's own audio all lie at j / frame rate seconds: one clock, whatever delays the model
keeps between its streams inside.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from segkit.audio import Samples
from segkit.settings import ModelSettings, SamplingSettings
from segkit.tasks import Hook


@dataclass(frozen=True, slots=True, eq=False)
class Completions:
    """What was heard and said, all on one clock.

    Attributes:
        user: codes of the user's audio, (B, K, T).
        text: the sampled text, (B, T).
        audio: the sampled codes of the model's own audio, (B, K, T).
        log_probs: of `text` at the moment of sampling, (B, T).
    """

    user: Tensor
    text: Tensor
    audio: Tensor
    log_probs: Tensor

    def __getitem__(self, rows: slice) -> "Completions":
        return Completions(*(part[rows] for part in self.parts()))

    def parts(self) -> tuple[Tensor, ...]:
        """The four, in order; the first axis of each is B, the last T."""
        return self.user, self.text, self.audio, self.log_probs

    @staticmethod
    def concatenate(several: "list[Completions]") -> "Completions":
        """Completions of the same length in one."""
        return Completions(*map(torch.cat, zip(*(each.parts() for each in several), strict=True)))


@dataclass(frozen=True, eq=False)
class Prologue:
    """What happens before the conversation: of Moshi, a silence in which it says its opening phrase.

    Whoever makes a model hear something puts `heard` in front of it, as `segkit.rollouts.scenes` does.

    Attributes:
        heard: by the model, (samples,), whole frames.
    """

    heard: Samples


class Speaker(Protocol):
    """A model that hears and speaks at once. `segkit.models.moshi` implements it for Moshi."""

    rate_hz: int
    frame_samples: int
    device: torch.device

    @property
    def prologue(self) -> Prologue:
        """What comes before every conversation."""

    def encode(self, audio: Tensor) -> Tensor:
        """The user's audio, (B, T * frame_samples) in [-1, 1] -> codes, (B, K, T)."""

    def sample(self, users: Sequence[Tensor], seeds: Sequence[int], rows: int, hook: Hook) -> list[Completions]:
        """Listen to each of the users' codes, (K, T), and speak meanwhile: one completion (B = 1) each.

        All chance of a completion comes from its seed. At most `rows` of them go through the model at once.
        """

    def decode(self, audio: Tensor) -> Tensor:
        """Codes of the model's own audio, (B, K, T) -> audio, (B, T * frame_samples)."""

    def words(self, text: Tensor) -> list[tuple[int, str]]:
        """The words in the text of one completion, (T,), each with the frame it begins in."""


class Trainable(Speaker, Protocol):
    """A model that can be aligned."""

    def text_logits(self, completions: Completions) -> Tensor:
        """Logits of the text, (B, T, V), in one teacher-forced pass: those that `sample` saw."""

    def reference(self) -> AbstractContextManager[None]:
        """Within it, `text_logits` are those of the model before training."""

    def updating(self) -> AbstractContextManager[None]:
        """Around everything between sampling and the last update of a step: saves memory there."""

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """What is trained, by name."""

    def memory(self, rows: int, frames: int, completions: int, microbatch: int, scored_frames: int) -> dict[str, int]:
        """Estimated bytes by purpose, which begins with "sampling:", "scoring:" or "updating:" if only then needed.

        `rows` are sampled at once, `completions` are scored at once, `microbatch` pass through an update at once.
        """

    def export(self, folder: Path) -> list[str]:
        """Write the result so that the model's own tools load it; returns the commands that do, if there are any."""


class Checkpoint(Protocol):
    """A model on disk, found and checked, not loaded."""

    @property
    def name(self) -> str:
        """Its name, or its folder."""

    @property
    def rate_hz(self) -> int:
        """Of the audio that the model hears and says."""

    @property
    def has_adapter(self) -> bool:
        """Whether there is an adapter beside the weights, which loading merges into them."""

    def speaker(self, model: ModelSettings, sampling: SamplingSettings, device: str) -> Speaker:
        """Load the model to speak."""

    def trainable(self, model: ModelSettings, sampling: SamplingSettings, device: str) -> Trainable:
        """Load the model to train it."""
