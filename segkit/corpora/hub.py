"""Any dataset of the Hugging Face Hub with two speakers apart: a column of stereo audio, or two of mono.

The dataset is streamed, https://huggingface.co/docs/datasets/stream, and the audio of each row is kept as it is.
"""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from segkit.corpora.base import Corpus, OwnOptions, reading
from segkit.errors import BadInputError, UsageError
from segkit.schemas import Conversation, Problem, Track
from segkit.settings import setting
from segkit.storage import whole


class HubOptions(OwnOptions):
    """Options of the corpus `hub`."""

    dataset: str = setting("", "its name on the Hub, or a folder: relative to ROOT where it exists there, or absolute")
    config: str = setting("", "its configuration; empty for the only one")
    split: str = setting("train", "its split")
    audio: str = setting("audio", "the column of stereo audio")
    first: str = setting("", "the column of the first speaker's mono audio; with `second`, instead of `audio`")
    second: str = setting("", "the column of the second speaker's mono audio")
    id: str = setting("", "the column that names a recording; empty: the number of the row")
    speakers: str = setting("", "the columns that name the two speakers, separated by a comma; empty when unknown")


class Hub(Corpus):
    """One row is one recording; words are left where they are."""

    title = "A dataset of the Hugging Face Hub, streamed"
    licence = "that of the dataset"
    redistributable = False
    licence_of_each = True
    citation = "that of the dataset"
    how_to_get_it = (
        "--set corpus.dataset=user/name; a gated one after `hf auth login`. ROOT, a folder of yours, keeps the audio."
    )
    tree = """\
ROOT/
└── kept/user--name/CONFIG/SPLIT/    made here
    ├── 0-audio-9f1c03aa.flac        the audio of row 0: two channels (--set corpus.audio=COLUMN)
    ├── 0-left-5d0b7e12.wav          or two mono files (--set corpus.first=left --set corpus.second=right)
    └── 0-right-c4a8f001.wav"""
    Options = HubOptions

    def find(self) -> Iterator[Conversation | Problem]:
        """Stream the rows; audio that is kept already is not written again."""
        if not self.options.dataset or bool(self.options.first) != bool(self.options.second):
            raise UsageError(
                "Expected --set corpus.dataset=user/name, and both --set corpus.first=... and --set corpus.second=..., "
                "or neither."
            )
        known: set[str] = set()
        try:
            for number, row in enumerate(self._rows()):
                name = str(row[self.options.id]) if self.options.id else str(number)
                if name in known:
                    yield Problem(f"row {number}", "two files claim one id", f"{name} names an earlier row, too")
                    continue
                known.add(name)
                yield self._recording(name, number, row)
        except Exception as error:  # whatever datasets and the storage below it raise
            yield Problem(self.options.dataset, "unreadable table", f"{type(error).__name__}: {error}")

    @property
    def _sides(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """The column and the channel of both speakers."""
        first, second = self.options.first, self.options.second
        return ((first, 0), (second, 0)) if first else ((self.options.audio, 0), (self.options.audio, 1))

    @property
    def _speakers(self) -> list[str]:
        return self.options.speakers.split(",") if self.options.speakers else []

    @property
    def _local(self) -> Path | None:
        """The folder of the dataset, if it is one here."""
        folder = self.root / self.options.dataset
        return folder if folder.exists() else None

    def _rows(self) -> Iterator[dict[str, Any]]:
        """The rows, with the columns that matter, the audio not decoded."""
        from datasets import load_dataset

        source = str(self._local or self.options.dataset)
        rows = load_dataset(source, self.options.config or None, split=self.options.split, streaming=True)
        wanted = {column for column, _ in self._sides}.union(self._speakers, filter(None, [self.options.id]))
        # as Arrow, for otherwise datasets needs torchcodec and FFmpeg even where it decodes nothing
        for table in rows.select_columns(sorted(wanted)).with_format("arrow"):
            yield from table.to_pylist()

    def _recording(self, name: str, number: int, row: dict[str, Any]) -> Conversation | Problem:
        dataset = self.options.dataset.strip("./").replace("/", "--")
        folder = self.root / "kept" / dataset / (self.options.config or "default") / self.options.split
        try:
            paths = [kept(row[column], folder / f"{number}-{column}", self._local) for column, _ in self._sides]
        except BadInputError as error:
            return Problem(name, error.reason, error.detail)
        speakers = [row[column] for column in self._speakers] or [None, None]
        first, second = (
            Track(path, channel, speaker=None if speaker is None else str(speaker))
            for path, (_, channel), speaker in zip(paths, self._sides, speakers, strict=True)
        )
        return Conversation(
            name,
            self.name(),
            (first, second),
            language=self.options.language or None,
            licence=self.options.licence,
        )


def kept(cell: dict[str, Any] | None, stem: Path, local: Path | None) -> Path | None:
    """The file of a cell of audio: its own in a dataset on this machine, else a copy, made if there is none yet.

    Args:
        cell: bytes, or a path that `datasets` can open; None without audio.
        stem: the copy, without its hash and suffix: what changes gets another name.
        local: the folder of the dataset; a cell of a foreign one must not name files of this machine.

    Raises:
        BadInputError: the audio cannot be fetched.
    """
    from datasets.utils.file_utils import xopen

    if cell is None:
        return None
    source = cell["path"] or ""
    if cell["bytes"] is None:
        place = source.split("::")[-1]  # a member of an archive is zip://member::archive
        inside = local is not None and Path(place).resolve().is_relative_to(local.resolve())
        if not inside and not place.startswith(("hf://", "https://")):
            raise BadInputError("file cannot be opened", f"{source!r} is neither in the dataset nor on the Hub")
        if inside and place == source:
            return Path(source)
    with reading(stem, "file cannot be opened"):
        data = xopen(source, "rb").read() if cell["bytes"] is None else cell["bytes"]
        name = f"{stem.name}-{blake2b(data, digest_size=4).hexdigest()}{Path(source.split('::')[0]).suffix}"
        copy = stem.with_name(name)
        if not copy.exists():
            with whole(copy) as draft:
                draft.write_bytes(data)
    return copy
