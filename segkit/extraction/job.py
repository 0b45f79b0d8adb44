"""What a run of `segkit extract` is asked to do: a corpus, its options, the settings, and the two folders."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import segkit
from segkit import corpora
from segkit.dataset.folder import Folder
from segkit.dataset.record import JobRecord
from segkit.errors import UsageError
from segkit.schemas.arrow import SCHEMA_VERSION
from segkit.settings import ExtractionSettings, as_json, fingerprint
from segkit.settings.base import flat, unknown_setting

PREFIX = "corpus."
"""Of the options of a corpus, among the settings."""


def beside(out: Path, corpus: str) -> Path:
    """Where the recordings of a corpus that makes its own are put, unless somewhere else is given."""
    return out.with_name(f"{out.name}-{corpus}")


@dataclass(frozen=True)
class Job:
    """Everything that decides what a dataset holds, and the two folders.

    Attributes:
        corpus: name of the corpus adapter.
        root: folder of the corpus.
        out: dataset folder.
        options: the adapter's options; its defaults unless given.
        settings: all that is not of the corpus.
    """

    corpus: str
    root: Path
    out: Path
    options: Any = None
    settings: ExtractionSettings = field(default_factory=ExtractionSettings)

    def __post_init__(self) -> None:
        if self.options is None:
            object.__setattr__(self, "options", corpora.get(self.corpus).Options())

    @classmethod
    def asked(
        cls, corpus: str, root: Path | None, out: Path, values: Mapping[str, Any], preset: str = "paper"
    ) -> "Job":
        """The job that a user asks for.

        Args:
            corpus: name of the adapter.
            root: folder of the corpus; one beside the dataset, for a corpus that makes its own recordings.
            out: dataset folder.
            values: settings by dotted name, those of the corpus with the prefix "corpus.".
            preset: of settings.

        Raises:
            UsageError: there is no such corpus, preset or setting, a value does not fit, or the root is missing.
        """
        adapter = corpora.get(corpus)
        if root is None and adapter.needs_root:
            raise UsageError(f"ROOT is missing: the folder of {corpus!r}. `segkit corpora {corpus}` shows its layout.")
        values = flat(values)
        options = {name.removeprefix(PREFIX): value for name, value in values.items() if name.startswith(PREFIX)}
        others = {name: value for name, value in values.items() if not name.startswith(PREFIX)}
        known = [*ExtractionSettings.names(), *(PREFIX + name for name in adapter.Options.names())]
        for name in values:
            if name not in known:
                raise unknown_setting(name, known)
        return cls(
            corpus,
            root or beside(out, corpus),
            out,
            adapter.Options().changed(options, PREFIX),
            ExtractionSettings.preset(preset).changed(others),
        )

    def open_corpus(self) -> corpora.Corpus:
        """The corpus adapter on its folder."""
        return corpora.get(self.corpus)(self.root, self.options)

    @property
    def folder(self) -> Folder:
        """The dataset folder."""
        return Folder(self.out)

    @property
    def record(self) -> JobRecord:
        """What decides the dataset: no paths, and nothing about the machine."""
        kept = as_json({name: self.settings.value(name) for name in self.settings.own()})
        return JobRecord(
            segkit=segkit.__version__,
            schema_=SCHEMA_VERSION,
            corpus=self.corpus,
            options=as_json(self.options),
            settings=as_json(self.settings.of_segments),
            **kept,
        )

    @classmethod
    def of(cls, record: JobRecord, root: Path, out: Path) -> "Job":
        """The job that a record describes, on other folders.

        Raises:
            UsageError: it has options or settings that this version does not know.
        """
        kept = {name: getattr(record, name) for name in ExtractionSettings.own()}
        options = corpora.get(record.corpus).Options.read(record.options, PREFIX)
        return cls(record.corpus, root, out, options, ExtractionSettings.read(record.settings | kept))

    @property
    def settings_hash(self) -> str:
        """Identifies the corpus, its options and the thresholds in every row: what decides the segments."""
        return fingerprint(self.corpus, self.options, self.settings.of_segments)
