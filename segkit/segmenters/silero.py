"""Silero's network, the detector of arXiv 2606.11167 (3.3), for many frames, channels and recordings at once.

`silero_vad.get_speech_timestamps` runs it frame by frame; here the same weights see a block of frames of all channels
and recordings in a batch, and the result is the same to the sample (tests/test_vad.py).
"""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from segkit.errors import UsageError
from segkit.segmenters.decision import FloatArray, Framewise
from segkit.settings import VadSettings

CACHE_FRAMES, GPU_FRAMES = 512, 1 << 15
"""Frames at once in Silero's network: those of a CPU's cache; on a GPU half a GB, 14 kB each (16 kHz)."""


class SileroNetwork(nn.Module):
    """The network of the wheel's `silero_vad.jit` at one rate, for many frames at once.

    A frame of 32 ms, with the 4 ms before it and 4 ms mirrored after it, makes four spectra of 16 ms.
    Letters in the shapes: R rows (channels of recordings), T frames, N = T * R, B frequency bins.

    It departs from the original to save arithmetic only. The STFT there is a convolution with a windowed
    Fourier basis, here an FFT. Convolution taps that see nothing but padding are cut, which leaves two
    plain matrices. Convolutions with the channels last read the spectra as they lie in memory and take
    oneDNN's fastest kernels, in half the time of the same as matrix products.
    """

    window: Tensor

    def __init__(self, rate_hz: int) -> None:
        super().__init__()
        self.frame, self.context, self.width = rate_hz * 32 // 1000, rate_hz // 250, rate_hz * 16 // 1000
        self.register_buffer("window", torch.empty(self.width))
        self.conv0 = nn.Conv2d(self.width // 2 + 1, 128, (1, 3), padding=(0, 1))
        self.conv1 = nn.Conv2d(128, 64, (1, 3), padding=(0, 1), stride=(1, 2))
        self.conv2 = nn.Linear(2 * 64, 64)  # a convolution with one output frame is a matrix
        self.conv3 = nn.Linear(64, 128)
        self.lstm = nn.LSTM(128, 128)
        self.decoder = nn.Linear(128, 1)

    def encode(self, frames: Tensor) -> Tensor:
        """Frames with their context, shape (T, R, context + frame) -> features, shape (T, R, 128)."""
        mirrored = frames[..., -self.context - 1 : -1].flip(-1)
        spectrum_audio = torch.cat((frames, mirrored), -1).unfold(-1, self.width, self.width // 2)
        spectra = torch.fft.rfft(spectrum_audio * self.window).flatten(0, 1)  # (N, 4, B)
        power = torch.view_as_real(spectra).square_()  # abs() of complex numbers is three times slower
        magnitude = (power[..., 0] + power[..., 1]).sqrt_()
        x = self.conv0(magnitude.transpose(1, 2).unsqueeze(2)).relu_()  # (N, 128, 1, 4), channels last
        x = self.conv1(x).relu_()  # (N, 64, 1, 2)
        x = self.conv2(x.permute(0, 2, 3, 1).flatten(1)).relu_()  # (N, 64)
        return self.conv3(x).relu_().view(*frames.shape[:2], 128)

    def forward(self, audio: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of speech, shape (R, T), and the new state.

        Args:
            audio: the last samples before the block and whole frames, shape (R, context + T * frame).
            state: the LSTM's hidden and cell state, shape (2, R, 128); zeros at the beginning.
        """
        frames = audio.unfold(1, self.context + self.frame, self.frame).transpose(0, 1)
        at_once = max(1, (CACHE_FRAMES if audio.device.type == "cpu" else GPU_FRAMES) // len(audio))
        hidden_cell = state[:1].contiguous(), state[1:].contiguous()
        probabilities = []
        for some in torch.split(frames, at_once):
            hidden, hidden_cell = self.lstm(self.encode(some), hidden_cell)
            probabilities.append(self.decoder(hidden.relu_()).sigmoid_().squeeze(-1))
        return torch.cat(probabilities).T, torch.cat(hidden_cell)


@cache
def silero_network(rate_hz: int, device: str) -> SileroNetwork:
    """The network with the wheel's weights, read once per process.

    `silero_vad` is not imported, for that sets the number of torch's threads to 1.
    """
    package = importlib.util.find_spec("silero_vad")
    assert package is not None and package.origin is not None  # segkit depends on it
    wheel = torch.jit.load(Path(package.origin).with_name("data") / "silero_vad.jit", "cpu")  # type: ignore[no-untyped-call]
    prefix = "_model." if rate_hz == 16000 else "_model_8k."
    weights = {k.removeprefix(prefix): v for k, v in wheel.state_dict().items() if k.startswith(prefix)}

    state = {"window": weights["stft.forward_basis_buffer"][0, 0]}  # the basis at 0 Hz is 1 * window
    for i in range(4):
        kernel = weights[f"encoder.{i}.reparam_conv.weight"]  # (out, in, 3)
        if i < 2:
            kernel = kernel[:, :, None].contiguous(memory_format=torch.channels_last)
        else:  # one output frame, whose inputs are frames 0 and 1, or frame 0; frame -1 is padding
            kernel = kernel[:, :, 1 : 5 - i].transpose(1, 2).flatten(1)
        state |= {f"conv{i}.weight": kernel, f"conv{i}.bias": weights[f"encoder.{i}.reparam_conv.bias"]}
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        state[f"lstm.{name}_l0"] = weights[f"decoder.rnn.{name}"]
    state["decoder.weight"] = weights["decoder.decoder.2.weight"][:, :, 0]
    state["decoder.bias"] = weights["decoder.decoder.2.bias"]

    with torch.device("meta"):  # no random weights: they would advance the caller's generator
        network = SileroNetwork(rate_hz)
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval().to(device)


@contextmanager
def _exact() -> Iterator[None]:
    """Inference in float32 even where the caller allows less for speed: TF32 would move timestamps."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass(eq=False)
class _Recording:
    """A stream on its way through Silero, with what it carries from block to block."""

    blocks: Iterator[FloatArray]
    samples: int = 0
    context: FloatArray | float = 0.0
    state: Tensor = field(default_factory=lambda: torch.zeros(2, 1, 128))  # to be spread over the channels
    probabilities: list[FloatArray] = field(default_factory=list)


class Silero(Framewise):
    """Silero VAD with the weights of the installed wheel."""

    frame_ms = 32

    def __init__(self, settings: VadSettings, device: str = "cpu") -> None:
        super().__init__(settings)
        try:
            usable = torch.device(device).type != "cuda" or torch.cuda.is_available()
        except RuntimeError:
            usable = False
        if not usable:
            raise UsageError(f"Device {device!r} cannot be used here. Expected cpu, or cuda where torch finds a GPU.")
        self.device = device

    def probabilities(self, streams: Sequence[Iterator[FloatArray]], rate_hz: int) -> list[tuple[FloatArray, int]]:
        """Per stream: probabilities, shape (channels, frames), and the length in samples."""
        network = silero_network(rate_hz, self.device)
        recordings = [_Recording(stream) for stream in streams]
        live = recordings
        while batch := [(r, block) for r in live if (block := next(r.blocks, None)) is not None]:
            self._step(network, batch)
            live = [r for r, _ in batch]
        nothing = np.zeros((0, 0), np.float32)  # no block, so no channel
        return [(np.concatenate(r.probabilities or [nothing], axis=1), r.samples) for r in recordings]

    def _step(self, network: SileroNetwork, batch: list[tuple[_Recording, FloatArray]]) -> None:
        """One block of each recording; the rows of the network's batch are all their channels."""
        channels = [len(block) for _, block in batch]
        frames = [-(-block.shape[1] // network.frame) for _, block in batch]
        audio = np.zeros((sum(channels), network.context + max(1, *frames) * network.frame), np.float32)
        for (recording, block), rows in zip(batch, np.split(audio, np.cumsum(channels)[:-1]), strict=True):
            rows[:, : network.context] = recording.context
            rows[:, network.context :][:, : block.shape[1]] = block
            recording.context = rows[:, -network.context :].copy()
            recording.samples += block.shape[1]
        state = torch.cat([r.state.expand(2, n, 128) for (r, _), n in zip(batch, channels, strict=True)], dim=1)
        with _exact():
            found, state = network(torch.from_numpy(audio).to(self.device), state.to(self.device))
        pieces = zip(torch.split(found.cpu(), channels), torch.split(state.cpu(), channels, dim=1), strict=True)
        for (recording, _), valid, (piece, recording_state) in zip(batch, frames, pieces, strict=True):
            recording.probabilities.append(piece[:, :valid].numpy())
            recording.state = recording_state
