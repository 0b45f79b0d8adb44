"""When does each channel speak? Voice activity detection (VAD) with Silero's network or WebRTC's mixture.

arXiv 2606.11167 (3.3) uses Silero. `silero_vad.get_speech_timestamps` runs it frame by frame; here the
same weights see a block of frames at once, of all channels and recordings in a batch, and the result is
the same to the sample (tests/test_vad.py).

Audio is float32 in [-1, 1] at 8 or 16 kHz; telephone speech stays at 8 kHz, for which Silero has a network
of its own. Times are in seconds and exact: a whole number of samples divided by the rate.

    >>> silence = np.zeros((2, 16000), np.float32)
    >>> [channel.shape for channel in detect_array(load(VadSettings()), silence, rate_hz=16000)]
    [(0, 2), (0, 2)]
"""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segkit.errors import UsageError, nearest
from segkit.schemas import NO_INTERVALS, Intervals, VadSettings

FloatArray: TypeAlias = NDArray[np.float32]

BLOCK_FRAMES = 512
"""Frames per block, about 16 s: enough to be fast, few enough that memory is constant and small."""

CACHE_FRAMES, GPU_FRAMES = 512, 1 << 15
"""Frames at once in Silero's network: those of a CPU's cache; on a GPU half a GB, 14 kB each (16 kHz)."""


class VoiceActivityDetector(Protocol):
    """What finds the speech on every channel of a batch of recordings."""

    def block_samples(self, rate_hz: int) -> int:
        """Length of all but the last block of each stream."""

    def detect(self, streams: Sequence[Iterator[FloatArray]], rate_hz: int) -> list[list[Intervals]]:
        """Speech per stream and channel.

        Args:
            streams: one per recording: consecutive blocks, each (channels, samples).
            rate_hz: 8000 or 16000.
        """


def rate_for(rate_hz: int) -> int:
    """The rate at which to listen to audio of some rate: telephone speech goes to the native 8 kHz network."""
    return 8000 if rate_hz == 8000 else 16_000


def load(settings: VadSettings, device: str = "cpu") -> VoiceActivityDetector:
    """The detector that the settings name. The device is for networks; WebRTC's runs on the CPU only."""
    if settings.backend == "silero":
        return Silero(settings, device)
    if settings.backend == "webrtc":
        return WebRtc(settings)
    if settings.backend == "pyannote":
        from segkit.segmenters.pyannote import Pyannote  # takes seconds to import

        return Pyannote(settings, device)
    hint = nearest(settings.backend, ["silero", "webrtc", "pyannote", "transcript"])
    raise UsageError(f"Unknown VAD backend {settings.backend!r}. {hint}")


def detect_array(detector: VoiceActivityDetector, audio: FloatArray, rate_hz: int) -> list[Intervals]:
    """Speech per channel of one recording in memory, shape (channels, samples)."""
    size = detector.block_samples(rate_hz)
    starts = range(0, max(1, audio.shape[1]), size)  # an empty recording is one empty block
    return detector.detect([iter([audio[:, i : i + size] for i in starts])], rate_hz)[0]


def speech_intervals(
    probabilities: FloatArray, samples: int, frame_samples: int, rate_hz: int, settings: VadSettings
) -> Intervals:
    """Speech of one channel from its probability per frame, as Silero's `get_speech_timestamps` decides.

    Speech starts at a loud frame (at or above the threshold). It ends at the first quiet one (below the
    exit threshold) if another quiet one follows after the minimum silence or later, with no loud one in
    between. Frames between the thresholds change nothing. So whether speech ends before the next loud
    frame does not depend on how it came there, and all loud frames are decided at once.

    Args:
        probabilities: shape (frames,).
        samples: length of the recording, at most frames * frame_samples.
        frame_samples: length of a frame.
        rate_hz: sampling rate.
        settings: thresholds, minimum durations and padding.
    """
    p = probabilities.astype(np.float64)  # in float32, the threshold would be rounded
    loud = np.flatnonzero(p >= settings.threshold)
    quiet = np.flatnonzero(p < max(settings.threshold - 0.15, 0.01))
    if not len(loud):
        return NO_INTERVALS
    durations_s = settings.min_speech_s, settings.min_silence_s, settings.speech_pad_s
    # Silero counts in milliseconds and is exact; 16000 * 0.07 is 1120 and a rounding error.
    min_speech, min_silence, pad = (round(rate_hz * s, 6) for s in durations_s)

    first = np.searchsorted(quiet, loud)  # the first quiet frame after each loud one
    last = np.searchsorted(quiet, np.append(loud[1:], len(p))) - 1  # the last before the next loud one
    quiet = np.append(quiet, 0)  # for the indices where there is none; then first > last
    ends_here = (first <= last) & ((quiet[last] - quiet[first]) * frame_samples >= min_silence)
    starts = loud[np.append(True, ends_here[:-1])] * frame_samples
    ends = quiet[first[ends_here]] * frame_samples
    if not ends_here[-1]:  # the recording ends in speech
        ends = np.append(ends, samples)
    long = ends - starts > min_speech
    starts, ends = starts[long], ends[long]

    gaps = starts[1:] - ends[:-1]
    room = np.where(gaps < 2 * pad, gaps // 2, pad)  # neighbours share a gap too short for both pads
    starts_padded = np.maximum(starts - np.append(pad, room)[: len(starts)], 0)
    ends_padded = np.minimum(ends + np.append(room, pad)[: len(ends)], samples)
    return np.floor(np.stack((starts_padded, ends_padded), axis=1)) / rate_hz


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


class _Framewise:
    """Detection from a probability of speech per frame, which the subclass finds."""

    frame_ms: int

    def __init__(self, settings: VadSettings) -> None:
        if settings.threshold < 0.01:  # the exit threshold, at least 0.01, would lie above it
            raise UsageError(f"Setting 'vad.threshold' is {settings.threshold}. Expected 0.01 or more.")
        self.settings = settings

    def probabilities(self, streams: Sequence[Iterator[FloatArray]], rate_hz: int) -> list[tuple[FloatArray, int]]:
        """Per stream: probabilities, shape (channels, frames), and the length in samples."""
        raise NotImplementedError

    def frame_samples(self, rate_hz: int) -> int:
        """Samples per frame."""
        if rate_hz not in (8000, 16000):
            raise ValueError(f"Voice activity detection got {rate_hz} Hz. Resample to 8000 or 16000 Hz.")
        return rate_hz * self.frame_ms // 1000

    def block_samples(self, rate_hz: int) -> int:
        """Length of all but the last block of each stream."""
        return BLOCK_FRAMES * self.frame_samples(rate_hz)

    def detect(self, streams: Sequence[Iterator[FloatArray]], rate_hz: int) -> list[list[Intervals]]:
        """Speech per stream and channel."""
        size, frame = self.block_samples(rate_hz), self.frame_samples(rate_hz)
        return [
            [speech_intervals(row, samples, frame, rate_hz, self.settings) for row in rows]
            for rows, samples in self.probabilities([_checked(stream, size) for stream in streams], rate_hz)
        ]


def _checked(blocks: Iterator[FloatArray], size: int) -> Iterator[FloatArray]:
    """The same blocks; a short one that is not the last would shift all that follows."""
    previous = size
    for block in blocks:
        if previous < size or block.shape[1] > size:
            raise ValueError(f"Blocks must be {size} samples long, and only the last may be shorter.")
        previous = block.shape[1]
        yield block


@dataclass(eq=False)
class _Recording:
    """A stream on its way through Silero, with what it carries from block to block."""

    blocks: Iterator[FloatArray]
    samples: int = 0
    context: FloatArray | float = 0.0
    state: Tensor = field(default_factory=lambda: torch.zeros(2, 1, 128))  # to be spread over the channels
    probabilities: list[FloatArray] = field(default_factory=list)


class Silero(_Framewise):
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


class WebRtc(_Framewise):
    """WebRTC's VAD, for comparison: a Gaussian mixture that says yes or no every 30 ms.

    Of its degrees of aggressiveness, 0 to 3, it uses 2. The threshold has no meaning; minimum durations
    and padding apply.
    """

    frame_ms = 30

    def __init__(self, settings: VadSettings) -> None:
        super().__init__(replace(settings, threshold=0.5))

    def probabilities(self, streams: Sequence[Iterator[FloatArray]], rate_hz: int) -> list[tuple[FloatArray, int]]:
        """Per stream: 0 or 1, shape (channels, frames), and the length in samples."""
        return [self._probabilities(stream, rate_hz) for stream in streams]

    def _probabilities(self, blocks: Iterator[FloatArray], rate_hz: int) -> tuple[FloatArray, int]:
        import webrtcvad

        frame, samples = self.frame_samples(rate_hz), 0
        channels: list[tuple[webrtcvad.Vad, list[bool]]] = []
        for block in blocks:
            channels = channels or [(webrtcvad.Vad(2), []) for _ in block]
            samples += block.shape[1]
            pcm = np.rint(np.clip(block, -1, 1) * 32767).astype(np.int16)
            pcm = np.pad(pcm, ((0, 0), (0, -block.shape[1] % frame)))
            for (vad, speech), row in zip(channels, pcm, strict=True):
                speech += [vad.is_speech(some.tobytes(), rate_hz) for some in row.reshape(-1, frame)]
        return np.array([speech for _, speech in channels], dtype=np.float32), samples
