"""The command line. Heavy imports stay inside the commands, so that `segkit --help` is instant."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console

from segkit.errors import SegkitError, UsageError, nearest

if TYPE_CHECKING:
    from segkit.extract.job import Job
    from segkit.extract.run import Hook

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Segments of real two-party conversations for full-duplex speech models (arXiv 2606.11167).",
    epilog="Add --debug to any command for the traceback of an error.",
)
out, err = Console(), Console(stderr=True)
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
Dataset = Annotated[Path, typer.Argument(help="A folder that `segkit extract` wrote.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output instead of tables.")]
N = TypeVar("N", int, float)


def main() -> NoReturn:
    """Run the command line: errors of segkit's own become a message and an exit code."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        app(arguments)
    except KeyboardInterrupt:
        err.print("Interrupted. What was finished is kept: the same command goes on from there.")
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        known = isinstance(error, SegkitError)
        text = str(error) if known else f"{type(error).__name__}: {error} (--debug shows where)"
        err.print("Error:", style="bold red", end=" ")
        err.print(text, **PLAIN)
        sys.exit(error.exit_code if isinstance(error, SegkitError) else 1)
    sys.exit(0)


@app.command(no_args_is_help=True)
def extract(
    corpus: Annotated[str, typer.Argument(help="A corpus; `segkit corpora` lists them.", show_default=False)],
    root: Annotated[Path | None, typer.Argument(help="Its folder; corpora that make their own data need none.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The dataset folder to write.")] = Path("segments"),
    axes: Annotated[str, typer.Option(help="Which axes.")] = "pause,turn_taking,backchannel,interruption",
    vad: Annotated[str | None, typer.Option(help="silero or webrtc; the same as --set vad.backend=...")] = None,
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
    settings, options = _overrides(preset, adapter.Options(), set_ or [], vad)
    job = Job(
        corpus=corpus,
        root=root or output.with_name(f"{output.name}-{corpus}"),
        out=output,
        options=options,
        settings=settings,
        axes=tuple(_name(Axis, axis.strip(), "--axes") for axis in axes.split(",")),
        per_axis=per_axis,
        context_s=context_s,
        splits=_shares(splits),
        seed=seed,
        rate_hz=None if rate == "native" else _number(int, rate, "--rate", "a rate in Hz, or native"),
        limit=limit,
    )
    if dry_run:
        return _dry_run(job, as_json)
    with _progress(quiet=as_json) as hook:
        report = run(job, workers or _cores(), engine, device, overwrite, hook)
    if as_json:
        return typer.echo(json.dumps(report, indent=2))
    out.print(*summary.tables(report), sep="\n")
    _closing_words(job, report, verbose)


def _overrides(preset: str, options: Any, pairs: list[str], vad: str | None) -> tuple[Any, Any]:
    """Settings and corpus options with every NAME=VALUE applied to the one that knows the name."""
    from segkit.schemas.settings import PRESETS, setting_names, with_overrides

    if preset not in PRESETS:
        raise UsageError(f"Unknown preset {preset!r}. {nearest(preset, PRESETS)}")
    settings = PRESETS[preset]
    if vad:
        settings = replace(settings, vad=replace(settings.vad, backend=vad))
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set got {pair!r}. Expected NAME=VALUE, such as pause.tau_min_s=3.")
        if name in setting_names(settings):
            settings = with_overrides(settings, {name: value})
        elif name in setting_names(options):
            options = with_overrides(options, {name: value})
        else:
            known = setting_names(settings) + setting_names(options)
            raise UsageError(f"Unknown setting {name!r}. {nearest(name, known)}")
    return settings, options


def _name(kind: Any, text: str, option: str) -> Any:
    if text not in list(kind):
        raise UsageError(f"{option} got {text!r}. {nearest(text, list(kind))}")
    return kind(text)


def _number(kind: type[N], text: str, option: str, expected: str) -> N:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{option} got {text!r}. Expected {expected}.") from None


def _shares(text: str) -> Any:
    return tuple(_number(float, part, "--splits", "three numbers such as 0.9,0.05,0.05") for part in text.split(","))


def _cores() -> int:
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
    from segkit.extract.job import SPLITS

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
    kept = sum(counts["kept"] for counts in report["segments"].values())
    out.print(f"{kept:,} segments from {report['recordings']['hours']:.2f} h of audio in {job.out}", **PLAIN)
    if not corpora.get(job.corpus).needs_root:
        out.print(f"The conversations themselves, with their truth, are in {job.root}", **PLAIN)
    if not kept:
        out.print("No segments at these thresholds: the reasons above say which to lower with --set.", **PLAIN)
        return
    first = next(axis for axis, counts in report["segments"].items() if counts["kept"])
    out.print(f"Next: segkit inspect {job.out} {first} --png segment.png", **PLAIN)
    out.print(f"      segkit stats {job.out}", **PLAIN)


@app.command()
def corpora(
    name: Annotated[str | None, typer.Argument(help="Show this corpus.", show_default=False)] = None,
) -> None:
    """List the corpora that can be read, or show one: licence, layout, options."""
    from rich.table import Table

    from segkit import corpora

    if name is None:
        table = Table("corpus", "what", "licence")
        for each in corpora.names():
            table.add_row(each, corpora.get(each).title, corpora.get(each).licence)
        out.print(table)
        return
    corpus = corpora.get(name)
    share = "may be published" if corpus.redistributable else "may not be published unless it is yours to publish"
    lines = [
        corpus.title,
        f"Licence: {corpus.licence} (audio {share})",
        f"Citation: {corpus.citation}",
        f"How to get it: {corpus.how_to_get_it}",
        "",
        corpus.tree,
        "",
        cleandoc(corpus.Options.__doc__ or ""),
        "",
        "Defaults: " + " ".join(f'--set "{name}={value}"' for name, value in vars(corpus.Options()).items()),
    ]
    out.print("\n".join(lines), **PLAIN)


@app.command()
def stats(dataset: Dataset, as_json: Json = False) -> None:
    """Counts, hours and distributions of a dataset, per axis and corpus."""
    from segkit.report import stats as report

    found = report.statistics(dataset)
    if as_json:
        return typer.echo(json.dumps(report.as_json(found), indent=2))
    out.print(*report.tables(found), sep="\n")


@app.command()
def inspect(
    dataset: Dataset,
    segment: Annotated[str, typer.Argument(help="Its id, the beginning of it, or an axis.", show_default=False)],
    png: Annotated[Path, typer.Option(help="The picture to write.")] = Path("segment.png"),
) -> None:
    """Draw one segment: waveforms, who speaks when, words, and the events of its axis."""
    from segkit.report.dataset import read_segment
    from segkit.report.picture import draw_segment

    row = read_segment(dataset, segment)
    png.parent.mkdir(parents=True, exist_ok=True)
    draw_segment(row).savefig(png)
    out.print(f"{row['axis']} {row['id']} is drawn in {png}", **PLAIN)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Versions, extras, GPU, decoders, and conflicts between packages."""
    from rich.table import Table

    from segkit.doctor import examine

    found = examine()
    if as_json:
        return typer.echo(json.dumps(found, indent=2))
    table = Table("what", "found")
    table.add_row("segkit, Python", f"{found['segkit']}, {found['python']} on {found['platform']}")
    table.add_row("cores, GPU", f"{found['cores']}, {found['gpu'] or 'no GPU that torch can use'}")
    for group, packages in {"core": found["core"], **found["extras"]}.items():
        versions = ", ".join(f"{name} {version or '[red]missing[/]'}" for name, version in packages.items())
        table.add_row(group if group == "core" else f"\\[{group}]", versions)
    readable = ", ".join(f"{kind}: {'yes' if there else '[red]no[/]'}" for kind, there in found["decoders"].items())
    table.add_row("decoders", readable)
    table.add_row("conflicts", "\n".join(found["conflicts"]) or "none")
    out.print(table)


if __name__ == "__main__":
    main()
