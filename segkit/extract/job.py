"""What a run of `segkit extract` is asked to do, and where its results lie.

A dataset folder is a Hub dataset repository: `README.md`, `run.json`, `data/<axis>/*.parquet`
and `annotations/*.parquet`.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import segkit
from segkit import corpora
from segkit.errors import UsageError
from segkit.folders import changes, held, write_text
from segkit.schemas import Axis, Settings
from segkit.schemas.arrow import SCHEMA_VERSION
from segkit.schemas.settings import as_json, fingerprint, from_json


@dataclass(frozen=True)
class Job:
    """Everything that decides what a dataset holds, and the two folders.

    Attributes:
        corpus: name of the corpus adapter.
        root: folder of the corpus.
        out: dataset folder.
        options: the adapter's options.
        settings: thresholds of VAD, timeline and axes.
        axes: which axes to extract.
        per_axis: at most this many segments per axis (paper: 2,000).
        context_s: how much of the recording before a segment to keep (paper: up to 30 s).
        splits: shares of train, validation and test.
        seed: for the selection and the splits.
        rate_hz: rate of the audio; None keeps the source's.
        limit: use the first recordings only.
        annotations_only: write segments without audio, which need not be at hand if VAD is "transcript".
    """

    corpus: str
    root: Path
    out: Path
    options: Any = None
    settings: Settings = field(default_factory=Settings)
    axes: tuple[Axis, ...] = tuple(Axis)
    per_axis: int = 2000
    context_s: float = 30.0
    splits: tuple[float, float, float] = (0.9, 0.05, 0.05)
    seed: int = 0
    rate_hz: int | None = 24_000
    limit: int | None = None
    annotations_only: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", tuple(axis for axis in Axis if axis in self.axes))  # in one order, once
        if self.options is None:
            object.__setattr__(self, "options", corpora.get(self.corpus).Options())
        if len(self.splits) != 3 or min(self.splits) < 0 or not math.isclose(sum(self.splits), 1.0):
            raise UsageError(
                f"--splits got {self.splits}. Expected three shares of train, validation and test that "
                "add up to 1, such as 0.9,0.05,0.05."
            )
        limits_hold = self.per_axis >= 1 and 0 <= self.context_s < math.inf and (self.limit is None or self.limit >= 1)
        rate_holds = self.rate_hz is None or 8000 <= self.rate_hz <= 192_000
        if not self.axes or not limits_hold or not rate_holds:
            raise UsageError(
                f"Got {len(self.axes)} axes, --per-axis {self.per_axis}, --limit {self.limit}, --context-s "
                f"{self.context_s}, --rate {self.rate_hz}. Expected at least one axis, --per-axis and --limit of at "
                "least 1, a --context-s of at least 0, and a --rate of 8000 to 192000, or native."
            )

    def open_corpus(self) -> corpora.Corpus:
        """The corpus adapter on its folder."""
        return corpora.get(self.corpus)(self.root, self.options)

    def identity(self) -> dict[str, Any]:
        """What decides the dataset, as JSON: no paths, and nothing about the machine."""
        choices = {name: getattr(self, name) for name in self.__dataclass_fields__}
        del choices["root"], choices["out"]
        return as_json({"segkit": segkit.__version__, "schema": SCHEMA_VERSION, **choices})

    @classmethod
    def of(cls, identity: dict[str, Any], root: Path, out: Path) -> "Job":
        """The job that `identity` describes, on other folders."""
        kept = {name: identity[name] for name in ("corpus", "per_axis", "context_s", "seed", "rate_hz", "limit")}
        return cls(
            **kept,
            root=root,
            out=out,
            options=from_json(corpora.get(identity["corpus"]).Options(), identity["options"]),
            settings=from_json(Settings(), identity["settings"]),
            axes=tuple(map(Axis, identity["axes"])),
            splits=tuple(identity["splits"]),
            annotations_only=identity["annotations_only"],
        )

    @property
    def needs_audio(self) -> bool:
        """Whether recordings without audio are of no use."""
        return not (self.annotations_only and self.settings.vad.backend == "transcript")

    @property
    def settings_hash(self) -> str:
        """Identifies the corpus, its options and the thresholds in every row: what decides the segments."""
        return fingerprint(self.corpus, self.options, self.settings)

    @property
    def data_dir(self) -> Path:
        """The segments."""
        return self.out / "data"

    @property
    def annotations_dir(self) -> Path:
        """The recordings: activity and words."""
        return self.out / "annotations"

    @property
    def run_file(self) -> Path:
        """Settings, counts and reasons of the run."""
        return self.out / "run.json"


@contextmanager
def claimed(job: Job, overwrite: bool) -> Iterator[None]:
    """Hold the dataset folder for this job: fresh, the same job's, or released by `overwrite`.

    Raises:
        UsageError: the folder holds something else, and the message says what differs; or another run
            holds it.
    """
    _check(job, overwrite)
    job.annotations_dir.mkdir(parents=True, exist_ok=True)
    with held(job.out):
        write_text(job.run_file, json.dumps({"job": job.identity(), "status": "running"}, indent=2))
        yield


def _check(job: Job, overwrite: bool) -> None:
    if job.out.exists() and not job.out.is_dir():
        raise UsageError(f"{str(job.out)!r} is a file. Expected a folder for the dataset.")
    entries = {path.name for path in job.out.iterdir()} if job.out.exists() else set()
    if not job.run_file.exists():
        if entries - {"annotations"}:
            raise UsageError(
                f"{str(job.out)!r} holds {', '.join(sorted(entries)[:3])} but no run.json, so it is no "
                "dataset folder of segkit. Choose another folder, or empty this one."
            )
    else:
        before = _settings_of(job.run_file)
        changed = changes(before, job.identity())
        if changed and not overwrite:
            raise UsageError(
                f"{str(job.out)!r} holds a run with other settings ({changed}). Choose another "
                "folder, or add --overwrite to replace its segments (annotations are reused where they fit)."
            )


def _settings_of(run_file: Path) -> Any:
    try:
        return json.loads(run_file.read_text(encoding="utf-8"))["job"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{str(run_file)!r} is damaged ({error!r}). Remove it, or choose another folder.") from None
