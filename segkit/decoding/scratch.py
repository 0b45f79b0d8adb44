"""Decoded audio that the processes of a run share: files in one folder of the temporary directory, bounded in size.

The folder is `segkit-UID` below `TMPDIR`. A process that uses it holds a shared lock on it as long as it lives; whoever
finds that nobody else does removes what is there. So files outlast the stage of a run that made them, and what a killed
run leaves goes when the next one begins.
"""

import atexit
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from stat import S_ISDIR

from segkit.errors import SegkitError
from segkit.storage import whole

LIMIT_BYTES = 32 << 30
"""When there is more, the files that were not asked for longest are removed."""


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """A file of that name, made unless it is there; it may be gone later, so an open handle is safer than its path.

    Args:
        name: says everything that decides the content.
        make: writes the file to the path that it is given.
    """
    path = folder() / name
    try:
        os.utime(path)
    except FileNotFoundError:
        with whole(path) as draft:
            make(draft)
        _make_room(path)
    return path


@contextmanager
def held() -> Iterator[None]:
    """Keep the files until the end of a run, whichever process makes them, and then remove them."""
    place, handle = _entered()
    try:
        yield
    finally:
        _remove_unless_used(place, handle)


def folder() -> Path:
    """The folder; this process holds it from now on."""
    return _entered()[0]


@cache
def _entered() -> tuple[Path, int]:
    """The folder, and the handle of the lock.

    Raises:
        SegkitError: there is something of that name that is not this user's.
    """
    place = Path(tempfile.gettempdir(), f"segkit-{os.getuid()}")
    place.mkdir(mode=0o700, exist_ok=True)
    facts = place.lstat()
    if not S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        raise SegkitError(f"{str(place)!r} belongs to somebody else. Set TMPDIR to a folder of yours.")
    handle = os.open(place, os.O_RDONLY)
    _remove_unless_used(place, handle)
    atexit.register(_remove_unless_used, place, handle)
    return place, handle


def _remove_unless_used(place: Path, handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        for path in place.iterdir():
            path.unlink(missing_ok=True)
    fcntl.flock(handle, fcntl.LOCK_SH)


def _make_room(new: Path) -> None:
    facts = {path: path.stat() for path in new.parent.iterdir() if not path.name.startswith(".")}
    size = sum(each.st_size for each in facts.values())
    for path in sorted(facts, key=lambda path: facts[path].st_mtime_ns):
        if size > LIMIT_BYTES and path != new:
            path.unlink(missing_ok=True)
            size -= facts[path].st_size
