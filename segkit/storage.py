"""What every folder that a run writes needs: one writer at a time, whole files, and what has changed.

>>> changes({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}})
'b.c: 2 -> 3'
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segkit.errors import UsageError


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder that exists for this process alone.

    Raises:
        UsageError: another run holds it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however that ends
        except BlockingIOError:
            raise UsageError(
                f"Another run is writing to {str(folder)!r}. Wait for it, or choose another folder."
            ) from None
        yield
    finally:
        os.close(handle)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A draft to write, a file or a folder, which takes the place of `path` if all went well.

    So what has its name is whole, also where several processes write the same. The folder around it is made.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield draft
        if draft.is_dir() and path.exists():
            old = draft.with_suffix(".old.tmp")
            path.rename(old)
            draft.rename(path)
            _remove(old)
        else:
            draft.replace(path)
    finally:
        _remove(draft)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def remove_drafts(folder: Path) -> None:
    """Remove what a process that was killed has left anywhere below a folder that is held."""
    for draft in folder.rglob(".*.tmp"):
        _remove(draft)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def changes(before: Any, after: Any) -> str:
    """The leaves in which two JSON objects differ, with dotted names; empty if they are the same."""
    return "; ".join(f"{name}: {a} -> {b}" for name, a, b in _differences(before, after))


def _differences(before: Any, after: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(before.keys() | after.keys())
        return [
            change
            for key in keys
            for change in _differences(before.get(key), after.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [(name, before, after)] if before != after else []
