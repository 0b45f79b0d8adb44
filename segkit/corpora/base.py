"""What an adapter is. Adding a corpus is adding one file beside this one (see `segkit.corpora`)."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from segkit.errors import UsageError
from segkit.schemas import Conversation, Problem, Word


@dataclass(frozen=True)
class NoOptions:
    """For corpora without options."""


class Corpus(ABC):
    """One corpus on disk: its terms, its folder tree, and how to read it.

    `find` runs once, in the main process, and must be cheap: it lists and pairs files. `prepare` and
    `words` run in the workers, once per recording.

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
    citation: ClassVar[str]
    how_to_get_it: ClassVar[str]
    tree: ClassVar[str]
    """The folder tree that `find` expects, drawn."""
    Options: ClassVar[type] = NoOptions
    """A frozen dataclass; its fields are set by `--set name=value`, its docstring documents them."""
    needs_root: ClassVar[bool] = True
    """False for a corpus that makes its own recordings."""

    def __init__(self, root: Path, options: Any = None) -> None:
        if self.needs_root and not root.is_dir():
            raise UsageError(
                f"ROOT {str(root)!r} is not a folder. Expected the folder of the corpus "
                f"{self.name()!r}; `segkit corpora {self.name()}` shows its layout."
            )
        self.root = root
        self.options = self.Options() if options is None else options

    @classmethod
    def name(cls) -> str:
        """The corpus's name everywhere: that of its module."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def find(self) -> Iterator[Conversation | Problem]:
        """List the recordings, and what looks like one but cannot be used, in a stable order."""

    def prepare(self, conversation: Conversation) -> None:  # noqa: B027 - optional, not abstract
        """Make or check the audio files of `conversation` before they are read.

        Raises:
            BadInputError: they cannot be used.
        """

    def words(self, conversation: Conversation) -> list[Word] | None:
        """Read the words of `conversation`, in any order; None without a transcript.

        Raises:
            BadInputError: the transcript is unusable (the recording is then used without words).
        """
        return None
