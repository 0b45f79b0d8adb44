"""What can go wrong, as one small tree.

    SegkitError                  exit code 1
    ├── UsageError               exit code 2: an argument, option or setting is wrong
    │   └── MissingExtraError    exit code 2: an optional dependency is not installed
    ├── BadInputError            one recording, transcript or segment is unusable: counted and skipped
    ├── NothingUsableError       exit code 1: every input was skipped, or there was none
    └── TrainingError            exit code 1: a training run cannot go on; its last checkpoint is good

Each message says what was found, what was expected and what to do about it.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from textwrap import shorten


class SegkitError(Exception):
    """Base of all errors that segkit raises on purpose; the CLI prints it without a traceback."""

    exit_code = 1


class UsageError(SegkitError):
    """The caller asked for something that does not exist or does not fit together."""

    exit_code = 2


class MissingExtraError(UsageError):
    """A feature needs a package of an optional extra."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the package {package}, which is not installed. "
            f'Install it with: pip install "segkit[{extra}]"'
        )


class SegkitWarning(UserWarning):
    """Something that the caller should know, and that stops nothing."""


class BadInputError(SegkitError):
    """One input is unusable; the run reports it, counts it under `reason`, and goes on.

    Args:
        reason: short and stable, the key in the counts of `run.json` ("truncated audio").
        detail: this case: what was found and what was expected.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["BadInputError"], tuple[str, str]]:
        return type(self), (self.reason, self.detail)  # so that it crosses process borders


class NothingUsableError(SegkitError):
    """The whole input was looked at and nothing in it could be used."""


class TrainingError(SegkitError):
    """A training run cannot go on: it diverged, contradicts itself, or lacks memory."""


def one_line(error: Exception, limit: int = 200) -> str:
    """What a library says, in one line of at most so many characters, for a message of ours."""
    return shorten(str(error), limit, placeholder=" ...").rstrip(" .")


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint at the end of an "unknown name" message: the closest known name, and all of them."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.4)
    hint = f'Did you mean "{close[0]}"? ' if close else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."
