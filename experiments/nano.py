"""What nano learns from `segkit align`: the runs and pictures behind docs/nano.md.

    segkit extract synthetic F/conversations -o F/train --set hours=8 --splits 0.8,0.2,0
    segkit extract synthetic F/others -o F/held-out --set hours=8 --set seed=1 --set first_speaker=200
    python experiments/nano.py measure nano F/held-out F/before.json
    segkit align F/train F/seed0 --set seed=0
    python experiments/nano.py measure F/seed0/export F/held-out F/seed0.json
    segkit align F/train F/no-pause --set axes=turn_taking,backchannel,interruption
    python experiments/nano.py shuffled F/train F/shuffled
    python experiments/nano.py table F/before.json F/seed0.json ...
    python experiments/nano.py curves F/seed0 F/seed1 F/seed2 curves.png
    python experiments/nano.py raster nano F/seed0/export F/held-out raster.png
    python experiments/nano.py clips nano F/seed0/export F/held-out clips

A measurement samples completions of the first segments of each axis, all splits, with the same chance for every
model. Its unit is the segment: the mean over the segment's completions.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np
import soundfile
import torch
import typer
from typer import echo

from segkit.alignment.advantages import decoupled
from segkit.schemas import Axis
from segkit.segmenters import vad
from segkit.train.checkpoints import open_checkpoint
from segkit.train.config import AlignConfig, load
from segkit.train.loop import EVALUATING, align, seeded
from segkit.train.moshi import MoshiPolicy
from segkit.train.policy import Completions
from segkit.train.rollout import activities, listen, rollout
from segkit.train.scenes import Scene, Segments
from segkit.train.scoring import Scored, Scorer
from segkit.train.state import RunFolder

EVENTS = "turn_end_s", "interruption_end_s"
COLOURS = {"user": "#9aa4b2", "before": "#d1495b", "after": "#2a7fba", "event": "#f2c14e"}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def nobody(stage: str, done: int, total: int) -> None:
    """A hook that shows nothing."""


def completed(
    policy_name: str, dataset: Path, config: AlignConfig, per_axis: int
) -> tuple[MoshiPolicy, list[Scene], list[Completions]]:
    """Completions of the first segments of each axis, of all splits."""
    with TemporaryDirectory() as scratch:
        checkpoint = open_checkpoint(policy_name, Path(scratch))
        policy = MoshiPolicy(checkpoint, config.model, config.sampling, "cpu")
    segments = Segments(dataset, "*", config, policy.rate_hz, required=False)
    scenes = segments.stage(segments.first(per_axis), config, policy.frame_samples)
    with seeded(config.seed, 0, EVALUATING, "cpu"):
        return policy, scenes, rollout(policy, scenes, config.completions, config.sampling.rows, nobody)


def scored(
    policy_name: str, dataset: Path, config: AlignConfig, per_axis: int
) -> list[tuple[Scene, Completions, Scored]]:
    """The same with rewards."""
    policy, scenes, groups = completed(policy_name, dataset, config, per_axis)
    scorer = Scorer(config, vad.load(config.vad), None, None)
    return list(zip(scenes, groups, scorer.score(policy, scenes, groups, nobody), strict=True))


@app.command()
def measure(policy: str, dataset: Path, out: Path, per_axis: int = 64, completions: int = 4) -> None:
    """Rewards and diagnostics of a policy by segment, as JSON."""
    config = load("nano", overrides={"completions": str(completions), "seed": "1"})
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for scene, _, result in scored(policy, dataset, config, per_axis):
        columns = {"reward": result.components["timing"], **result.diagnostics}
        values = {name: float(np.nanmean(v)) if np.isfinite(v).any() else None for name, v in columns.items()}
        found.setdefault(scene.axis, {})[scene.segment["id"]] = values
    out.write_text(json.dumps(found))
    table([out])


@app.command()
def table(measurements: list[Path]) -> None:
    """Mean reward with its standard error over segments, against the first measurement: paired by segment."""
    first = json.loads(measurements[0].read_text())
    shown = {
        Axis.PAUSE: ("takeovers", "longest_s"),
        Axis.TURN_TAKING: ("responded", "delay_s", "barged_in"),
        Axis.BACKCHANNEL: ("true_positives", "false_positives", "false_negatives", "takeovers"),
        Axis.INTERRUPTION: ("responded", "delay_s", "overlap_s"),
    }
    echo("| axis | run | segments | reward | change | in s.e. | what it came from |\n|" + 7 * "---|")
    for axis in Axis:
        for path in measurements:
            rows = json.loads(path.read_text()).get(axis, {})
            if not rows:
                continue
            reward = np.array([row["reward"] for row in rows.values()])
            change = reward - np.array([first[axis][name]["reward"] for name in rows])
            error = change.std(ddof=1) / len(change) ** 0.5
            means = {name: _mean(row[name] for row in rows.values()) for name in shown[axis]}
            echo(
                f"| {axis} | {path.stem} | {len(rows)} | {reward.mean():+.3f} ± {_error(reward):.3f} | "
                f"{change.mean():+.3f} ± {error:.3f} | {change.mean() / error if error else 0:+.1f} | "
                + ", ".join(f"{name} {value:.2f}" for name, value in means.items())
                + " |"
            )


def _mean(values: Any) -> float:
    return float(np.nanmean([np.nan if value is None else value for value in values]))


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)


@app.command()
def shuffled(dataset: Path, run: Path, seed: int = 0, steps: int | None = None) -> None:
    """Align nano with each group's advantages dealt to its completions at random: nothing to learn from."""
    rng = np.random.default_rng(seed)

    def dealt(components: Any) -> np.ndarray:
        return rng.permutation(decoupled(components))

    config = load("nano", overrides={"seed": str(seed)} | ({"steps": str(steps)} if steps else {}))
    with patch("segkit.train.scoring.decoupled", dealt):
        align(dataset, RunFolder(run), "nano", config, "cpu", False, nobody, lambda metrics: echo(metrics["step"]))


@app.command()
def curves(runs: list[Path], out: Path) -> None:
    """Mean reward per step of some runs, and on the validation split."""
    figure, plots = plt.subplots(2, 2, figsize=(10, 6), layout="constrained", sharex=True)
    styles: dict[str, dict[str, Any]] = {"axes": {"alpha": 0.3}, "validation": {"marker": "o", "ms": 3}}
    for i, run in enumerate(runs):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
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
    config = load("nano", overrides={"completions": str(completions), "seed": "2"})
    figure, plots = plt.subplots(4, 2, figsize=(13, 11), layout="constrained")
    for column, (name, policy_name) in enumerate({"before": before, "after": after}.items()):
        policy, scenes, groups = completed(policy_name, dataset, config, 1)
        spoken = activities(policy, scenes, listen(policy, groups), vad.load(config.vad))
        for plot, scene, speech in zip(plots[:, column], scenes, spoken, strict=True):
            row = scene.segment
            speakers = [("user", row["user_activity"]), *((name, each) for each in speech)]
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
    config = load("nano", overrides={"completions": "2", "seed": "3"})
    for name, policy_name in {"before": before, "after": after}.items():
        policy, scenes, groups = completed(policy_name, dataset, config, per_axis)
        for i, (scene, group) in enumerate(zip(scenes, groups, strict=True)):
            model = policy.decode(group.audio[:1])[0].numpy()
            stereo = np.stack([scene.audio, model], axis=1)[: round(seconds * policy.rate_hz)]
            soundfile.write(out / f"{scene.axis}-{i % per_axis}-{name}.mp3", stereo, policy.rate_hz)
            echo(f"{scene.axis}-{i % per_axis}-{name}: {' '.join(word for _, word in policy.words(group.text[0]))}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    app()
