"""From what was sampled to rewards and advantages: decode, listen, time, and ask the judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segkit.alignment import rewards
from segkit.alignment.advantages import decoupled
from segkit.alignment.judge import Judge, Line, dialogue
from segkit.schemas import Axis
from segkit.segmenters import vad
from segkit.segmenters.transcription import Transcriber
from segkit.train.config import AlignConfig
from segkit.train.policy import Completions, Hook, Policy
from segkit.train.rollout import activities, listen
from segkit.train.scenes import Scene

JUDGED = (Axis.TURN_TAKING, Axis.INTERRUPTION)
"""The axes with a response whose content can be good or bad (3.4)."""


class Scored(NamedTuple):
    """A group's rewards.

    Attributes:
        components: each (G,), by name: "timing", and "judge" on the axes that have one; NaN for no score.
        advantages: (G,).
        diagnostics: what the timing reward came from, each (G,).
    """

    components: dict[str, NDArray[np.float64]]
    advantages: NDArray[np.float64]
    diagnostics: dict[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Scorer:
    """All that hears and judges completions, loaded once per run."""

    config: AlignConfig
    detector: vad.VoiceActivityDetector
    judge: Judge | None
    transcriber: Transcriber | None

    def score(self, policy: Policy, scenes: Sequence[Scene], groups: Sequence[Completions], hook: Hook) -> list[Scored]:
        """Rewards and advantages of each group."""
        hook("scoring", 0, len(groups))
        audio = listen(policy, groups)
        spoken = activities(policy, scenes, audio, self.detector)
        marks = self._marks(policy, scenes, groups, audio)
        scored = []
        for i, scene in enumerate(scenes):
            timing = rewards.score(scene.segment, spoken[i], self.config.rewards)
            components = {"timing": timing.value} | ({"judge": marks[i]} if i in marks else {})
            scored.append(Scored(components, decoupled(components.values()), timing.diagnostics))
        hook("scoring", len(groups), len(groups))
        return scored

    def _marks(
        self, policy: Policy, scenes: Sequence[Scene], groups: Sequence[Completions], audio: Sequence[Tensor]
    ) -> dict[int, NDArray[np.float64]]:
        """The judge's marks, (G,), of the groups that it is asked about, all in one call."""
        if self.judge is None:
            return {}
        dialogues = {
            i: self._dialogues(policy, scene, groups[i], audio[i])
            for i, scene in enumerate(scenes)
            if scene.axis in JUDGED
        }
        asked = [i for i, texts in dialogues.items() if texts]
        self.judge.failures.update(
            "no words of the user" for i in dialogues.keys() - set(asked) for _ in groups[i].text
        )
        marks = self.judge.score([text for i in asked for text in dialogues[i]])
        return dict(zip(asked, np.split(marks, len(asked)), strict=True)) if asked else {}

    def _dialogues(self, policy: Policy, scene: Scene, group: Completions, audio: Tensor) -> list[str]:
        """What was said in a scene, per completion: the user by the dataset, the model by itself or by ASR.

        Nothing, if it is not known what the user said: then no answer is better than another.
        """
        start_s = scene.start_frame * policy.frame_samples / policy.rate_hz
        user = [
            Line("user", word["start_s"], word["text"])
            for word in scene.segment["words"] or []
            if word["speaker"] == "user" and word["start_s"] >= -scene.context_s
        ]
        if self.transcriber is None:
            frame_s = policy.frame_samples / policy.rate_hz
            agents = [
                [Line("agent", frame * frame_s - start_s, word) for frame, word in policy.words(text)]
                for text in group.text
            ]
        else:
            heard = self.transcriber.transcribe(list(audio.cpu().numpy()), vad.rate_for(policy.rate_hz))
            agents = [[Line("agent", word.start_s - start_s, word.text) for word in words] for words in heard]
            if scene.segment["words"] is None:
                (words,) = self.transcriber.transcribe([scene.audio], policy.rate_hz)
                user = [Line("user", word.start_s - start_s, word.text) for word in words]
        return [dialogue([*user, *agent]) for agent in agents] if user else []


def facts_by_axis(scenes: Sequence[Scene], scored: Sequence[Scored]) -> dict[str, Any]:
    """Per axis: mean and deviation of each component, mean of each diagnostic, share of groups that teach nothing.

    The deviation is within the groups, as that is what advantages are made of.
    """
    facts: dict[str, Any] = {}
    for axis in Axis:
        of_axis = [group for scene, group in zip(scenes, scored, strict=True) if scene.axis is axis]
        if not of_axis:
            continue
        facts[axis] = {
            "groups": len(of_axis),
            "zero_std": float(np.mean([not group.advantages.any() for group in of_axis])),
            "reward": {name: _mean(group.components.get(name) for group in of_axis) for name in _names(of_axis)},
            "reward_std": {
                name: _mean(group.components[name].std() for group in of_axis if name in group.components)
                for name in _names(of_axis)
            },
            "diagnostics": {
                name: _mean(group.diagnostics[name] for group in of_axis) for name in of_axis[0].diagnostics
            },
        }
    return facts


def _names(groups: Sequence[Scored]) -> list[str]:
    return sorted({name for group in groups for name in group.components}, reverse=True)


def _mean(values: Any) -> float | None:
    """Mean of all that is a number; None without one."""
    numbers = np.concatenate([np.atleast_1d(each) for each in values if each is not None] or [np.zeros(0)])
    numbers = numbers[np.isfinite(numbers)]
    return float(numbers.mean()) if len(numbers) else None
