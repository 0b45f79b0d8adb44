"""What `run.json` holds: how a dataset was made, what is in it, and the reason of everything that was left out.

>>> Record.of(JobRecord(segkit="1.0", schema_="3", corpus="stereo")).has_audio
True
"""

from collections import Counter
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segkit.errors import SegkitError, UsageError
from segkit.schemas import Axis
from segkit.settings import SegmentSettings, fingerprint
from segkit.storage import write_text


class _Part(BaseModel):
    """A part of the record; what a later version adds to it is kept."""

    model_config = ConfigDict(extra="allow", populate_by_name=True, serialize_by_alias=True)


class JobRecord(_Part):
    """What was asked for: what decides a dataset, without paths and without anything about the machine.

    Attributes:
        segkit: the version that made it.
        schema_: the version of the schema of its files.
        corpus: the adapter.
        options: of the adapter.
        settings: `SegmentSettings`, as JSON.
        axes, per_axis, context_s, splits, seed, rate_hz, audio, limit, annotations_only: see `ExtractionSettings`.
    """

    segkit: str
    schema_: str = Field(alias="schema")
    corpus: str
    options: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    axes: list[Axis] = list(Axis)
    per_axis: int = 2000
    context_s: float = 30.0
    splits: tuple[float, float, float] = (0.9, 0.05, 0.05)
    seed: int = 0
    rate_hz: int | None = 24_000
    audio: dict[str, Any] = {}
    limit: int | None = None
    annotations_only: bool = False


class Recordings(_Part):
    """How many recordings there were, and of those that are used the hours and the split that each is in."""

    found: int = 0
    used: int = 0
    hours: float = 0.0
    splits: dict[str, int] = {}


class AxisRecord(_Part):
    """Segments of an axis: how many are kept, in which splits, and why candidates were dropped."""

    kept: int = 0
    splits: dict[str, int] = {}
    dropped: dict[str, int] = {}


class ProblemRecord(_Part):
    """An input that was skipped, or is used all the same: which one, under which reason it is counted, the details."""

    source: str
    reason: str
    detail: str


class Problems(_Part):
    """All that was skipped, or used with a warning."""

    counts: dict[str, int] = {}
    inputs: list[ProblemRecord] = Field([], alias="list")

    @classmethod
    def of(cls, found: list[ProblemRecord]) -> Self:
        """Some problems in a stable order, with their counts."""
        found = sorted(found, key=lambda problem: (problem.source, problem.reason))
        return cls(counts=dict(Counter(problem.reason for problem in found)), inputs=found)


class Published(_Part):
    """What `segkit publish` left out."""

    audio: bool = True
    words_removed_of: list[str] = []


class Hydrated(_Part):
    """What `segkit hydrate` could not rebuild, by recording and reason."""

    lost: dict[str, dict[str, int]] = {}
    without_words: dict[str, dict[str, int]] = {}
    from_: dict[str, Any] = Field({}, alias="from")


class Merged(_Part):
    """A dataset that was merged into this one."""

    name: str
    fingerprint: str
    job: JobRecord
    settings_hash: str


class Record(_Part):
    """All of `run.json`.

    Attributes:
        status: "running", "complete" or "nothing usable".
        settings_hash: of corpus, options and settings, as in every row.
        words_dropped: entries of transcripts that could not be used, by reason.
        recordings_of_unknown_speakers: used ones of which a speaker has no name.
        warnings: what should be known of recordings that are used.
        problems: what was skipped.
    """

    status: str = "running"
    job: JobRecord
    settings_hash: str = ""
    recordings: Recordings = Recordings()
    segments: dict[str, AxisRecord] = {}
    words_dropped: dict[str, int] = {}
    recordings_of_unknown_speakers: int = 0
    warnings: Problems = Problems()
    problems: Problems = Problems()
    published: Published | None = None
    hydrated: Hydrated | None = None
    merged: list[Merged] | None = None

    @classmethod
    def of(cls, job: JobRecord) -> Self:
        """The record of a job that has just begun."""
        return cls(job=job)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a `run.json`.

        Raises:
            UsageError: there is none, or it is damaged.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError:
            raise UsageError(
                f"{str(path.parent)!r} has no {path.name}. Expected a folder that `segkit extract` wrote."
            ) from None
        except (ValueError, ValidationError) as error:
            reason = str(error).replace("\n", " ")[:160]
            raise UsageError(f"{str(path)!r} is damaged ({reason}). Remove it, or choose another folder.") from None

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_text(path, self.model_dump_json(indent=2, exclude_none=False, exclude=self._unset()))

    def as_json(self) -> dict[str, Any]:
        """Plain values, as the file holds them."""
        return self.model_dump(mode="json", exclude=self._unset())

    def _unset(self) -> set[str]:
        """The parts that only some datasets have."""
        return {name for name in ("published", "hydrated", "merged") if getattr(self, name) is None}

    @property
    def complete(self) -> bool:
        """Whether the run came to its end with something usable."""
        return self.status == "complete"

    @property
    def has_audio(self) -> bool:
        """Whether the segments have audio."""
        return not self.job.annotations_only and (self.published is None or self.published.audio)

    @property
    def settings(self) -> SegmentSettings:
        """The settings that the segments were found with.

        Raises:
            SegkitError: this version does not know them.
        """
        try:
            return SegmentSettings.read(self.job.settings)
        except UsageError as error:
            raise SegkitError(
                f"The dataset was made by segkit {self.job.segkit} with other settings: {error}"
            ) from None

    @property
    def fingerprint(self) -> str:
        """Identifies what the record says."""
        return fingerprint(self.as_json())

    def job_of(self, corpus: str) -> JobRecord | None:
        """How the segments of a corpus were made; None if the record does not say."""
        jobs = [each.job for each in self.merged or []] or [self.job]
        return next((job for job in jobs if job.corpus == corpus), None)
