"""Completions of many segments in few streaming passes, and what voice activity they contain.

A streaming step costs about the same for one completion and for many, as it reads all weights: so
completions of several segments go through it together, each in a row, and where one ends the next begins.
A segment's user is encoded once.
"""

from collections.abc import Sequence
from heapq import heappop, heappush

import torch
from torch import Tensor
from torchaudio.functional import resample

from segkit.schemas import Intervals
from segkit.schemas.settings import fingerprint
from segkit.segmenters import vad
from segkit.train.policy import Completions, Hook, Policy
from segkit.train.scenes import Scene


def rollout(
    policy: Policy, scenes: Sequence[Scene], completions: int, chance: tuple[int, ...], rows: int, hook: Hook
) -> list[Completions]:
    """Sample `completions` of each scene, at most `rows` at once; one group per scene.

    What is drawn at random in a completion depends on `chance`, on its segment, and on its number, and on nothing
    else: not on the other scenes, on `rows`, or on the order.
    """
    users = [user for user in encode(policy, scenes) for _ in range(completions)]
    seeds = [seed(scene, number, chance) for scene in scenes for number in range(completions)]
    said = policy.sample(users, seeds, rows, hook)
    return [Completions.concatenate(said[i : i + completions]) for i in range(0, len(said), completions)]


def seed(scene: Scene, number: int, chance: tuple[int, ...]) -> int:
    """The seed of a completion; a segment drawn twice in a step is completed in other ways the second time."""
    return int(fingerprint(chance, scene.segment["id"], scene.repeat, number), 16)


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


def encode(policy: Policy, scenes: Sequence[Scene]) -> list[Tensor]:
    """The codes of each scene's user, (K, frames)."""
    longest = max(len(scene.audio) for scene in scenes)
    audio = torch.zeros(len(scenes), longest)
    for row, scene in zip(audio, scenes, strict=True):
        row[: len(scene.audio)] = torch.from_numpy(scene.audio)
    codes = policy.encode(audio.to(policy.device))
    return [each[:, : scene.frames] for each, scene in zip(codes, scenes, strict=True)]


def listen(policy: Policy, groups: Sequence[Completions]) -> list[Tensor]:
    """Decode groups to audio for the detector, (G, samples) each at `vad.rate_for` the policy's rate, on the CPU."""
    rate_hz = vad.rate_for(policy.rate_hz)
    return [resample(policy.decode(group.audio), policy.rate_hz, rate_hz).cpu() for group in groups]


def activities(
    policy: Policy, scenes: Sequence[Scene], audio: Sequence[Tensor], detector: vad.VoiceActivityDetector
) -> list[list[Intervals]]:
    """Speech of each completion, in seconds from the start of its segment; all in one batch."""
    rate_hz = vad.rate_for(policy.rate_hz)
    size = detector.block_samples(rate_hz)
    streams = [(block.numpy() for block in group.split(size, dim=1)) for group in audio]
    frame_s = policy.frame_samples / policy.rate_hz
    return [
        [speech - scene.start_frame * frame_s for speech in group]
        for scene, group in zip(scenes, detector.detect(streams, rate_hz), strict=True)
    ]
