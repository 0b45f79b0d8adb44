"""One streaming pass of a Moshi over many completions at once, each with its own chance.

What a completion says follows from the weights, from what it hears, and from its seed: a number in [0, 1) for each
frame and stream decides which token is drawn there. So its tokens are the same alone and in any company, in
any row, and on any machine, as far as kernels round alike.

moshi's generator, its keys and values and, on CUDA, its graphs are kept from one pass to the next of the same
shape: to capture graphs and to reserve up to tens of GiB takes seconds, and a run has thousands of passes.
"""

import gc
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from heapq import heappop, heappush
from typing import Any

import numpy as np
import torch
from moshi.models.lm import LMGen, LMModel
from moshi.modules.transformer import StreamingTransformer, set_attention_context
from moshi.utils.compile import no_compile
from torch import Tensor

from segkit.alignment.objective import token_log_probs
from segkit.errors import SegkitWarning
from segkit.models.internals import attention_context
from segkit.settings import SamplingSettings
from segkit.tasks import Hook

FRAMES_AT_ONCE = 128
"""Keys and values are reserved for a multiple of this, so that the shapes of passes repeat; with a multiple of 8, as
Moshi's context is one, too, attention needs no padded copy of its mask."""


def chance(seed: int, frames: int, streams: int) -> Tensor:
    """What decides the tokens of a completion, (frames, streams) in [0, 1); a longer one begins like a shorter one."""
    return torch.from_numpy(np.random.Generator(np.random.Philox(seed)).random((frames, streams)))


def schedule(lengths: Sequence[int], rows: int) -> tuple[list[tuple[int, int]], int]:
    """Lay stretches of some lengths end to end in rows; the longest first, each where it can start earliest.

    Returns:
        The row and the start of each stretch, and the length of the longest row.

    >>> schedule([3, 9, 5, 4], rows=2)
    ([(0, 9), (0, 0), (1, 0), (1, 5)], 12)
    """
    free = [(0, row) for row in range(min(rows, len(lengths)))]
    places = [(0, 0)] * len(lengths)
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        start, row = heappop(free)
        places[i] = row, start
        heappush(free, (start + lengths[i], row))
    return places, max(end for end, _ in free)


def draw(logits: Tensor, temperature: float, top_k: int, numbers: Tensor) -> Tensor:
    """Tokens, (B,), that are distributed as the softmax of logits (B, V) over the temperature.

    Each is where the cumulative sum of the probabilities passes its number, (B,) in [0, 1).

    Args:
        logits: (B, V).
        temperature: more than 0.
        top_k: only the likeliest so many tokens can be drawn; 0: all.
        numbers: (B,) float64.
    """
    probabilities = (logits.float() / temperature).softmax(-1)
    tokens = None
    if 0 < top_k < logits.shape[-1]:
        probabilities, tokens = probabilities.topk(top_k)
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    place = (cumulative <= numbers[:, None] * cumulative[:, -1:]).sum(-1, keepdim=True)
    place = place.clamp(max=cumulative.shape[-1] - 1)
    return (place if tokens is None else tokens.gather(-1, place))[:, 0]


class Generator(LMGen):
    """moshi's generator, which takes its chance from outside and keeps what it samples.

    Attributes:
        numbers: what decides the tokens of the next step, (B, 1 + K): text, then the streams of audio. CUDA's
            graphs read them where they are, so they are written in place.
        text, log_probs, audio: of each step so far: (B,), (B,), (B, K).
    """

    def __init__(self, lm: LMModel, sampling: SamplingSettings, rows: int) -> None:
        super().__init__(
            lm,
            temp=sampling.audio_temperature,
            top_k=sampling.audio_top_k,
            temp_text=0.0,  # moshi's own choice, the likeliest token, is written over
            on_text_logits_hook=self.on_logits,
            on_text_hook=self.on_text,
            on_audio_hook=self.on_audio,
            support_out_of_sync=True,
            condition_tensors={},
        )
        self.text_temperature = sampling.text_temperature
        self.numbers = torch.zeros(rows, 1 + lm.dep_q, dtype=torch.float64, device=lm.device)
        self.forget()

    def forget(self) -> None:
        """Begin anew: all rows, and what was kept."""
        self.text: list[Tensor] = []
        self.log_probs: list[Tensor] = []
        self.audio: list[Tensor] = []
        if self.is_streaming:
            self.reset_streaming()

    def on_logits(self, logits: Tensor) -> None:
        """Called with the text logits of a step, (B, 1, 1, V)."""
        self.logits = logits[:, 0, 0]

    def on_text(self, tokens: Tensor) -> None:
        """Called with moshi's text tokens, (B,); what is written into them goes on from here."""
        # All of the distribution, for it is the one that the log-probabilities are of.
        tokens.copy_(draw(self.logits, self.text_temperature, 0, self.numbers[:, 0]))
        self.text.append(tokens.clone())  # CUDA's graphs write the next ones into the same memory
        self.log_probs.append(token_log_probs(self.logits[:, None], tokens[:, None], self.text_temperature)[:, 0])

    def on_audio(self, tokens: Tensor) -> None:
        """Called with the audio tokens of a step, (B, K)."""
        self.audio.append(tokens.clone())

    def depformer_step(self, text_token: Tensor, transformer_out: Tensor) -> Tensor:
        """The audio tokens of a step, (B, K), stream by stream, each from the one before it."""
        lm, tokens = self.lm_model, [text_token]
        with lm.depformer.streaming(len(text_token)):
            for k in range(lm.dep_q):
                logits = lm.forward_depformer(k, tokens[-1][:, None, None], transformer_out)
                tokens.append(draw(logits[:, 0, 0], self.temp, self.top_k, self.numbers[:, 1 + k]))
        return torch.stack(tokens[1:], 1)


class Sampler:
    """Streaming passes of one model, which keep the generator of the last shape."""

    def __init__(self, lm: LMModel, sampling: SamplingSettings) -> None:
        self.lm, self.sampling = lm, sampling
        self._shape = (0, 0)
        self._generator: Generator | None = None
        self._state: dict[str, Any] = {}

    def __call__(
        self, heard: Tensor, numbers: Tensor, starts: Mapping[int, list[int]], longest: int, hook: Hook
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One pass; returns text and its log-probabilities, (rows, steps), and audio, (rows, K, steps), all delayed.

        Args:
            heard: by each row at each step, (rows, K, steps).
            numbers: what decides its tokens, (rows, steps, 1 + K).
            starts: the rows that start afresh at a step.
            longest: steps from a start to the next, at most.
            hook: called with the progress.
        """
        rows, _, steps = heard.shape
        with compiled_if_possible(heard.device), self._streaming(rows, longest) as generator:
            for step in range(steps):
                if step and step in starts:
                    fresh = torch.zeros(rows, dtype=torch.bool)
                    fresh[starts[step]] = True
                    generator.reset_streaming(fresh)
                generator.numbers.copy_(numbers[:, step])
                generator.step(heard[:, :, step : step + 1])
                if step % 25 == 0:
                    hook("sampling", step, steps)
            hook("sampling", steps, steps)
            return torch.stack(generator.text, 1), torch.stack(generator.log_probs, 1), torch.stack(generator.audio, 2)

    @contextmanager
    def _streaming(self, rows: int, frames: int) -> Iterator[Generator]:
        """The generator, ready to start; outside of this, the model does not stream and attends to all it is given."""
        shape = rows, reserved(self.lm, frames)
        with attention_over(self.lm.transformer, shape[1]):
            if shape != self._shape:
                self._forget()
            try:
                if self._generator is None:
                    self._generator = Generator(self.lm, self.sampling, rows)
                    self._generator.streaming_forever(rows)
                else:
                    self.lm.set_streaming_state(self._state)
                self._shape = shape
                self._generator.forget()
                yield self._generator
                self._state = self.lm.get_streaming_state()
            except BaseException:
                self._forget()  # its state is not known, and its memory may be needed
                raise
            finally:
                self.lm.set_streaming_state(dict.fromkeys(self.lm.get_streaming_state()))

    def _forget(self) -> None:
        self._shape, self._generator, self._state = (0, 0), None, {}
        gc.collect()  # generators and their states refer to each other


def reserved(lm: LMModel, frames: int) -> int:
    """The frames for which keys and values are reserved, if the longest completion has so many."""
    rounded = -(-frames // FRAMES_AT_ONCE) * FRAMES_AT_ONCE
    return min(rounded, lm.context or rounded)


@contextmanager
def attention_over(transformer: StreamingTransformer, frames: int) -> Iterator[None]:
    """Keys and values for so many frames only: moshi reserves, and reads at every step, its whole context."""
    context = attention_context(transformer.layers[0])
    try:
        set_attention_context(transformer, frames)
        yield
    finally:
        set_attention_context(transformer, context)


def compiled_if_possible(device: torch.device) -> AbstractContextManager[None]:
    """Within this, moshi compiles parts of itself at their first call, if they are on a GPU and that works.

    On a CPU, compiling takes longer than what it speeds up.
    """
    return nullcontext() if device.type == "cuda" and can_compile(str(device)) else no_compile()


@cache
def can_compile(device: str) -> bool:
    """Whether torch.compile works on a device, for which CUDA needs Triton and a C compiler; warns if it does not."""
    if os.environ.get("NO_TORCH_COMPILE"):
        return False
    try:
        torch.compile(lambda x: 2 * x + 1)(torch.zeros(8, device=device))
    except Exception as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        warnings.warn(
            f"torch.compile does not work on {device} ({reason}). Sampling goes on without it, and slower. It needs "
            "Triton, a C compiler (apt-get install gcc) and the headers of Python; NO_TORCH_COMPILE=1 switches it off.",
            SegkitWarning,
            stacklevel=2,
        )
        return False
    return True
