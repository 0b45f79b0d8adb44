"""How much of one channel is in the other, and each channel without it.

Crosstalk of headsets in one room, of cables, or the echo of a loudspeaker: what a speaker says is in the other's
channel too, quieter and later. For a channel i and the speaker of the other one, j, the response h of the path is the
least-squares solution of x_i = h * x_j, from cross spectra over stretches in which j speaks and dominates, less the
cross spectra of the background, so that hum or noise common to both counts as no leak. Two halves of the stretches are
solved apart: a leak is what both agree on, and its level, E[(h_a * x_j) (h_b * x_j)] / E[x_j^2], has no bias by noise.

`gated` takes from each channel what the response explains: bins of a short-time spectrum that hold little more than
h * x_j are reduced to the background, whatever they hold beyond it stays.

    >>> rng = np.random.default_rng(0)
    >>> turns = np.repeat([[1, 0, 0] * 10, [0, 1, 0] * 10], 8000, axis=1)  # of a second each, and a silence
    >>> voices = turns * rng.normal(0, 0.1, turns.shape)
    >>> activity = tuple(np.arange(start, 30, 3)[:, None] + np.array([[0.0, 1.0]]) for start in (0.0, 1.0))
    >>> mixed = voices + 0.1 * np.roll(voices[::-1], 80, axis=1)
    >>> found = stretches([(0, mixed.astype(np.float32))], activity, 8000)
    >>> [(round(leak.level_db), leak.delay_s) for leak in leaks(found)]
    [(-20, 0.01), (-20, 0.01)]
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkit.schemas import Intervals
from segkit.segmenters.decision import FloatArray

FRAME_S = 0.016
WINDOW_FRAMES = 64
"""Frames in which one speaker dominates or not, and how many of them make a stretch that is transformed at once."""
WINDOWS = 16
"""Stretches that are looked at for each direction: those in which the speaker is alone longest."""
MIN_ALONE_S = 1.0
"""Speech that dominates for less than this says nothing of its leak."""
MAX_DELAY_S = 0.4
RESPONSE_S, BEFORE_S = 0.016, 0.002
"""Length of the response, and how much of it lies before its largest value."""
MAX_APART_S = 0.001
"""The two halves of the stretches must agree on the delay as well as this: by chance, one in 400 recordings would."""
MIN_HZ = 60.0
FLOOR_DB = -60.0
"""The level of what is not found."""
AUDIBLE_DB = -40.0
"""From this level on, a leak is taken for speech and costs segments (docs/measurements.md)."""
SAME_GAIN_DB, SAME_CONTRAST_DB, SAME_SHARE = 7.0, 4.0, 0.7
"""Both channels hold one signal if they are about as loud, speakers are not told apart by in which of them they are
louder, and of one channel this share follows from the other (docs/measurements.md)."""

GATE_S = 0.064
GATE_FACTOR = 3.0
"""A bin is kept for its power beyond this many times that of the leak: the response is shorter than a room's."""
BACKGROUND = 0.1
"""Quantile of a bin's power over a block that is the background, to which a leak is reduced."""

Mask = NDArray[np.bool_]


class Leak(NamedTuple):
    """How the other speaker is heard in a channel.

    Attributes:
        level_db: power of the leak relative to the same speech in the speaker's own channel; at least `FLOOR_DB`.
        delay_s: how much later the leak is; None if there is none.
        response: of the path, (taps,).
        first: the lag of the first tap, in samples.
    """

    level_db: float
    delay_s: float | None
    response: NDArray[np.float64]
    first: int

    @property
    def audible(self) -> bool:
        """Whether it is loud enough to be taken for speech."""
        return self.level_db >= AUDIBLE_DB


NOTHING = Leak(FLOOR_DB, None, np.zeros(0), 0)


class Stretches(NamedTuple):
    """Audio in frames, and what is known of each frame.

    Attributes:
        audio: (stretches, 2, frames, samples).
        speaks: where a channel holds speech, (2, stretches, frames).
        dominates: where that is louder than the other one's, (2, stretches, frames).
        silent: where nobody speaks, (stretches, frames).
        rate_hz: sampling rate.
    """

    audio: FloatArray
    speaks: Mask
    dominates: Mask
    silent: Mask
    rate_hz: int


def leaks(found: Stretches) -> tuple[Leak | None, Leak | None]:
    """The leak into channel 0 and the one into channel 1; None where a speaker is hardly ever alone."""
    return _leak(found, 0), _leak(found, 1)


def is_one_signal(found: Stretches) -> bool:
    """Whether both channels hold the same but for a small gain, a delay, and coding.

    In a recording of two people, each is louder in one of the channels than in the other.
    """
    chosen = _most(found.speaks[0] & found.speaks[1])
    if chosen is None:
        return False
    both = (found.speaks[0] & found.speaks[1])[chosen, :, None]
    audio = found.audio[chosen]
    low_db, high_db = np.quantile(_db(_power(audio[:, 0]) / _power(audio[:, 1]))[both[..., 0]], [0.1, 0.9])
    if high_db - low_db > 3 * SAME_CONTRAST_DB:  # whatever the delay; the rest takes longer
        return False
    first, second = (_spectra(audio[:, i] * both) for i in (0, 1))
    power = np.square(np.abs(second)).sum(axis=0)
    cross = (first * second.conj()).sum(axis=0, keepdims=True)
    delay = _delays(cross, power, found.rate_hz)[0]
    (response,), _, (correlation,) = _solve(cross, power, delay, found.rate_hz)
    energy = np.fft.irfft(np.square(np.abs(first)).sum(axis=0))[0]
    aligned = np.roll(audio[:, 1].reshape(len(audio), -1), delay, axis=1).reshape(audio[:, 1].shape)
    ratio_db = _db(_power(audio[:, 0]) / _power(aligned))[both[..., 0]]
    low_db, gain_db, high_db = np.quantile(ratio_db, [0.03, 0.5, 0.97])  # not all: stretches are cut
    alike = abs(gain_db) <= SAME_GAIN_DB and high_db - low_db <= SAME_CONTRAST_DB
    return bool(alike and response @ correlation >= SAME_SHARE * energy)


def stretches(
    pieces: Sequence[tuple[int, FloatArray]], activity: Sequence[Intervals], rate_hz: int
) -> Stretches | None:
    """The frames of a recording, and who is heard in each; None if it has no whole stretch.

    Args:
        pieces: parts of the recording, each with its first sample, (2, samples).
        activity: speech on both channels as VAD finds it, each (n, 2); that of leaks among it.
        rate_hz: sampling rate.
    """
    frame = round(FRAME_S * rate_hz)
    size = frame * WINDOW_FRAMES
    whole = [(start, piece[:, : piece.shape[1] // size * size]) for start, piece in pieces if piece.shape[1] >= size]
    if not whole:
        return None
    shape = 2, -1, WINDOW_FRAMES, frame
    audio = np.concatenate([piece.reshape(shape).swapaxes(0, 1) for _, piece in whole])
    firsts = np.concatenate([start + np.arange(0, piece.shape[1], frame) for start, piece in whole])
    middles_s = (firsts.reshape(-1, WINDOW_FRAMES) + frame / 2) / rate_hz
    power = np.stack([_power(audio[:, i]) for i in (0, 1)])
    active = np.stack([_inside(each, middles_s) for each in activity])
    silent = ~(active[0] | active[1])
    speaks = active & (power > 2 * _background(power, silent)[:, None, None])
    ratio_db = _db(power[0] / power[1])
    border_db = _border(ratio_db[speaks[0] | speaks[1]])
    dominates = speaks & np.stack([ratio_db > border_db, ratio_db <= border_db])
    return Stretches(audio, speaks, dominates, silent, rate_hz)


def _power(frames: FloatArray) -> NDArray[np.float64]:
    """Mean power of frames (stretches, frames, samples) less that of the mean of a stretch, (stretches, frames)."""
    power = np.einsum("sfn,sfn->sf", frames, frames) / frames.shape[2]
    return np.maximum(power - np.square(frames.mean(axis=(1, 2)))[:, None], 1e-12)


def _db(power: NDArray[np.float64]) -> NDArray[np.float64]:
    return 10 * np.log10(power)


def _inside(intervals: Intervals, times_s: NDArray[np.float64]) -> Mask:
    begun = np.searchsorted(intervals[:, 0], times_s, side="right")
    return begun > np.searchsorted(intervals[:, 1], times_s, side="right")


def _background(power: NDArray[np.float64], silent: Mask) -> NDArray[np.float64]:
    """Power of the background of each channel, (2,), from frames (2, stretches, frames)."""
    if np.count_nonzero(silent) < WINDOW_FRAMES:
        return np.quantile(power, 0.05, axis=(1, 2))
    return power[:, silent].mean(axis=1)


def _border(values: NDArray[np.float64]) -> float:
    """The border between the two clusters of some values (2-means)."""
    if not len(values):
        return 0.0
    low, high = np.quantile(values, [0.02, 0.98])
    for _ in range(20):
        above = values > (low + high) / 2
        if above.all() or not above.any():
            break
        low, high = values[~above].mean(), values[above].mean()
    return float(low + high) / 2


def _most(mask: Mask) -> NDArray[np.intp] | None:
    """The stretches in which most frames of a mask (stretches, frames) are, in order; None if these are too few."""
    counts = mask.sum(axis=1)
    chosen = np.sort(np.argsort(-counts, kind="stable")[:WINDOWS])
    chosen = chosen[counts[chosen] > 0]
    return chosen if counts[chosen].sum() * FRAME_S >= MIN_ALONE_S else None


def _leak(found: Stretches, i: int) -> Leak | None:
    """The leak of the other speaker into channel i."""
    rate_hz, (own, alone) = found.rate_hz, (found.dominates[i], found.dominates[1 - i])
    chosen = _most(alone)
    if chosen is None:
        return None
    alone, silent, own = (mask[chosen, :, None] for mask in (alone, found.silent, own))
    audio = found.audio[chosen] - found.audio[chosen].mean(axis=(2, 3), keepdims=True)
    voice, background = (_spectra(audio[:, 1 - i] * mask) for mask in (alone, silent))
    heard = _spectra(audio[:, i] * ~own)
    excess = np.count_nonzero(alone) / max(np.count_nonzero(silent), 1)
    excess = excess if np.count_nonzero(silent) * FRAME_S >= MIN_ALONE_S else 0.0
    cross = heard * (voice - excess * background).conj()
    powers = np.square(np.abs(voice)) - excess * np.square(np.abs(background))
    weight = _weight(
        np.square(np.abs(heard)).sum(axis=0), powers.sum(axis=0), np.square(np.abs(voice)).sum(axis=0), rate_hz
    )
    halves = np.stack([each.sum(axis=0) * weight for each in (cross[::2], cross[1::2])])
    shares = np.stack([each.sum(axis=0) @ weight for each in (powers[::2], powers[1::2])])
    power = powers.sum(axis=0).clip(0) * weight
    if not halves.any() or not (shares > 0).all():
        return NOTHING
    halves = halves * (shares.sum() / shares)[:, None]
    first, second, delay = _delays(np.stack([*halves, halves.mean(axis=0)]), power, rate_hz)
    if abs(first - second) > MAX_APART_S * rate_hz:
        return NOTHING
    responses, auto, _ = _solve(halves, power, delay, rate_hz)
    gain = responses[0] @ auto @ responses[1] / auto[0, 0]
    level_db = 10 * np.log10(max(gain, 10 ** (FLOOR_DB / 10)))
    return Leak(float(level_db), delay / rate_hz, responses.mean(axis=0), delay - round(BEFORE_S * rate_hz))


def _spectra(frames: NDArray[np.floating]) -> NDArray[np.complex64]:
    """Spectra (stretches, bins) of frames (stretches, frames, samples)."""
    signals = torch.from_numpy(np.ascontiguousarray(frames, np.float32)).flatten(1)
    return torch.fft.rfft(signals).numpy()


def _weight(
    heard: NDArray[np.floating], speech: NDArray[np.floating], voice: NDArray[np.floating], rate_hz: int
) -> NDArray[np.float64]:
    """How much a bin tells of a leak: little where the channel is loud, and where the voice is mostly background.

    Args:
        heard: power of the channel, (bins,).
        speech: that of the voice, less the background.
        voice: that of the voice.
        rate_hz: sampling rate.
    """
    heard, speech, voice = (np.convolve(power, np.full(65, 1 / 65), "same") for power in (heard, speech, voice))
    tiny = float(np.finfo(np.float32).tiny)
    weight = speech.clip(0) / (voice + tiny) / (heard + 1e-4 * heard.max() + tiny)
    weight[: round(MIN_HZ * 2 * len(weight) / rate_hz)] = 0
    return weight


def _delays(cross: NDArray[np.complexfloating], power: NDArray[np.floating], rate_hz: int) -> list[int]:
    """Where the largest value of each response to a signal of some power is, (n, bins), in samples."""
    reach = round(MAX_DELAY_S * rate_hz)
    responses = np.fft.irfft(cross / (power + power.mean()))
    near = np.concatenate([responses[:, -reach:], responses[:, : reach + 1]], axis=1)
    return (np.abs(near).argmax(axis=1) - reach).tolist()


def _solve(
    cross: NDArray[np.complexfloating], power: NDArray[np.floating], delay: int, rate_hz: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Least squares of n channels on a signal: responses (n, taps), its autocorrelation, and the correlations."""
    taps, before = round(RESPONSE_S * rate_hz), round(BEFORE_S * rate_hz)
    lags = np.arange(taps)
    auto = np.fft.irfft(power)[np.abs(lags[:, None] - lags)]
    correlations = np.fft.irfft(cross)[:, delay - before + lags]
    responses = np.linalg.solve(auto + 1e-3 * auto[0, 0] * np.eye(taps), correlations.T).T
    return responses, auto, correlations


def gated(blocks: Iterator[FloatArray], paths: dict[int, Leak], rate_hz: int) -> Iterator[FloatArray]:
    """Some channels of a recording without the other speaker.

    Args:
        blocks: consecutive ones of the recording, (2, samples), of one length but for the last.
        paths: the leaks into the channels that are wanted.
        rate_hz: sampling rate.
    """
    edge = round((MAX_DELAY_S + RESPONSE_S + GATE_S) * rate_hz)
    for wide in _with_surroundings(blocks, edge):
        both = torch.from_numpy(wide)
        cleaned = [_without(both[i], _through(both[1 - i], leak), rate_hz) for i, leak in paths.items()]
        yield torch.stack(cleaned)[:, edge:-edge].numpy()


def _with_surroundings(blocks: Iterator[FloatArray], edge: int) -> Iterator[FloatArray]:
    """Every block with `edge` samples of its neighbours on both sides; zeros beyond the recording."""
    before: FloatArray = np.zeros((2, edge), np.float32)
    here = next(blocks, None)
    while here is not None:
        after = next(blocks, None)
        following = np.zeros((2, 0), np.float32) if after is None else after[:, :edge]
        padding = np.zeros((2, edge - following.shape[1]), np.float32)
        yield np.concatenate([before, here, following, padding], axis=1)
        before, here = here[:, -edge:], after


def _through(voice: Tensor, leak: Leak) -> Tensor:
    """A voice, (samples,), as it is heard in the other channel; wrong within the response's reach of both ends."""
    step = 1 << max(len(voice).bit_length() - 3, 0)
    size = -(-len(voice) // step) * step  # without large prime factors, for the FFT
    path = torch.zeros(size)
    path[torch.arange(len(leak.response)) + leak.first] = torch.from_numpy(leak.response).float()
    return torch.fft.irfft(torch.fft.rfft(voice, size) * torch.fft.rfft(path), size)[: len(voice)]


def _without(heard: Tensor, leaked: Tensor, rate_hz: int) -> Tensor:
    """A channel, (samples,), whose bins are weakened by what has leaked, down to the background."""
    size = round(GATE_S * rate_hz)
    window = torch.hann_window(size).sqrt()
    spectrum, leaked = (
        torch.stft(each, size, size // 2, window=window, return_complex=True) for each in (heard, leaked)
    )
    power = spectrum.abs().square() + float(np.finfo(np.float32).tiny)
    background = power.kthvalue(1 + int(BACKGROUND * power.shape[1]), dim=1, keepdim=True).values
    kept = (1 - GATE_FACTOR * leaked.abs().square() / power).clamp(min=0)
    gain = torch.maximum(kept, (background / power).clamp(max=1)).sqrt()
    return torch.istft(spectrum * gain, size, size // 2, window=window, length=len(heard))
