"""When does each channel speak? Voice activity detection (VAD), by the detector that the settings name.

Audio is float32 in [-1, 1] at 8 or 16 kHz; telephone speech stays at 8 kHz, for which Silero has a network
of its own. Times are in seconds and exact: a whole number of samples divided by the rate.

    >>> import numpy as np
    >>> silence = np.zeros((2, 16000), np.float32)
    >>> [channel.shape for channel in detect_array(load(VadSettings()), silence, rate_hz=16000)]
    [(0, 2), (0, 2)]
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from segkit.errors import UsageError
from segkit.schemas import Intervals
from segkit.segmenters.decision import FloatArray
from segkit.segmenters.silero import Silero
from segkit.segmenters.webrtc import WebRtc
from segkit.settings import VadSettings


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
    """The detector that the settings name.

    Args:
        settings: of the detector.
        device: for networks; WebRTC's runs on the CPU only.

    Raises:
        UsageError: the backend hears nothing ("transcript"), or cannot be had, or not on this device.
    """
    match settings.backend:
        case "silero":
            return Silero(settings, device)
        case "webrtc":
            return WebRtc(settings)
        case "pyannote":
            from segkit.segmenters.pyannote import Pyannote  # takes seconds to import

            return Pyannote(settings, device)
        case "transcript":
            raise UsageError(
                "Setting 'vad.backend' is 'transcript', which hears nothing. Expected silero, webrtc or pyannote."
            )


def detect_array(detector: VoiceActivityDetector, audio: FloatArray, rate_hz: int) -> list[Intervals]:
    """Speech per channel of one recording in memory, shape (channels, samples)."""
    size = detector.block_samples(rate_hz)
    starts = range(0, max(1, audio.shape[1]), size)  # an empty recording is one empty block
    return detector.detect([iter([audio[:, i : i + size] for i in starts])], rate_hz)[0]
