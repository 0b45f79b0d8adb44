"""Decoded audio that the processes of a run share: files in one folder of the temporary directory, bounded in size.

The folder is `segkit-UID` below `TMPDIR`. A process that uses it holds a shared lock on it as long as it lives; whoever
finds that nobody else does removes what is there. So files outlast the stage of a run that made them, and what a killed
run leaves goes when the next one begins.
"""

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from stat import S_ISDIR
from typing import BinaryIO

from segkit.errors import SegkitError
from segkit.storage import whole

TRIES = 5
MAX_SHARE = 0.5
"""Of the room that there is; when files take more, those that were not asked for longest are removed."""


def kept(name: str, make: Callable[[Path], None]) -> BinaryIO:
    """A file of that name, made unless it is there, and open: another process may remove its name at any time.

    Args:
        name: says everything that decides the content.
        make: writes the file to the path that it is given.
    """
    path = folder() / name
    for _ in range(TRIES):
        try:
            handle = path.open("rb")
        except FileNotFoundError:
            with whole(path) as draft:
                make(draft)
            _make_room(path)
        else:
            with suppress(FileNotFoundError):
                os.utime(path)
            return handle
    raise OSError(f"{path.parent} is too full to keep a file")


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
    """The folder, and the handle of its lock.

    Raises:
        SegkitError: there is something of that name that is not this user's.
    """
    place = Path(tempfile.gettempdir(), f"segkit-{os.getuid()}")
    with suppress(FileExistsError):
        place.mkdir(mode=0o700)
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
            if not path.is_dir():
                path.unlink(missing_ok=True)
    fcntl.flock(handle, fcntl.LOCK_SH)


def _make_room(new: Path) -> None:
    """Remove the oldest files until the rest, drafts included, takes its share at most."""
    facts = {}
    for path in new.parent.iterdir():
        with suppress(FileNotFoundError):  # another process has just removed it
            facts[path] = path.stat()
    size = sum(each.st_size for each in facts.values())
    limit = MAX_SHARE * (size + shutil.disk_usage(new.parent).free)
    for path in sorted(facts, key=lambda path: facts[path].st_mtime_ns):
        if size > limit and path != new and not path.name.startswith("."):
            path.unlink(missing_ok=True)
            size -= facts[path].st_size
