"""What segkit does, as functions: the command line is a thin layer over them.

Paths are text or `Path`. Settings are an object (`ExtractionSettings`, `AlignSettings`), or values by dotted name as
`--set` takes them, such as `{"pause.tau_min_s": 3}`; `segkit settings` lists them all. `hook` is called with the
progress (`segkit.tasks.Hook`). Errors that segkit raises on purpose are a `segkit.SegkitError`; a settings object made
with a value out of range raises pydantic's `ValidationError`.
"""

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

from segkit.dataset.dataset import Dataset
from segkit.dataset.folder import Folder
from segkit.errors import MissingExtraError, SegkitWarning, UsageError
from segkit.runs import Run, RunFolder
from segkit.settings import AlignSettings, ExtractionSettings
from segkit.settings.base import flat
from segkit.settings.training import align_settings, differences
from segkit.tasks import Hook, cores, nobody

AnyPath: TypeAlias = str | PathLike[str]
Values: TypeAlias = Mapping[str, Any]

REQUIRED_TO_TRAIN = ("moshi", "openai", "psutil", "tensorboard", "torchaudio")


def extract(
    corpus: str,
    root: AnyPath | None = None,
    output: AnyPath = "segments",
    *,
    settings: ExtractionSettings | Values | None = None,
    options: Values | None = None,
    preset: str = "paper",
    workers: int = 1,
    engine: str = "local",
    device: str = "cpu",
    overwrite: bool = False,
    hook: Hook = nobody,
) -> Dataset:
    """Turn two-party recordings into a dataset of segments. A run that was interrupted goes on when called again.

    Args:
        corpus: name of an adapter; `segkit corpora` lists them.
        root: its folder; corpora that make their own recordings need none.
        output: the dataset folder to write.
        settings: what is to be found and kept; among values, those of the corpus have the prefix "corpus.".
        options: of the corpus, by name; the same without the prefix.
        preset: what values start from, "paper" or "paper-literal"; not used if `settings` is an object.
        workers: processes on this machine; 0: one per core. With more than one, a script needs
            `if __name__ == "__main__":` around its own code, as always with `multiprocessing`.
        engine: "local", or "ray" for a cluster.
        device: where Silero runs: "cpu" or "cuda".
        overwrite: replace the segments of a run with other settings.
        hook: called with the progress.

    Raises:
        UsageError: a wrong name, setting or folder.
        NothingUsableError: no recording could be used.
    """
    from segkit.extraction.job import PREFIX, Job
    from segkit.extraction.run import run

    values = {f"{PREFIX}{name}": value for name, value in (options or {}).items()}
    if isinstance(settings, ExtractionSettings):
        job = replace(Job.asked(corpus, _path(root), Path(output), values), settings=settings)
    else:
        job = Job.asked(corpus, _path(root), Path(output), flat(settings or {}) | values, preset)
    run(job, workers or cores(), engine, device, overwrite, hook)
    return Dataset(job.out)


def merge(datasets: Iterable[AnyPath | Dataset], output: AnyPath, *, hook: Hook = nobody) -> Dataset:
    """Write the segments and recordings of several datasets as one, which says where they are from.

    Args:
        datasets: two or more, extracted with the same thresholds.
        output: the dataset folder to write.
        hook: called with the progress.

    Raises:
        UsageError: they do not fit together, or the folder holds something else.
    """
    from segkit.dataset.merge import merge as write

    write([_dataset(each) for each in datasets], Folder(Path(output)), hook)
    return Dataset(output)


def open_dataset(path: AnyPath) -> Dataset:
    """A dataset folder as an object.

    Raises:
        UsageError: it is not a dataset folder of segkit, or its run is not finished.
    """
    return Dataset(path)


def open_run(path: AnyPath) -> Run:
    """The folder of a training run as an object.

    Raises:
        UsageError: it is not the folder of a run.
    """
    return Run(path)


def align(
    dataset: AnyPath | Dataset,
    run: AnyPath,
    *,
    policy: AnyPath = "nano",
    settings: AlignSettings | Values | None = None,
    preset: str | None = None,
    device: str = "auto",
    resume: bool = False,
    hook: Hook = nobody,
) -> Run:
    """Post-train a full-duplex model on segments with GRPO.

    Args:
        dataset: with audio.
        run: the folder of the run to write.
        policy: "nano" (inside segkit, learns on a CPU), "moshi", an id on the Hub, a folder, or "tiny" (noise).
        settings: an object is taken as it is; values change the preset, after what the dataset says of speech.
        preset: "paper", "paper-literal", "single-gpu" or "nano"; without one, that of the policy nano, or "paper"; not
            used if `settings` is an object.
        device: "cpu", "cuda", "cuda:N", or "auto".
        resume: go on with the run in the folder.
        hook: called with the progress; as the stage "steps", the metrics of each step.

    Raises:
        UsageError: a dataset, policy, folder or setting that does not fit.
        TrainingError: the run cannot go on.

    Warns:
        SegkitWarning: rewards measure in another way than the dataset did.
    """
    expect_training_packages()
    from segkit.train.loop import align as train

    data = _dataset(dataset)
    if not isinstance(settings, AlignSettings):
        settings = settings_for(data, fspath(policy), settings or {}, preset)
    warn_of_differences(data, settings)
    train(data, RunFolder(Path(run)), fspath(policy), settings, device, resume, hook)
    return Run(run)


def settings_for(dataset: Dataset, policy: str, values: Values, preset: str | None = None) -> AlignSettings:
    """The settings of a run on a dataset: a preset (the policy's, unless named), what the dataset says, and values.

    Raises:
        UsageError: an unknown preset or setting, or a value that does not fit.
    """
    preset = preset or ("nano" if policy == "nano" else "paper")
    return align_settings(preset, values, dataset.record.settings)


def warn_of_differences(dataset: Dataset, settings: AlignSettings) -> None:
    """Warn the caller of the caller if rewards measure in another way than the dataset did.

    Warns:
        SegkitWarning: they do; says where.
    """
    if differing := differences(settings, dataset.record.settings):
        warnings.warn(
            f"The rewards measure in another way than the dataset did: {'; '.join(differing)}",
            SegkitWarning,
            stacklevel=3,
        )


def expect_training_packages() -> None:
    """Raise `MissingExtraError` if a package that training needs is not installed."""
    for package in REQUIRED_TO_TRAIN:
        if find_spec(package) is None:
            raise MissingExtraError("segkit align", package, "train")


@dataclass(frozen=True)
class Publication:
    """What is sent to the Hub, or would be.

    Attributes:
        folder: from which it is sent.
        files: each file with its size in bytes.
        url: where it is; None if nothing was sent.
    """

    folder: Path
    files: dict[Path, int]
    url: str | None = None


def publish(
    dataset: AnyPath | Dataset,
    name: str,
    *,
    private: bool = True,
    annotations_only: bool = False,
    declarations: Iterable[str] = (),
    dry_run: bool = False,
    hook: Hook = nobody,
) -> Publication:
    """Send a dataset to the Hugging Face Hub, as far as its licences allow. The token is that of `hf auth login`.

    Args:
        dataset: the folder.
        name: user/name on the Hub.
        private: who can see a new repository.
        annotations_only: without audio, and without words where the licence forbids them.
        declarations: "CORPUS=LICENCE: REASON", why a corpus's audio may be passed on.
        dry_run: write the card, and send nothing.
        hook: called with what will be sent, before it is, as the stage "sending", in files.

    Raises:
        UsageError: not allowed, by a licence or by the Hub.
        SegkitError: the Hub cannot be reached.
    """
    from segkit.publishing import gate, package
    from segkit.publishing.upload import upload

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UsageError(f"NAME got {name!r}. Expected user/name, as on the Hugging Face Hub.")
    data = Dataset(_dataset(dataset).path.resolve())  # "." has no name to put something beside it
    data.expect_segments()
    found = gate.shares(data.folder, map(gate.Declaration.parse, declarations))
    if not annotations_only:
        gate.expect_open(found)
    folder = package.prepare(data.folder, name, found, annotations_only)
    files = {path.relative_to(folder.path): path.stat().st_size for path in folder.content()}
    if dry_run:
        return Publication(folder.path, files)
    hook("sending", 0, len(files), {"bytes": sum(files.values())})
    return Publication(folder.path, files, upload(folder, name, private))


def hydrate(
    source: AnyPath,
    root: AnyPath,
    output: AnyPath = "segments",
    *,
    corpus: str = "",
    options: Values | None = None,
    workers: int = 1,
    hook: Hook = nobody,
) -> Dataset:
    """Rebuild the audio of a dataset that was published without, from your own copy of the corpus.

    Args:
        source: the published dataset: its name on the Hub, or a folder.
        root: your copy of the corpus.
        output: the dataset folder to write.
        corpus: which corpus of the dataset, if it has several.
        options: of the corpus; else those of the publisher.
        workers: processes on this machine; 0: one per core.
        hook: called with the progress.

    Raises:
        UsageError: the source is not such a dataset, or a folder holds something else.
        NothingUsableError: nothing could be rebuilt.
    """
    from segkit.publishing.fetch import fetched
    from segkit.publishing.hydrate import hydrate as rebuild

    rebuild(fetched(str(source)), Path(root), Path(output), corpus, options or {}, workers or cores(), hook)
    return Dataset(output)


def report(source: AnyPath | Dataset | Run, output: AnyPath = "report.html", *, per_axis: int = 10) -> Path:
    """Write one page that works offline, about a dataset or a training run; returns where it is.

    Args:
        source: the folder, or the object.
        output: the page to write.
        per_axis: at most this many segments per axis, to see and to hear.

    Raises:
        UsageError: the folder is neither, or there is nothing in it yet.
    """
    from segkit.reporting.page import write_report

    folder = source.path if isinstance(source, (Dataset, Run)) else Path(source)
    write_report(folder, Path(output), per_axis)
    return Path(output)


def _dataset(given: AnyPath | Dataset) -> Dataset:
    return given if isinstance(given, Dataset) else Dataset(given)


def _path(given: AnyPath | None) -> Path | None:
    return None if given is None else Path(given)
