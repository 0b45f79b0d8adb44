"""`segkit extract`: options into a job, progress, and the closing words."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segkit.cli.console import PLAIN, Json, err, name, number, out, pair
from segkit.errors import UsageError, nearest

if TYPE_CHECKING:
    from segkit.extract.job import Job
    from segkit.extract.run import Hook


def extract(
    corpus: Annotated[str, typer.Argument(help="A corpus; `segkit corpora` lists them.", show_default=False)],
    root: Annotated[Path | None, typer.Argument(help="Its folder; corpora that make their own data need none.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The dataset folder to write.")] = Path("segments"),
    axes: Annotated[str, typer.Option(help="Which axes.")] = "pause,turn_taking,backchannel,interruption",
    vad: Annotated[
        str | None, typer.Option(help="silero, webrtc, pyannote or transcript; the same as --set vad.backend=...")
    ] = None,
    transcribe: Annotated[
        str | None,
        typer.Option(metavar="whisperx[:MODEL]", help="Recognise the words of recordings without; sets asr.model."),
    ] = None,
    preset: Annotated[str, typer.Option(help="Thresholds to start from: paper or paper-literal.")] = "paper",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A threshold (pause.tau_min_s=3) or corpus option."),
    ] = None,
    per_axis: Annotated[int, typer.Option(help="At most this many segments per axis.")] = 2000,
    context_s: Annotated[float, typer.Option(help="Seconds of the recording to keep before a segment.")] = 30.0,
    splits: Annotated[str, typer.Option(help="Shares of train, validation, test.")] = "0.9,0.05,0.05",
    rate: Annotated[str, typer.Option(help="Sample rate in Hz, or native for the source's.")] = "24000",
    seed: Annotated[int, typer.Option(help="For the selection and the splits.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 means one per core.")] = 0,
    engine: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    device: Annotated[str, typer.Option(help="Where Silero runs: cpu or cuda.")] = "cpu",
    limit: Annotated[int | None, typer.Option(help="Use the first recordings only.")] = None,
    annotations_only: Annotated[
        bool,
        typer.Option("--annotations-only", help="Segments without audio; with --vad transcript, none need be at hand."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the segments of a run with other settings.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, write nothing.")] = False,
    as_json: Json = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every input that was skipped.")] = False,
) -> None:
    """Turn two-party recordings into Parquet datasets of segments.

    Example: segkit extract stereo calls -o segments --set pause.tau_min_s=3
    """
    from segkit import corpora
    from segkit.extract.job import Job
    from segkit.extract.run import run
    from segkit.report import summary
    from segkit.schemas import Axis

    adapter = corpora.get(corpus)
    if root is None and adapter.needs_root:
        raise UsageError(f"ROOT is missing: the folder of {corpus!r}. `segkit corpora {corpus}` shows its layout.")
    settings, options = _overrides(preset, adapter.Options(), set_ or [], vad, transcribe)
    job = Job(
        corpus=corpus,
        root=root or output.with_name(f"{output.name}-{corpus}"),
        out=output,
        options=options,
        settings=settings,
        axes=tuple(name(Axis, axis.strip(), "--axes") for axis in axes.split(",")),
        per_axis=per_axis,
        context_s=context_s,
        splits=_shares(splits),
        seed=seed,
        rate_hz=None if rate == "native" else number(int, rate, "--rate", "a rate in Hz, or native"),
        limit=limit,
        annotations_only=annotations_only,
    )
    if dry_run:
        return _dry_run(job, as_json)
    with _progress(quiet=as_json) as hook:
        report = run(job, workers or cores(), engine, device, overwrite, hook)
    if as_json:
        return typer.echo(json.dumps(report, indent=2))
    out.print(*summary.tables(report), sep="\n")
    _closing_words(job, report, verbose)


def _overrides(preset: str, options: Any, pairs: list[str], vad: str | None, transcribe: str | None) -> tuple[Any, Any]:
    """Settings and corpus options with every NAME=VALUE applied to the one that knows the name."""
    from segkit.schemas.settings import PRESETS, setting_names, with_overrides

    if preset not in PRESETS:
        raise UsageError(f"Unknown preset {preset!r}. {nearest(preset, PRESETS)}")
    settings = PRESETS[preset]
    if vad:
        settings = replace(settings, vad=replace(settings.vad, backend=vad))
    if transcribe:
        settings = replace(settings, asr=replace(settings.asr, model=transcribe))
    for key, value in map(pair, pairs):
        if key in setting_names(settings):
            settings = with_overrides(settings, {key: value})
        elif key in setting_names(options):
            options = with_overrides(options, {key: value})
        else:
            known = setting_names(settings) + setting_names(options)
            raise UsageError(f"Unknown setting {key!r}. {nearest(key, known)}")
    return settings, options


def _shares(text: str) -> Any:
    return tuple(number(float, part, "--splits", "three numbers such as 0.9,0.05,0.05") for part in text.split(","))


def cores() -> int:
    """How many processes this machine has cores for."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _progress(quiet: bool) -> Iterator["Hook"]:
    """One bar: recordings or segments, hours of audio per second, segments per axis, time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=quiet) as progress:
        tasks: dict[str, Any] = {}

        def hook(stage: str, done: int, total: int, facts: dict[str, float]) -> None:
            if stage not in tasks:
                for task in tasks.values():
                    progress.update(task, visible=False)
                tasks[stage] = progress.add_task(stage, total=total, facts="")
            recordings_per_s = progress.tasks[tasks[stage]].speed
            hours = facts.pop("hours", 0.0)
            speed = [f"{recordings_per_s * hours / done:.2f} h/s"] if recordings_per_s and hours else []
            counts = [f"{axis} {int(n)}" for axis, n in facts.items()]
            progress.update(tasks[stage], completed=done, total=total, facts=" · ".join(speed + counts))

        yield hook


def _dry_run(job: "Job", as_json: bool) -> None:
    """Find the recordings and say what a run would do with them."""
    from segkit.extract.annotate import chunks, is_done
    from segkit.extract.run import find

    conversations, problems = find(job)
    parts = chunks(job, conversations)
    waiting = sum(len(group) for part, group in parts.items() if not is_done(part))
    skipped = [f"{p.source}: {p.reason}: {p.detail}" for p in problems]
    if as_json:
        plan = {"job": job.identity(), "recordings": len(conversations), "to_annotate": waiting, "skipped": skipped}
        return typer.echo(json.dumps(plan, indent=2))
    out.print(f"{len(conversations)} recordings below {job.root}, {waiting} of them to annotate.", **PLAIN)
    for line in skipped:
        out.print(f"  would skip {line}", **PLAIN)
    out.print(f"Would write {', '.join(job.axes)} to {job.out}. Nothing was written.", **PLAIN)


def _closing_words(job: "Job", report: dict[str, Any], verbose: bool) -> None:
    """What was skipped, where the results lie, and what to type next."""
    from segkit import corpora
    from segkit.schemas import SPLITS

    problems = report["problems"]["list"]
    if problems:
        err.print(f"Warning: {len(problems)} inputs were skipped; {job.run_file} lists them.", style="yellow")
    for problem in problems if verbose else []:
        line = f"  {problem['source']}: {problem['reason']}: {problem['detail']}"
        err.print(line, **PLAIN)
    filled = report["recordings"]["splits"]
    empty = [name for name, share in zip(SPLITS, job.splits, strict=True) if share and name not in filled]
    if empty:
        reason = "recordings that share a speaker stay together, and there are too few others"
        err.print(f"Warning: nothing is left for {' and '.join(empty)}: {reason}.", style="yellow", **PLAIN)
    strangers = report["recordings_of_unknown_speakers"]
    if strangers and len(filled) > 1:
        risk = "whoever speaks in several of them may be in two splits"
        err.print(f"Warning: who speaks in {strangers} recordings is unknown: {risk}.", style="yellow", **PLAIN)
    kept = sum(counts["kept"] for counts in report["segments"].values())
    if lost := sum(report["words_dropped"].values()):
        err.print(f"Warning: {lost:,} entries of the transcripts were dropped; {job.run_file} says why.", **PLAIN)
    what = "conversations, without audio," if job.annotations_only else "audio"
    out.print(f"{kept:,} segments from {report['recordings']['hours']:.2f} h of {what} in {job.out}", **PLAIN)
    if not corpora.get(job.corpus).needs_root:
        out.print(f"The conversations themselves, with their truth, are in {job.root}", **PLAIN)
    if not kept:
        out.print("No segments at these thresholds: the reasons above say which to lower with --set.", **PLAIN)
        return
    first = next(axis for axis, counts in report["segments"].items() if counts["kept"])
    out.print(f"Next: segkit inspect {job.out} {first} --png segment.png", **PLAIN)
    out.print(f"      segkit report {job.out} -o report.html", **PLAIN)
