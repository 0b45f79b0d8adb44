"""`segkit align`: settings, progress, and the closing words."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segkit.cli.console import PLAIN, err, out, pair
from segkit.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from segkit.train.config import AlignConfig
    from segkit.train.policy import Hook


def align(
    dataset: Annotated[Path | None, typer.Argument(help="A folder that `segkit extract` wrote.")] = None,
    run_dir: Annotated[Path | None, typer.Argument(help="The folder of the run to write.")] = None,
    policy: Annotated[
        str,
        typer.Option(help="nano (inside segkit, learns on a CPU), moshi, an id on the Hub, a folder, or tiny (noise)."),
    ] = "nano",
    preset: Annotated[
        str | None,
        typer.Option(help="Settings to start from: paper, paper-literal, single-gpu, or nano, the policy nano's own."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file with settings of your own.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting (optimiser.lr=1e-6).")
    ] = None,
    asr: Annotated[
        str | None, typer.Option(help="whisperx or whisperx:MODEL: the judge reads what is heard of the model.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN_DIR.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Load everything, score one group, estimate the memory, write nothing.")
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the preset; --preset paper lists every setting.")
    ] = False,
) -> None:
    """Post-train a full-duplex model on segments with GRPO.

    Example: segkit align segments run, and then with --policy moshi --preset single-gpu
    """
    for package in ("moshi", "openai", "psutil", "tensorboard", "yaml"):
        if find_spec(package) is None:
            raise MissingExtraError("segkit align", package, "train")
    from segkit.dataset import read_run, settings_of
    from segkit.train.config import differences, load, preset_text
    from segkit.train.devices import resolve

    preset = preset or ("nano" if policy == "nano" else "paper")
    if print_config:
        return typer.echo(preset_text(preset), nl=False)
    if dataset is None or run_dir is None:
        raise UsageError("DATASET or RUN_DIR is missing. Example: segkit align segments run")
    overrides = dict(map(pair, set_ or [])) | ({} if asr is None else {"asr": asr})
    extracted = settings_of(read_run(dataset))
    settings = load(preset, config, overrides, extracted)
    if differing := differences(settings, extracted):
        err.print(f"Note: the rewards measure otherwise than the dataset did: {'; '.join(differing)}", **PLAIN)
    chosen = resolve(device)
    if dry_run:
        with TemporaryDirectory() as scratch:
            return _dry_run(dataset, policy, settings, chosen, Path(scratch))
    from segkit.train.loop import align
    from segkit.train.state import RunFolder

    with _progress(settings.steps) as (hook, on_step):
        commands = align(dataset, RunFolder(run_dir), policy, settings, chosen, resume, hook, on_step)
    _closing_words(run_dir, commands)


@contextmanager
def _progress(steps: int) -> Iterator[tuple["Hook", Any]]:
    """A bar for the steps, one for what goes on within the step, and a line for each finished step."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description:10}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=err) as progress:
        within = progress.add_task("loading", total=1)
        whole = progress.add_task("steps", total=steps)

        def hook(stage: str, done: int, total: int) -> None:
            progress.update(within, description=stage, completed=done, total=total)

        def on_step(metrics: dict[str, Any]) -> None:
            progress.update(whole, completed=metrics["step"])
            out.print(_line(metrics), **PLAIN)

        yield hook, on_step


def _line(metrics: dict[str, Any]) -> str:
    """A step in one line: mean reward per axis, what teaches nothing, and the health of the update."""
    rewards = "  ".join(
        f"{axis} " + " ".join(f"{value:+.2f}" for value in each["reward"].values() if value is not None)
        for axis, each in metrics["axes"].items()
    )
    failures = metrics["judge_failures"]
    return (
        f"step {metrics['step']}: {rewards}  | zero-std {metrics['zero_std']:.0%}  KL {metrics['kl']:.4f}  "
        f"clipped {metrics['clipped']:.1%}  grad {metrics['grad_norm']:.3g}  {metrics['frames_per_s']:.0f} frames/s"
        + "".join(f"  no score from the judge: {reason}, {n:,} times" for reason, n in failures.items())
    )


def _dry_run(dataset: Path, policy: str, config: "AlignConfig", device: str, scratch: Path) -> None:
    """Load all that a run needs, and show what it would do."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from segkit.alignment import rewards
    from segkit.train import memory
    from segkit.train.loop import SAMPLING, set_up
    from segkit.train.rollout import rollout

    with _progress(config.steps) as (hook, _):
        stage = set_up(dataset, policy, config, device, scratch)
        scenes = stage.train.stage(stage.train.draw(config, 0)[:1], config, stage.policy.frame_samples)
        chance = SAMPLING, config.seed, 0
        groups = rollout(stage.policy, scenes, config.completions, chance, config.sampling.rows, hook)
        (scored,) = stage.scorer.score(stage.policy, scenes, groups, hook)
    trained = sum(p.numel() for p in stage.policy.trainable().values())
    for purpose, segments in (("train", stage.train), ("evaluate", stage.validation)):
        counts = ", ".join(f"{axis} {len(table):,}" for axis, table in segments.tables.items()) or "none"
        out.print(f"Segments to {purpose} on: {counts}; longer than max_segment_s: {segments.too_long:,}", **PLAIN)
    out.print(
        f"{config.steps:,} steps of {config.groups} groups of {config.completions} completions, {config.updates} "
        f"updates each: {config.steps * config.updates:,} updates of {trained / 1e6:,.2f} M weights, on {device}",
        **PLAIN,
    )
    parts = memory.estimate(stage.policy, stage.longest_s, config)
    table = Table("memory, estimated for the longest segments", "GiB")
    for name, size in parts.items():
        table.add_row(name, f"{size / memory.GIB:.2f}")
    table.add_row("peak (sampling, scoring and updating take turns)", f"{memory.peak(parts) / memory.GIB:.2f}")
    out.print(table)
    names = [*scored.components, *scored.diagnostics]
    titles = (name.replace("_", " ") for name in [*names, "advantage"])
    table = Table("", *titles, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    values = [*scored.components.values(), *scored.diagnostics.values(), scored.advantages]
    for i in range(config.completions):
        table.add_row(str(i), *(f"{column[i]:.3g}" for column in values))
    human = rewards.human(scenes[0].segment, config.rewards)
    found = {"timing": human.value, **human.diagnostics}
    table.add_row("people", *(f"{found[name][0]:.3g}" if name in found else "" for name in names), "")
    scene = scenes[0]
    out.print(
        f"One group: {scene.axis} {scene.segment['id']}, {scene.segment['duration_s']:.1f} s; people: the agent of the "
        "recording, scored likewise",
        **PLAIN,
    )
    out.print(table)
    out.print("Nothing was written.")


def _closing_words(run_dir: Path, commands: list[str]) -> None:
    """Where the results lie, how the rewards moved, and what to type next."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    evaluated = [line for line in lines if line.get("validation")]
    if len(evaluated) > 1:
        first, last = evaluated[0], evaluated[-1]
        out.print(f"Mean reward on the validation split, at step {first['step']} and {last['step']}:", **PLAIN)
        for axis, each in last["validation"].items():
            for name, value in each["reward"].items():
                before = first["validation"].get(axis, {}).get("reward", {}).get(name)
                human = each.get("human", {}).get("reward", {}).get(name)
                people = "" if human is None else f" (the recorded agents: {human:+.3f})"
                if value is not None and before is not None:
                    out.print(f"  {axis} {name}: {before:+.3f} -> {value:+.3f}{people}", **PLAIN)
    if not any(line["zero_std"] < 1 for line in lines if "zero_std" in line):
        out.print(
            "Nothing was learnt: in no step had a group completions of different rewards. Listen to samples/; raise "
            "sampling.text_temperature or completions, or take segments that are longer.",
            style="yellow",
            **PLAIN,
        )
    out.print(f"Metrics, checkpoints and samples are in {run_dir}; the result is in {run_dir / 'export'}", **PLAIN)
    look = f"segkit report {run_dir} -o report.html", f"tensorboard --logdir {run_dir}"
    for i, command in enumerate([*commands, *look]):
        out.print(f"{'Next: ' if not i else '      '}{command}", **PLAIN)
