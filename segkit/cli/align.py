"""`segkit align`: options in, progress, and the closing words."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segkit.cli.console import PLAIN, Config, Set, err, out, values

if TYPE_CHECKING:
    from segkit.runs import Run
    from segkit.settings import AlignSettings
    from segkit.tasks import Hook
    from segkit.train.rehearsal import Rehearsal


def align(
    dataset: Annotated[Path, typer.Argument(help="A folder that `segkit extract` wrote.", show_default=False)],
    run_dir: Annotated[Path, typer.Argument(help="The folder of the run to write.", show_default=False)],
    policy: Annotated[
        str,
        typer.Option(help="nano (inside segkit, learns on a CPU), moshi, an id on the Hub, a folder, or tiny (noise)."),
    ] = "nano",
    preset: Annotated[
        str | None,
        typer.Option(help="Settings to start from: paper, paper-literal, single-gpu, or nano, the policy nano's own."),
    ] = None,
    config: Config = None,
    set_: Set = None,
    asr: Annotated[
        str | None,
        typer.Option(help="whisperx or whisperx:MODEL: the judge reads what is heard of the model; the setting asr."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN_DIR.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Load everything, score one group, estimate the memory, write nothing.")
    ] = False,
) -> None:
    """Post-train a full-duplex model on segments with GRPO.

    Example: segkit align segments run, and then with --policy moshi --preset single-gpu
    """
    from segkit import api

    api.expect_training_packages()
    data = api.open_dataset(dataset)
    settings = api.settings_for(data, policy, values(config, set_, {"asr": asr}), preset)
    if dry_run:
        from segkit.train.rehearsal import rehearse

        api.warn_of_differences(data, settings)
        with _progress(settings.steps) as (hook, _):
            found = rehearse(data, policy, settings, device, hook)
        return _tables(found, settings)
    with _progress(settings.steps) as (hook, commands):
        run = api.align(data, run_dir, policy=policy, settings=settings, device=device, resume=resume, hook=hook)
    _closing_words(run, commands)


@contextmanager
def _progress(steps: int) -> Iterator[tuple["Hook", list[str]]]:
    """A bar for the steps, one for what goes on within the step, a line for each finished step; and final commands."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description:10}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn()
    commands: list[str] = []
    with Progress(*columns, console=err) as progress:
        within = progress.add_task("loading", total=1)
        whole = progress.add_task("steps", total=steps)

        def hook(stage: str, done: int, total: int, facts: Mapping[str, Any] = MappingProxyType({})) -> None:
            if stage == "steps":
                progress.update(whole, completed=done)
                out.print(_line(facts), **PLAIN)
            else:
                progress.update(within, description=stage, completed=done, total=total)
                commands.extend(facts.get("commands", []))

        yield hook, commands


def _line(metrics: Mapping[str, Any]) -> str:
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


def _tables(found: "Rehearsal", settings: "AlignSettings") -> None:
    """What a run would do, its memory, and the group that was scored."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    for purpose, segments in found.segments.items():
        counts = ", ".join(f"{axis} {len(table):,}" for axis, table in segments.tables.items()) or "none"
        out.print(f"Segments to {purpose} on: {counts}; longer than max_segment_s: {segments.too_long:,}", **PLAIN)
    out.print(
        f"{settings.steps:,} steps of {settings.groups} groups of {settings.completions} completions, "
        f"{settings.updates} updates each: {settings.steps * settings.updates:,} updates of "
        f"{found.weights / 1e6:,.2f} M weights, on {found.device}",
        **PLAIN,
    )
    gib = 1 << 30
    table = Table("memory, estimated for the longest segments", "GiB")
    for name, size in found.memory.items():
        table.add_row(name, f"{size / gib:.2f}")
    table.add_row("peak (sampling, scoring and updating take turns)", f"{found.peak / gib:.2f}")
    out.print(table)
    columns = {**found.scored.components, **found.scored.diagnostics}
    titles = (name.replace("_", " ") for name in [*columns, "advantage"])
    table = Table("", *titles, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for i in range(settings.completions):
        table.add_row(str(i), *(f"{column[i]:.3g}" for column in [*columns.values(), found.advantages]))
    people = (f"{found.human[name]:.3g}" if name in found.human else "" for name in columns)
    table.add_row("people", *people, "")
    scene = found.scene
    out.print(
        f"One group: {scene.axis} {scene.segment['id']}, {scene.segment['duration_s']:.1f} s; people: the agent of the "
        "recording, scored likewise",
        **PLAIN,
    )
    out.print(table)
    out.print("Nothing was written.")


def _closing_words(run: "Run", commands: list[str]) -> None:
    """Where the results lie, how the rewards moved, and what to type next."""
    if len(run.evaluations) > 1:
        first, last = run.evaluations[0], run.evaluations[-1]
        out.print(f"Mean reward on the validation split, at step {first['step']} and {last['step']}:", **PLAIN)
        for axis, each in last["validation"].items():
            for name, value in each["reward"].items():
                before = first["validation"].get(axis, {}).get("reward", {}).get(name)
                human = each.get("human", {}).get("reward", {}).get(name)
                people = "" if human is None else f" (the recorded agents: {human:+.3f})"
                if value is not None and before is not None:
                    out.print(f"  {axis} {name}: {before:+.3f} -> {value:+.3f}{people}", **PLAIN)
    if not any(line["zero_std"] < 1 for line in run.lines if "zero_std" in line):
        out.print(
            "Nothing was learnt: in no step had a group completions of different rewards. Listen to samples/; raise "
            "sampling.text_temperature or completions, or take segments that are longer.",
            style="yellow",
            **PLAIN,
        )
    out.print(f"Metrics, checkpoints and samples are in {run.path}; the result is in {run.folder.export}", **PLAIN)
    look = f"segkit report {run.path} -o report.html", f"tensorboard --logdir {run.path}"
    for i, command in enumerate([*commands, *look]):
        out.print(f"{'Next: ' if not i else '      '}{command}", **PLAIN)
