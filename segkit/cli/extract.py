"""`segkit extract`: options in, progress, and the closing words."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segkit.cli.console import PLAIN, Config, Json, Set, Workers, err, out, values

if TYPE_CHECKING:
    from segkit.dataset.dataset import Dataset
    from segkit.extraction.job import Job
    from segkit.tasks import Hook


def extract(
    corpus: Annotated[str, typer.Argument(help="A corpus; `segkit corpora` lists them.", show_default=False)],
    root: Annotated[Path | None, typer.Argument(help="Its folder; corpora that make their own data need none.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The dataset folder to write.")] = Path("segments"),
    axes: Annotated[str | None, typer.Option(help="Which axes; the setting axes.")] = None,
    vad: Annotated[
        str | None, typer.Option(help="silero, webrtc, pyannote or transcript; the setting vad.backend.")
    ] = None,
    transcribe: Annotated[
        str | None,
        typer.Option(metavar="whisperx[:MODEL]", help="Recognise the words of recordings without; sets asr.model."),
    ] = None,
    preset: Annotated[str, typer.Option(help="Settings to start from: paper, in-person or paper-literal.")] = "paper",
    config: Config = None,
    set_: Set = None,
    per_axis: Annotated[int | None, typer.Option(help="At most this many segments per axis (2000).")] = None,
    context_s: Annotated[
        float | None, typer.Option(help="Seconds of the recording to keep before a segment (30).")
    ] = None,
    splits: Annotated[str | None, typer.Option(help="Shares of train, validation, test (0.9,0.05,0.05).")] = None,
    rate_hz: Annotated[str | None, typer.Option(help="Sample rate (24000), or native for the source's.")] = None,
    seed: Annotated[int | None, typer.Option(help="For the selection and the splits (0).")] = None,
    limit: Annotated[int | None, typer.Option(help="Use the first recordings only.")] = None,
    annotations_only: Annotated[
        bool | None,
        typer.Option("--annotations-only", help="Segments without audio; with --vad transcript, none is needed."),
    ] = None,
    workers: Workers = 0,
    engine: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    device: Annotated[str, typer.Option(help="Where Silero runs: cpu or cuda.")] = "cpu",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the segments of a run with other settings.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, write nothing.")] = False,
    as_json: Json = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every input that was skipped.")] = False,
) -> None:
    """Turn two-party recordings into Parquet datasets of segments.

    Options are settings of the same name, and come after those of --config and before those of --set.

    Example: segkit extract stereo calls -o segments --set pause.tau_min_s=3
    """
    flags = {"axes": axes, "vad.backend": vad, "asr.model": transcribe, "per_axis": per_axis, "context_s": context_s}
    flags |= {"splits": splits, "rate_hz": rate_hz, "seed": seed, "limit": limit, "annotations_only": annotations_only}
    asked = values(config, set_, flags)
    if dry_run:
        from segkit.extraction.job import Job

        return _dry_run(Job.asked(corpus, root, output, asked, preset), as_json)
    from segkit import api

    with _progress(quiet=as_json) as hook:
        dataset = api.extract(
            corpus,
            root,
            output,
            settings=asked,
            preset=preset,
            workers=workers,
            engine=engine,
            device=device,
            overwrite=overwrite,
            hook=hook,
        )
    if as_json:
        return typer.echo(json.dumps(dataset.record.as_json(), indent=2))
    _closing_words(dataset, corpus, root, verbose)


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

        def hook(stage: str, done: int, total: int, facts: Mapping[str, Any] = MappingProxyType({})) -> None:
            if stage not in tasks:
                for task in tasks.values():
                    progress.update(task, visible=False)
                tasks[stage] = progress.add_task(stage, total=total, facts="")
            recordings_per_s = progress.tasks[tasks[stage]].speed
            hours = facts.get("hours", 0.0)
            speed = [f"{recordings_per_s * hours / done:.2f} h/s"] if recordings_per_s and hours else []
            counts = [f"{axis} {int(n)}" for axis, n in facts.items() if axis != "hours"]
            progress.update(tasks[stage], completed=done, total=total, facts=" · ".join(speed + counts))

        yield hook


def _dry_run(job: "Job", as_json: bool) -> None:
    """Find the recordings and say what a run would do with them."""
    from segkit.extraction.run import plan

    found = plan(job)
    skipped = [f"{p.source}: {p.reason}: {p.detail}" for p in found.skipped]
    if as_json:
        counts = {"recordings": found.recordings, "to_annotate": found.to_annotate, "skipped": skipped}
        return typer.echo(json.dumps({"job": job.record.model_dump(mode="json"), **counts}, indent=2))
    out.print(f"{found.recordings} recordings below {job.root}, {found.to_annotate} of them to annotate.", **PLAIN)
    for line in skipped:
        out.print(f"  would skip {line}", **PLAIN)
    out.print(f"Would write {', '.join(job.settings.axes)} to {job.out}. Nothing was written.", **PLAIN)


def _closing_words(dataset: "Dataset", corpus: str, root: Path | None, verbose: bool) -> None:
    """What was kept and what was skipped, where the results lie, and what to type next."""
    from segkit import corpora
    from segkit.extraction.job import beside
    from segkit.reporting import summary
    from segkit.schemas import SPLITS

    record, where = dataset.record, dataset.folder.record_file
    out.print(*summary.of_record(record), sep="\n")
    problems = record.problems.inputs
    if problems:
        err.print(f"Warning: {len(problems)} inputs were skipped; {where} lists them.", style="yellow", **PLAIN)
    for problem in problems if verbose else []:
        err.print(f"  {problem.source}: {problem.reason}: {problem.detail}", **PLAIN)
    told = record.warnings.inputs
    if told:
        err.print(f"Warning: {len(told)} things to know of recordings that are used; {where} lists them.", **PLAIN)
    for warning in told if verbose else []:
        err.print(f"  {warning.source}: {warning.reason}: {warning.detail}", **PLAIN)
    filled = record.recordings.splits
    empty = [name for name, share in zip(SPLITS, record.job.splits, strict=True) if share and name not in filled]
    if empty:
        reason = "recordings that share a speaker stay together, and there are too few others"
        err.print(f"Warning: nothing is left for {' and '.join(empty)}: {reason}.", style="yellow", **PLAIN)
    strangers = record.recordings_of_unknown_speakers
    if strangers and len(filled) > 1:
        risk = "whoever speaks in several of them may be in two splits"
        err.print(f"Warning: who speaks in {strangers} recordings is unknown: {risk}.", style="yellow", **PLAIN)
    if lost := sum(record.words_dropped.values()):
        err.print(f"Warning: {lost:,} entries of the transcripts were dropped; {where} says why.", **PLAIN)
    what = "audio" if dataset.has_audio else "conversations, without audio,"
    out.print(f"{len(dataset):,} segments from {record.recordings.hours:.2f} h of {what} in {dataset.path}", **PLAIN)
    if not corpora.get(corpus).needs_root:
        made = root or beside(dataset.path, corpus)
        out.print(f"The conversations themselves, with their truth, are in {made}", **PLAIN)
    if not len(dataset):
        out.print("No segments at these thresholds: the reasons above say which to lower with --set.", **PLAIN)
        return
    out.print(f"Next: segkit inspect {dataset.path} {dataset.axes[0]} --png segment.png", **PLAIN)
    out.print(f"      segkit report {dataset.path} -o report.html", **PLAIN)
