r"""What nano learns from `segkit align`: the runs and pictures behind docs/nano.md.

    segkit extract synthetic F/conversations -o F/train --set corpus.hours=8 --splits 0.8,0.2,0
    segkit extract synthetic F/others -o F/held-out --set corpus.hours=8 --set corpus.seed=1 \
        --set corpus.first_speaker=200
    python experiments/nano.py measure nano F/held-out F/before.json
    segkit align F/train F/seed0 --set seed=0
    python experiments/nano.py measure F/seed0/export F/held-out F/seed0.json
    segkit align F/train F/no-pause --set axes=turn_taking,backchannel,interruption
    python experiments/nano.py shuffled F/train F/shuffled
    python experiments/nano.py measure F/seed0/export F/held-out F/seed0-alone.json --silent-user
    python experiments/nano.py table F/before.json F/seed0.json ...
    python experiments/nano.py follows F/before.json F/before-alone.json F/seed0.json F/seed0-alone.json
    python experiments/nano.py curves F/seed0 F/seed1 F/seed2 curves.png
    python experiments/nano.py raster nano F/seed0/export F/held-out raster.png
    python experiments/nano.py clips nano F/seed0/export F/held-out clips

A measurement samples completions of the first segments of each axis, all splits, with the same chance for every
model, and keeps when they speak; rewards and controls follow from that. The unit is the segment: the mean over
the segment's completions.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np
import soundfile
import torch
import typer
from numpy.typing import NDArray
from typer import echo

from segkit import Axis, Dataset, RewardSettings, api, open_model, open_run
from segkit.alignment.advantages import decoupled
from segkit.alignment.rewards import score
from segkit.dataset.rows import Row
from segkit.models.protocols import Speaker
from segkit.rollouts.evaluation import Evaluation, evaluate
from segkit.rollouts.scenes import Scene, Segments
from segkit.rollouts.scoring import Scorer
from segkit.schemas import NO_INTERVALS, Intervals
from segkit.segmenters import vad
from segkit.segmenters.timeline import as_intervals, clip, merged, speech
from segkit.settings import LITERAL, TimelineSettings

EVENTS = "turn_end_s", "interruption_end_s"
KEPT = "axis", "duration_s", "user_activity", "agent_activity", "backchannels", "interruption_start_s", *EVENTS
SHOWN = {
    Axis.PAUSE: ("takeovers", "longest_s"),
    Axis.TURN_TAKING: ("responded", "delay_s", "barged_in", "longest_s", "speech_share"),
    Axis.BACKCHANNEL: ("true_positives", "false_positives", "false_negatives", "takeovers"),
    Axis.INTERRUPTION: ("responded", "delay_s", "overlap_s", "longest_s", "speech_share"),
}
"""The diagnostics of a table."""
COLOURS = {"user": "#9aa4b2", "before": "#d1495b", "after": "#2a7fba", "event": "#f2c14e"}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class OfSilentUsers(Segments):
    """The same segments with silence in the place of the user."""

    def scenes(self, chosen: Iterable[tuple[Row, float]], speaker: Speaker) -> list[Scene]:
        """Scenes as they are, but for the audio."""
        return [replace(scene, audio=np.zeros_like(scene.audio)) for scene in super().scenes(chosen, speaker)]


def evaluated(
    model: str, folder: Path, per_axis: int, completions: int, seed: int, silent_user: bool = False
) -> tuple[Speaker, Evaluation]:
    """Completions of the first segments of each axis, of all splits; settings are nano's and the dataset's."""
    dataset = Dataset(folder)
    settings = api.settings_for(dataset, "nano", {})
    speaker = open_model(model, model=settings.model, sampling=settings.sampling, device="cpu")
    segments = (OfSilentUsers if silent_user else Segments)(dataset, "*", settings.axes, settings.max_segment_s)
    scorer = Scorer(settings.rewards, vad.load(settings.vad))
    return speaker, evaluate(speaker, segments, scorer, per_axis, completions, seed, settings.sampling.rows)


@app.command()
def measure(
    policy: str, dataset: Path, out: Path, per_axis: int = 100, completions: int = 3, silent_user: bool = False
) -> None:
    """When a policy speaks, by axis and segment, as JSON; on request with silence in the place of the user."""
    _, (scenes, _, scored) = evaluated(policy, dataset, per_axis, completions, 1, silent_user)
    found: dict[str, dict[str, Any]] = {axis: {} for axis in Axis}
    for scene, group in zip(scenes, scored, strict=True):
        row = {name: scene.segment[name] for name in KEPT}
        found[scene.axis][scene.segment["id"]] = row | {"speech": [each.tolist() for each in group.speech]}
    out.write_text(json.dumps(found))


Speaks = Callable[[Any, np.random.Generator], list[Intervals]]
"""When somebody speaks in a measured segment: the activity of each of several completions."""


def as_measured(row: Any, rng: np.random.Generator) -> list[Intervals]:
    """What was heard of the model."""
    return [as_intervals(each) for each in row["speech"]]


def at_random(row: Any, rng: np.random.Generator) -> list[Intervals]:
    """The same utterances in another order with other silences between them: number and lengths, but no timing."""
    end_s, talks = row["duration_s"], []
    for activity in as_measured(row, rng):
        ipus = clip(activity, 0.0, end_s)
        turns = speech(ipus, TimelineSettings()).utterances
        pieces = [clip(ipus, *turn) - turn[0] for turn in rng.permutation(turns)]
        lengths_s = np.array([each[-1, 1] for each in pieces])
        apart_s = 1.0 if lengths_s.sum() + len(pieces) < end_s else 0.0  # or utterances would become one
        free_s = end_s - lengths_s.sum() - apart_s * max(len(pieces) - 1, 0)
        before_s = np.sort(rng.uniform(0, free_s, len(pieces)))
        starts_s = before_s + np.arange(len(pieces)) * apart_s + np.cumsum(np.append(0, lengths_s))[: len(pieces)]
        talks.append(np.concatenate([NO_INTERVALS, *(p + s for p, s in zip(pieces, starts_s, strict=True))]))
    return talks


def in_every_silence(row: Any, rng: np.random.Generator) -> list[Intervals]:
    """A rule: a sound of 0.4 s, half a second into every silence of the user."""
    user = clip(as_intervals(row["user_activity"]), 0.0, row["duration_s"])
    ends_s, next_s = np.append(0, user[:, 1]), np.append(user[:, 0], row["duration_s"])
    starts_s = ends_s[next_s - ends_s >= 0.5] + 0.5
    return [merged(np.stack([starts_s, starts_s + 0.4], axis=1))]


def recorded(row: Any, rng: np.random.Generator) -> list[Intervals]:
    """The agent of the recording."""
    return [as_intervals(row["agent_activity"])]


def results(path: Path, speaks: Speaks, reading: RewardSettings, draws: int = 1) -> dict[str, dict[str, Any]]:
    """Reward and diagnostics by axis and segment, the mean over completions and draws; None where undefined."""
    rng = np.random.default_rng(0)
    found: dict[str, dict[str, Any]] = {}
    for axis, rows in json.loads(path.read_text()).items():
        found[axis] = {}
        for name, row in rows.items():
            reward = score(row, [each for _ in range(draws) for each in speaks(row, rng)], reading)
            found[axis][name] = {key: _mean(v) for key, v in {"reward": reward.value, **reward.diagnostics}.items()}
    return found


@app.command()
def table(measurements: list[Path]) -> None:
    """Mean rewards with standard errors over segments: against the first measurement, and against random times.

    Both differences are paired by segment. The same sounds at random times keep number and length, and lose timing.
    """
    closed, first = RewardSettings(), results(measurements[0], as_measured, RewardSettings())
    runs: list[tuple[str, Path, Speaks]] = [(path.stem, path, as_measured) for path in measurements]
    runs += [("a sound in every silence", measurements[0], in_every_silence)]
    runs += [("recorded agents", measurements[0], recorded)]
    ours = {name: results(path, speaks, closed) for name, path, speaks in runs}
    text = {name: results(path, speaks, LITERAL) for name, path, speaks in runs}
    random = {path.stem: results(path, at_random, closed, draws=20) for path in measurements}
    echo(
        "| axis | run | reward | change | at random times | timing | by the text | what it came from |\n|" + 8 * "---|"
    )
    for axis in Axis:
        for name, *_ in runs:
            reward = _rewards(ours[name][axis])
            cells = [_told(reward), _told(reward - _rewards(first[axis]))]
            if name in random:
                chance = _rewards(random[name][axis])
                cells += [f"{chance.mean():+.3f}", _told(reward - chance)]
            else:
                cells += ["", ""]
            cells.append(f"{_rewards(text[name][axis]).mean():+.3f}")
            means = {key: _mean([row[key] for row in ours[name][axis].values()]) for key in SHOWN[axis]}
            cells.append(", ".join(f"{key} {value:.2f}" for key, value in means.items() if np.isfinite(value)))
            echo(f"| {axis} | {name} | {' | '.join(cells)} |")


def _rewards(of_axis: dict[str, Any]) -> NDArray[np.float64]:
    """Of all segments, always in the same order."""
    return np.array([of_axis[name]["reward"] for name in sorted(of_axis)])


def _told(values: NDArray[np.float64]) -> str:
    return f"{values.mean():+.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"


@app.command()
def follows(measurements: list[Path]) -> None:
    """When utterances begin: in which share in the user's silences, how long after; and how much is said at all.

    With --silent-user, the silences are those of a user who was not heard: then the share is that of the time.
    """
    echo("| run | speech, share of the time | utterances per minute | begin in a silence | after, s |\n|" + 5 * "---|")
    for path in measurements:
        rows = [row for of_axis in json.loads(path.read_text()).values() for row in of_axis.values()]
        minutes = sum(len(row["speech"]) * row["duration_s"] for row in rows) / 60
        said_s, after_s = 0.0, []
        for row in rows:
            user = as_intervals(row["user_activity"])
            for each in row["speech"]:
                ipus = clip(as_intervals(each), 0.0, row["duration_s"])
                said_s += float(np.sum(ipus[:, 1] - ipus[:, 0]))
                starts_s = speech(ipus, TimelineSettings()).utterances[:, 0]
                ended = np.searchsorted(user[:, 1], starts_s)
                in_silence = np.searchsorted(user[:, 0], starts_s) == ended
                before_s = starts_s - np.append(user[:, 1], np.nan)[ended - 1]
                after_s += np.where(in_silence, before_s, np.nan).tolist()
        silent = np.mean(np.isfinite(after_s))
        echo(
            f"| {path.stem} | {said_s / 60 / minutes:.2f} | {len(after_s) / minutes:.1f} | {silent:.2f} | "
            f"{np.nanmedian(after_s):.2f} |"
        )


def _mean(values: Any) -> float:
    """Mean of the numbers; NaN without one."""
    numbers = np.asarray(values, float)
    return float(np.nanmean(numbers)) if np.isfinite(numbers).any() else np.nan


@app.command()
def shuffled(dataset: Path, run: Path, seed: int = 0, steps: int | None = None) -> None:
    """Align nano with each group's advantages dealt to its completions at random: nothing to learn from."""
    rng = np.random.default_rng(seed)

    def dealt(components: Any) -> NDArray[np.float64]:
        return rng.permutation(decoupled(components))

    def hook(stage: str, done: int, total: int, facts: Mapping[str, Any] = MappingProxyType({})) -> None:
        if stage == "steps":
            echo(done)

    with patch("segkit.train.loop.decoupled", dealt):
        api.align(dataset, run, settings={"seed": seed} | ({"steps": steps} if steps else {}), device="cpu", hook=hook)


@app.command()
def curves(runs: list[Path], out: Path) -> None:
    """Mean reward per step of some runs, and on the validation split."""
    figure, plots = plt.subplots(2, 2, figsize=(10, 6), layout="constrained", sharex=True)
    styles: dict[str, dict[str, Any]] = {"axes": {"alpha": 0.3}, "validation": {"marker": "o", "ms": 3}}
    for i, run in enumerate(runs):
        lines = open_run(run).lines
        for plot, axis in zip(plots.flat, Axis, strict=True):
            for source, style in styles.items():
                with_axis = [line for line in lines if axis in line.get(source, {})]
                rewards = [line[source][axis]["reward"]["timing"] for line in with_axis]
                label = run.name if source == "validation" else None
                plot.plot([line["step"] for line in with_axis], rewards, color=f"C{i}", label=label, **style)
            plot.set_title(axis)
            plot.grid(alpha=0.3)
    plots[0, 0].legend()
    figure.supxlabel("step")
    figure.supylabel("mean reward: training (pale), validation (dots)")
    figure.savefig(out, dpi=110)


@app.command()
def raster(before: str, after: str, dataset: Path, out: Path, completions: int = 20) -> None:
    """When the user and twenty completions speak, in one segment of each axis, before and after."""
    figure, plots = plt.subplots(4, 2, figsize=(13, 11), layout="constrained")
    for column, (name, policy_name) in enumerate({"before": before, "after": after}.items()):
        _, (scenes, _, scored) = evaluated(policy_name, dataset, 1, completions, 2)
        for plot, scene, group in zip(plots[:, column], scenes, scored, strict=True):
            row = scene.segment
            speakers = [("user", row["user_activity"]), *((name, each) for each in group.speech)]
            for rank, (who, intervals) in enumerate(speakers):
                bars = [(start, end - start) for start, end in intervals if end > 0 and start < row["duration_s"]]
                plot.broken_barh(bars, (-rank - 0.4, 0.8), color=COLOURS[who])
            for span in (row["backchannels"] or []) + [[row[key]] * 2 for key in EVENTS if row[key] is not None]:
                plot.axvspan(span[0], span[1] + 0.02, color=COLOURS["event"], alpha=0.7, zorder=0)
            plot.set(title=f"{scene.axis}, {name}", xlim=(0, row["duration_s"]), yticks=[])
    figure.supxlabel("seconds of the segment; grey: the user; yellow: what the axis is about")
    figure.savefig(out, dpi=100)


@app.command()
def clips(before: str, after: str, dataset: Path, out: Path, per_axis: int = 2, seconds: float = 25.0) -> None:
    """The same segments before and after: the user left, the model right, as MP3."""
    out.mkdir(parents=True, exist_ok=True)
    for name, policy_name in {"before": before, "after": after}.items():
        policy, (scenes, groups, _) = evaluated(policy_name, dataset, per_axis, 2, 3)
        for i, (scene, group) in enumerate(zip(scenes, groups, strict=True)):
            model = policy.decode(group.audio[:1])[0].numpy()
            stereo = np.stack([scene.audio, model], axis=1)[: round(seconds * policy.rate_hz)]
            soundfile.write(out / f"{scene.axis}-{i % per_axis}-{name}.mp3", stereo, policy.rate_hz)
            echo(f"{scene.axis}-{i % per_axis}-{name}: {' '.join(word for _, word in policy.words(group.text[0]))}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    app()
