"""How a model does in the segments of a dataset: the same ones, with the same chance, every time."""

from typing import NamedTuple

from segkit.models.protocols import Completions, Speaker
from segkit.rollouts.rollout import rollout
from segkit.rollouts.scenes import Scene, Segments
from segkit.rollouts.scoring import Scored, Scorer
from segkit.tasks import Hook, nobody

SAMPLING, EVALUATING = range(2)
"""What chance is drawn for."""


class Evaluation(NamedTuple):
    """What a model said in some scenes, and how good that was; one of each per segment."""

    scenes: list[Scene]
    groups: list[Completions]
    scored: list[Scored]


def evaluate(
    speaker: Speaker,
    segments: Segments,
    scorer: Scorer,
    per_axis: int,
    completions: int = 1,
    seed: int = 0,
    rows: int = 64,
    hook: Hook = nobody,
) -> Evaluation:
    """Let a model speak in the first segments of each axis, and score it.

    Args:
        speaker: the model.
        segments: of a dataset.
        scorer: what hears and scores.
        per_axis: how many segments of each axis.
        completions: of each segment.
        seed: of what is drawn at random.
        rows: how many completions go through the model at once.
        hook: called with the progress.
    """
    scenes = segments.scenes(segments.first(per_axis), speaker)
    groups = rollout(speaker, scenes, completions, (EVALUATING, seed), rows, hook)
    return Evaluation(scenes, groups, scorer.score(speaker, scenes, groups, hook))
