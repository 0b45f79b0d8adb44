"""Completions of many segments in few streaming passes.

A streaming step costs about the same for one completion and for many, as it reads all weights: so
completions of several segments go through it together, each in a row, and where one ends the next begins.
A segment's user is encoded once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from segkit.models.protocols import Completions, Speaker
from segkit.rollouts.scenes import Scene
from segkit.settings import fingerprint
from segkit.tasks import Hook


def rollout(
    speaker: Speaker, scenes: Sequence[Scene], completions: int, chance: tuple[int, ...], rows: int, hook: Hook
) -> list[Completions]:
    """Sample `completions` of each scene, at most `rows` at once; one group per scene.

    What is drawn at random in a completion depends on `chance`, on its segment, and on its number, and on nothing
    else: not on the other scenes, on `rows`, or on the order.
    """
    users = [user for user in encode(speaker, scenes) for _ in range(completions)]
    seeds = [seed(scene, number, chance) for scene in scenes for number in range(completions)]
    said = speaker.sample(users, seeds, rows, hook)
    return [Completions.concatenate(said[i : i + completions]) for i in range(0, len(said), completions)]


def seed(scene: Scene, number: int, chance: tuple[int, ...]) -> int:
    """The seed of a completion; a segment drawn twice in a step is completed in other ways the second time."""
    return int(fingerprint(chance, scene.segment["id"], scene.repeat, number), 16)


def encode(speaker: Speaker, scenes: Sequence[Scene]) -> list[Tensor]:
    """The codes of each scene's user, (K, frames)."""
    longest = max(len(scene.audio) for scene in scenes)
    audio = torch.zeros(len(scenes), longest)
    for row, scene in zip(audio, scenes, strict=True):
        row[: len(scene.audio)] = torch.from_numpy(scene.audio)
    codes = speaker.encode(audio.to(speaker.device))
    return [each[:, : scene.frames] for each, scene in zip(codes, scenes, strict=True)]
