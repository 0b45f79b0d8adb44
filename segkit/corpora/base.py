"""What an adapter is. Adding a corpus is adding one file beside this one (see `segkit.corpora`)."""

import codecs
import csv
import json
import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from segkit.audio import EXTENSIONS, VIDEO
from segkit.decoding.probe import holds_audio
from segkit.errors import BadInputError, UsageError
from segkit.schemas import Conversation, Problem, Track, Transcript
from segkit.settings import Settings, setting

MIN_ZEROS_OF_UTF16 = 0.2
"""Text that has more zeros than that among the first or among the second bytes of all pairs is UTF-16."""
OTHERS = frozenset(
    (
        *(".ckpt", ".csv", ".gz", ".htm", ".html", ".jpeg", ".jpg", ".json", ".jsonl", ".lab", ".log", ".md", ".npy"),
        *(".npz", ".parquet", ".pdf", ".pkl", ".png", ".pt", ".py", ".safetensors", ".sh", ".tar", ".tgz", ".tsv"),
        *(".txt", ".xlsx", ".xml", ".yaml", ".yml", ".zip"),
    )
)
"""Suffixes of files in which nobody would look for audio."""
OWN = "Your own recordings; there is nothing to download."
"""How to get recordings that are not a corpus."""


class NoOptions(Settings):
    """For corpora without options."""


class OwnOptions(Settings):
    """For recordings that come without a corpus around them."""

    language: str = setting("", "BCP 47 code of the recordings; empty when unknown")
    licence: str = setting("unknown", "terms of the recordings: an SPDX identifier, or a name")


class Corpus(ABC):
    """One corpus on disk: its terms, its folder tree, and how to read it.

    `find` runs once, in the main process, and must be cheap: it lists and pairs files. `prepare` and
    `transcript` run in the workers, once per recording.

    Args:
        root: the folder of the corpus.
        options: an instance of the class's `Options`.
    """

    title: ClassVar[str]
    """One line for the list of `segkit corpora`."""
    licence: ClassVar[str]
    """SPDX identifier, or the name of the terms."""
    redistributable: ClassVar[bool]
    """Whether the audio may be published by someone who has a copy."""
    licence_of_each: ClassVar[bool] = False
    """Whether each recording has a licence of its own, which decides in the place of `redistributable`."""
    citation: ClassVar[str]
    """Whom to cite; empty for recordings of which nothing is known."""
    how_to_get_it: ClassVar[str]
    tree: ClassVar[str]
    """The folder tree that `find` expects, drawn."""
    Options: ClassVar[type[Settings]] = NoOptions
    """Its fields are set by `--set corpus.name=value`."""
    channels: ClassVar[int | None] = None
    """How many channels every file must have; None: those that the tracks name, or more."""
    needs_root: ClassVar[bool] = True
    """False for a corpus that makes its own recordings."""

    def __init__(self, root: Path, options: Any = None) -> None:
        if self.needs_root and not root.is_dir():
            raise UsageError(
                f"ROOT {str(root)!r} is not a folder. Expected the folder of the corpus "
                f"{self.name()!r}; `segkit corpora {self.name()}` shows its layout."
            )
        self.root = root
        self.options: Any = self.Options() if options is None else options

    @classmethod
    def name(cls) -> str:
        """The corpus's name everywhere: that of its module."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def find(self) -> Iterator[Conversation | Problem]:
        """List the recordings, and what looks like one but cannot be used, in a stable order."""

    def of_channels(
        self,
        name: str,
        audio: list[Path],
        texts: list[Path],
        language: str,
        speakers: tuple[str | None, str | None] = (None, None),
    ) -> Conversation | Problem:
        """A recording with one speaker per channel of one file, and one transcript, where either may be missing."""
        if problem := doubled(name, audio, texts):
            return problem
        path = audio[0] if audio else None
        first, second = (Track(path, channel, speaker=speaker) for channel, speaker in enumerate(speakers))
        return Conversation(name, self.name(), (first, second), tuple(texts), language=language, licence=self.licence)

    def prepare(self, conversation: Conversation) -> None:  # noqa: B027 - optional, not abstract
        """Make or check the audio files of `conversation` before they are read.

        Raises:
            BadInputError: they cannot be used.
        """

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """Read who says what and when in `conversation`; None without a transcript.

        Raises:
            BadInputError: the transcript is unusable (the recording is then used without words).
        """
        return None


def doubled(name: str, *groups: list[Path]) -> Problem | None:
    """The problem of a recording of which one file, or more, is there twice; each group is of one of its files."""
    twice = [str(path) for paths in groups if len(paths) > 1 for path in paths]
    if not twice:
        return None
    return Problem(name, "two files claim one id", f"{', '.join(twice)}: keep one of each")


def files_below(root: Path, *suffixes: str) -> Iterator[Path]:
    """All files below a folder whose name ends in one of `suffixes`, upper or lower case, in a stable order.

    Links to folders are followed, each folder once.
    """
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if os.path.realpath(Path(folder, name)) not in seen)
        seen.update(os.path.realpath(Path(folder, name)) for name in folders)
        for name in sorted(names):
            if name.lower().endswith(suffixes):
                yield Path(folder, name)


def audio_below(root: Path, beside: Collection[str] = ()) -> Iterator[tuple[str, list[Path]] | Problem]:
    """Audio files below a folder by their path without suffix, which is how recordings without a number are named.

    Whether a file is one shows by its suffix; a file that holds audio under another suffix is named.

    Args:
        root: the folder.
        beside: suffixes of what else belongs there.
    """
    by_id = defaultdict(list)
    for path in files_below(root, ""):
        name, suffix = path.relative_to(root), path.suffix.lower()
        if suffix in EXTENSIONS:
            by_id[name.with_suffix("").as_posix()].append(path)
        elif suffix not in OTHERS | {*beside} and not _is_hidden(name) and holds_audio(path):
            detail = f"{path.name} holds audio. Rename it to a suffix of audio, whichever: .wav, for example"
            yield Problem(name.as_posix(), "suffix is not of audio", detail)
    for recording_id, paths in sorted(by_id.items()):
        sound = [path for path in paths if path.suffix.lower() not in VIDEO]  # that of a video is often beside it
        yield recording_id, sound if len(sound) == 1 else paths


def _is_hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def read_text(path: Path, reason: str = "unreadable transcript") -> str:
    """A text file; every line ends in a line feed, and there is no byte order mark.

    Its bytes are UTF-8, or UTF-16 (with a byte order mark, or without one, which shows by its zeros), or Windows-1252.

    Raises:
        BadInputError: it cannot be read.
    """
    with reading(path, reason):
        data = path.read_bytes()
    return _decoded(data).replace("\r\n", "\n").replace("\r", "\n")


def _decoded(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    for zeros, utf16 in ((data[1::2], "utf-16-le"), (data[::2], "utf-16-be")):
        if zeros.count(0) > MIN_ZEROS_OF_UTF16 * len(zeros):
            return data.decode(utf16, errors="replace")
    text = data.decode("utf-8-sig", errors="replace")
    wrong = text.count("\ufffd")
    some_utf8 = wrong < sum(not letter.isascii() for letter in text) / 2
    return text if some_utf8 or not wrong else data.decode("cp1252", errors="replace")


def read_json(path: Path, reason: str = "unreadable transcript") -> Any:
    """What a JSON file holds, in any encoding of `read_text`.

    Raises:
        BadInputError: it cannot be read, or is not JSON.
    """
    text = read_text(path, reason)
    with reading(path, reason):
        return json.loads(text)


@contextmanager
def reading(path: Path, reason: str = "unreadable transcript") -> Iterator[None]:
    """Turn what goes wrong with the form of a file into a `BadInputError` that names it."""
    try:
        yield
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        SyntaxError,
        csv.Error,
    ) as error:
        raise BadInputError(reason, f"{path.name}: {type(error).__name__}: {error}") from error
