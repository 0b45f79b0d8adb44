"""From a probability of speech per frame to speech: how Silero's `get_speech_timestamps` decides, for all at once."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from segkit.schemas import NO_INTERVALS, Intervals
from segkit.settings import VadSettings

FloatArray: TypeAlias = NDArray[np.float32]

BLOCK_FRAMES = 512
"""Frames per block, about 16 s: enough to be fast, few enough that memory is constant and small."""


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
    durations_s = settings.min_speech_s, settings.min_silence_s, settings.speech_pad_s, settings.end_bias_s
    # Silero counts in milliseconds and is exact; 16000 * 0.07 is 1120 and a rounding error.
    min_speech, min_silence, pad, late = (round(rate_hz * s, 6) for s in durations_s)

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
    ends = np.where(ends < samples, ends - late, ends)  # the end of the recording is not late
    starts, ends = starts[ends > starts], ends[ends > starts]

    gaps = starts[1:] - ends[:-1]
    room = np.where(gaps < 2 * pad, gaps // 2, pad)  # neighbours share a gap too short for both pads
    starts_padded = np.maximum(starts - np.append(pad, room)[: len(starts)], 0)
    ends_padded = np.minimum(ends + np.append(room, pad)[: len(ends)], samples)
    return np.floor(np.stack((starts_padded, ends_padded), axis=1)) / rate_hz


class Framewise:
    """Detection from a probability of speech per frame, which the subclass finds."""

    frame_ms: int

    def __init__(self, settings: VadSettings) -> None:
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
