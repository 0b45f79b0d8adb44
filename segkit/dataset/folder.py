"""How a dataset folder is laid out, and who may write to it.

    DATASET/
    ├── README.md             the card
    ├── run.json              the record: settings, counts, reasons
    ├── statistics.png        a picture in the card of a published dataset
    ├── data/AXIS/SPLIT-00000-of-00001.parquet     segments
    └── annotations/HASH.parquet                   recordings: who speaks when, words

That is a dataset repository of the Hugging Face Hub. Nothing else in segkit knows these names.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from segkit.dataset.record import JobRecord, Record
from segkit.errors import UsageError
from segkit.storage import changes, held, remove_drafts

SHARDS = "data/{axis}/{split}-*.parquet"
PARTS = "annotations/*.parquet"
CONTENT = ("README.md", "run.json", "statistics.png", SHARDS.format(axis="*", split="*"), PARTS)
"""The files of a dataset, as patterns."""


@dataclass(frozen=True)
class Folder:
    """A dataset folder, there or not."""

    path: Path

    @property
    def card(self) -> Path:
        """The dataset card."""
        return self.path / "README.md"

    @property
    def record_file(self) -> Path:
        """Settings, counts and reasons."""
        return self.path / "run.json"

    @property
    def picture(self) -> Path:
        """The picture in the card of a published dataset."""
        return self.path / "statistics.png"

    @property
    def data(self) -> Path:
        """The folder of all segments."""
        return self.path / "data"

    @property
    def annotations(self) -> Path:
        """The folder of the recordings."""
        return self.path / "annotations"

    def shard(self, axis: str, split: str, number: int, of: int) -> Path:
        """The file of some segments of an axis and a split."""
        return self.data / axis / f"{split}-{number:05d}-of-{of:05d}.parquet"

    def shards(self, axis: str = "*", split: str = "*") -> list[Path]:
        """The files of segments, of all or of an axis and a split, in a stable order."""
        return sorted(self.path.glob(SHARDS.format(axis=axis, split=split)))

    def parts(self) -> list[Path]:
        """The files of annotations, in a stable order."""
        return sorted(self.path.glob(PARTS))

    def content(self) -> list[Path]:
        """All files of the dataset, in a stable order."""
        return sorted({path for pattern in CONTENT for path in self.path.glob(pattern)})

    def mark(self, by: str) -> Path:
        """An empty file by which `segkit publish` and `segkit hydrate` know their own folders."""
        return self.path / f".{by}"

    def record(self) -> Record:
        """What `run.json` says.

        Raises:
            UsageError: the folder is not a dataset folder of segkit, or it is damaged.
        """
        return Record.read(self.record_file)

    def finished(self) -> Record:
        """The record of a dataset that is complete.

        Raises:
            UsageError: it is not a dataset, or its run has not come to its end.
        """
        record = self.record()
        if record.status == "running":
            raise UsageError(
                f"{str(self.path)!r} holds a run that is not finished. Start the same command again first."
            )
        return record

    @contextmanager
    def claimed(self, job: JobRecord, overwrite: bool = False) -> Iterator[None]:
        """Hold the folder for a job: fresh, the same job's, or released by `overwrite`; drafts in it are removed.

        Another version of segkit is the same job, as long as the schema is the same.

        Raises:
            UsageError: the folder holds something else, and the message says what differs; or another run holds it.
        """
        self._check(job, overwrite)
        self.annotations.mkdir(parents=True, exist_ok=True)
        with held(self.path):
            self._check(job, overwrite)  # what came in between, of a run that has ended since
            Record.of(job).write(self.record_file)
            remove_drafts(self.path)
            yield

    def _check(self, job: JobRecord, overwrite: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{str(self.path)!r} is a file. Expected a folder for the dataset.")
        entries = {path.name for path in self.path.iterdir()} if self.path.exists() else set()
        if not self.record_file.exists():
            if entries - {self.annotations.name}:
                raise UsageError(
                    f"{str(self.path)!r} holds {', '.join(sorted(entries)[:3])} but no run.json, so it is not a "
                    "dataset folder of segkit. Choose another folder, or empty this one."
                )
            return
        before, now = (each.model_dump(mode="json", exclude={"segkit"}) for each in (self.record().job, job))
        changed = changes(before, now)
        if changed and not overwrite:
            raise UsageError(
                f"{str(self.path)!r} holds a run with other settings ({changed}). Choose another "
                "folder; `segkit extract --overwrite` replaces its segments (annotations are reused where they fit)."
            )
