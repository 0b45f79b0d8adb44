"""WebRTC's voice activity detection: fast, for comparison."""

from collections.abc import Iterator, Sequence

import numpy as np

from segkit.segmenters.decision import FloatArray, Framewise
from segkit.settings import VadSettings


class WebRtc(Framewise):
    """WebRTC's VAD, for comparison: a Gaussian mixture that says yes or no every 30 ms.

    Of its degrees of aggressiveness, 0 to 3, it uses 2. The threshold has no meaning; minimum durations
    and padding apply.
    """

    frame_ms = 30

    def __init__(self, settings: VadSettings) -> None:
        super().__init__(settings.changed({"threshold": 0.5}))

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
