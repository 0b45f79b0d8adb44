"""From what was sampled to rewards: decode, listen, time, and ask the judge."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segkit.alignment import rewards
from segkit.models.protocols import Completions, Speaker
from segkit.rollouts.hearing import activities, listen
from segkit.rollouts.judging import Judge, by_utterance, dialogue
from segkit.rollouts.scenes import Scene
from segkit.schemas import Axis, Intervals
from segkit.segmenters import vad
from segkit.segmenters.timeline import as_intervals, speech
from segkit.segmenters.transcription import Transcriber
from segkit.settings import RewardSettings
from segkit.tasks import Hook

JUDGED = (Axis.TURN_TAKING, Axis.INTERRUPTION)
"""The axes with a response whose content can be good or bad (3.4)."""


class Scored(NamedTuple):
    """A group's rewards.

    Attributes:
        components: each (G,), by name: "timing", and "judge" on the axes that have one; NaN for no score.
        diagnostics: what the timing reward came from, each (G,).
        speech: of each completion, (n, 2) seconds from the start of the segment.
    """

    components: dict[str, NDArray[np.float64]]
    diagnostics: dict[str, NDArray[np.float64]]
    speech: list[Intervals]


@dataclass(frozen=True, eq=False)
class Scorer:
    """All that hears and judges completions, loaded once."""

    rewards: RewardSettings
    detector: vad.VoiceActivityDetector
    judge: Judge | None = None
    transcriber: Transcriber | None = None

    @property
    def failures(self) -> Counter[str]:
        """How often the judge gave no score, by reason, since this was last cleared."""
        return self.judge.failures if self.judge else Counter()

    def score(
        self, speaker: Speaker, scenes: Sequence[Scene], groups: Sequence[Completions], hook: Hook
    ) -> list[Scored]:
        """Rewards of each group."""
        hook("scoring", 0, len(groups))
        audio = listen(speaker, groups)
        spoken = activities(speaker, scenes, audio, self.detector)
        marks = self._marks(speaker, scenes, groups, audio, spoken)
        scored = []
        for i, scene in enumerate(scenes):
            timing = rewards.score(scene.segment, spoken[i], self.rewards)
            components = {"timing": timing.value} | ({"judge": marks[i]} if i in marks else {})
            scored.append(Scored(components, timing.diagnostics, spoken[i]))
        hook("scoring", len(groups), len(groups))
        return scored

    def _marks(
        self,
        speaker: Speaker,
        scenes: Sequence[Scene],
        groups: Sequence[Completions],
        audio: Sequence[Tensor],
        spoken: Sequence[list[Intervals]],
    ) -> dict[int, NDArray[np.float64]]:
        """The judge's marks, (G,), of the groups that it is asked about, all in one call."""
        if self.judge is None:
            return {}
        dialogues = {
            i: self.dialogues(speaker, scene, groups[i], audio[i], spoken[i])
            for i, scene in enumerate(scenes)
            if scene.axis in JUDGED
        }
        asked = [i for i, texts in dialogues.items() if texts]
        self.judge.failures.update(
            "no words of the user" for i in dialogues.keys() - set(asked) for _ in groups[i].text
        )
        marks = self.judge.score([text for i in asked for text in dialogues[i]])
        return dict(zip(asked, np.split(marks, len(asked)), strict=True)) if asked else {}

    def dialogues(
        self, speaker: Speaker, scene: Scene, group: Completions, audio: Tensor, spoken: Sequence[Intervals]
    ) -> list[str]:
        """What was said in a scene, per completion: the user by the dataset, the model by itself or by ASR.

        The words of both begin with the context, and the user's end with the turn or the interruption: what came after
        was a reply to somebody whom the model never heard. Nothing, if it is not known what the user said: then no
        answer is better than another.

        Args:
            speaker: that spoke.
            scene: that it heard.
            group: what it said, G completions.
            audio: of the model, (G, samples).
            spoken: the speech in it, each (n, 2) seconds from the start of the segment.
        """
        frame_s = speaker.frame_samples / speaker.rate_hz
        start_s, segment = scene.start_frame * frame_s, scene.segment
        words, agents = segment["words"], [[(n * frame_s, word) for n, word in speaker.words(t)] for t in group.text]
        user = [(word["start_s"], word["text"]) for word in words or [] if word["speaker"] == "user"]
        if self.transcriber:
            heard = self.transcriber.transcribe(list(audio.numpy()), vad.rate_for(speaker.rate_hz))
            agents = [[(word.start_s, word.text) for word in said] for said in heard]
            if words is None:
                (said,) = self.transcriber.transcribe([scene.audio], speaker.rate_hz)
                user = [(word.start_s - start_s, word.text) for word in said]
        end_s = segment["turn_end_s"] if scene.axis is Axis.TURN_TAKING else segment["interruption_end_s"]
        user = [(at_s, text) for at_s, text in user if -scene.context_s <= at_s < end_s]
        if not user:
            return []
        lines = by_utterance("user", user, self._utterances(as_intervals(segment["user_activity"])))
        texts = []
        for words_said, activity in zip(agents, spoken, strict=True):
            own = [(at_s - start_s, text) for at_s, text in words_said if at_s - start_s >= -scene.context_s]
            texts.append(dialogue(lines + by_utterance("agent", own, self._utterances(activity))))
        return texts

    def _utterances(self, activity: Intervals) -> Intervals:
        return speech(activity, self.rewards.timeline).utterances


def facts_by_axis(scenes: Sequence[Scene], scored: Sequence[Scored], settings: RewardSettings) -> dict[str, Any]:
    """Per axis: mean of each component, its mean deviation within the groups, mean of each diagnostic.

    Under "human" stands what the agents of the recordings get in the same segments.
    """
    facts: dict[str, Any] = {}
    for axis in Axis:
        of_axis = [(scene, group) for scene, group in zip(scenes, scored, strict=True) if scene.axis is axis]
        if not of_axis:
            continue
        groups = [group for _, group in of_axis]
        human = [rewards.human(scene.segment, settings) for scene, _ in of_axis]
        facts[axis] = {
            "reward": {name: _mean(group.components.get(name) for group in groups) for name in _names(groups)},
            "reward_std": {
                name: _mean(group.components[name].std() for group in groups if name in group.components)
                for name in _names(groups)
            },
            "diagnostics": _means([group.diagnostics for group in groups]),
            "human": {
                "reward": {"timing": _mean(each.value for each in human)},
                "diagnostics": _means([each.diagnostics for each in human]),
            },
        }
    return facts


def _means(diagnostics: Sequence[dict[str, NDArray[np.float64]]]) -> dict[str, float | None]:
    return {name: _mean(each[name] for each in diagnostics) for name in diagnostics[0]}


def _names(groups: Sequence[Scored]) -> list[str]:
    return sorted({name for group in groups for name in group.components}, reverse=True)


def _mean(values: Any) -> float | None:
    """Mean of all that is a number; None without one."""
    numbers = np.concatenate([np.atleast_1d(each) for each in values if each is not None] or [np.zeros(0)])
    numbers = numbers[np.isfinite(numbers)]
    return float(numbers.mean()) if len(numbers) else None
