"""What is heard of completions: their audio, and the voice activity in it."""

from collections.abc import Sequence

from torch import Tensor
from torchaudio.functional import resample

from segkit.models.protocols import Completions, Speaker
from segkit.rollouts.scenes import Scene
from segkit.schemas import Intervals
from segkit.segmenters import vad


def listen(speaker: Speaker, groups: Sequence[Completions]) -> list[Tensor]:
    """Decode groups to audio for the detector, (G, samples) each at `vad.rate_for` the speaker's rate, on the CPU."""
    rate_hz = vad.rate_for(speaker.rate_hz)
    return [resample(speaker.decode(group.audio), speaker.rate_hz, rate_hz).cpu() for group in groups]


def activities(
    speaker: Speaker, scenes: Sequence[Scene], audio: Sequence[Tensor], detector: vad.VoiceActivityDetector
) -> list[list[Intervals]]:
    """Speech of each completion, in seconds from the start of its segment; all in one batch."""
    rate_hz = vad.rate_for(speaker.rate_hz)
    size = detector.block_samples(rate_hz)
    streams = [(block.numpy() for block in group.split(size, dim=1)) for group in audio]
    frame_s = speaker.frame_samples / speaker.rate_hz
    return [
        [speech - scene.start_frame * frame_s for speech in group]
        for scene, group in zip(scenes, detector.detect(streams, rate_hz), strict=True)
    ]
