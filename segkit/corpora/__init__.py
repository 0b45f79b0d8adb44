"""Adapters from corpora on disk to `Conversation`s.

One file per corpus, named like it, with one subclass of `Corpus` inside. Discovery reads the
folder, so there is no list to keep:

    >>> "stereo" in names()
    True
    >>> get("stereo").title
    'A folder of two-channel recordings'
"""

from importlib import import_module
from pkgutil import iter_modules

from segkit.corpora.base import Corpus
from segkit.errors import UsageError, nearest

__all__ = ["Corpus", "get", "names"]

NOT_CORPORA = {"base", "readers", "transcripts"}


def names() -> list[str]:
    """The names of all corpora."""
    return sorted(module.name for module in iter_modules(__path__) if module.name not in NOT_CORPORA)


def get(name: str) -> type[Corpus]:
    """The adapter of the corpus `name`.

    Raises:
        UsageError: there is no such corpus; the message names the nearest one.
    """
    if name not in names():
        raise UsageError(f"Unknown corpus {name!r}. {nearest(name, names())}")
    module = import_module(f"{__name__}.{name}")
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Corpus) and value.__module__ == module.__name__
    )
