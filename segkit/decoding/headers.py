"""What libsndfile says of a file, and what of it can be believed.

Lengths that a container only estimates, and writers to a pipe do not know, are not lengths.
"""

import mmap
import os
import re
from math import inf
from pathlib import Path

from soundfile import SoundFile, SoundFileError

UNKNOWN_BYTES = range(0x7FFFF000, 0x80001000), range(0xFFFFF000, 1 << 64)
"""Sizes of a chunk with which writers to a pipe say that they do not know."""
UNKNOWN_FRAMES = 1 << 62
SEGMENT, CLUSTER = 0x8538067, 0xF43B675
"""Ids of the elements of Matroska that hold the others, without the bit that tells their length."""


def open_sound(path: Path) -> SoundFile:
    """A file as libsndfile opens it by its content; by name, python-soundfile takes `.raw` for samples alone.

    Raises:
        OSError: it is not there.
        SoundFileError: libsndfile does not know the format.
    """
    return SoundFile(os.open(path, os.O_RDONLY))


def head(path: Path) -> bytes:
    """The beginning of a file, where SPHERE has its header."""
    with path.open("rb") as file:
        return file.read(1024)


def is_mpeg(file: SoundFile) -> bool:
    """Whether it is MP3 or one of its ancestors."""
    return str(file.subtype).startswith("MPEG")


def seeks_exactly(file: SoundFile) -> bool:
    """Whether libsndfile (1.2.2) gives the same samples after seeking; in MPEG audio and Vorbis it does not."""
    return not is_mpeg(file) and file.subtype != "VORBIS" and _can_seek(file)


def _can_seek(file: SoundFile) -> bool:
    try:
        file.seek(1)
        file.seek(0)
    except SoundFileError:
        return False
    return True


def knows_its_length(path: Path, file: SoundFile) -> bool:
    """Whether the number of frames is that of the whole file: libsndfile reads no more than that."""
    if not 0 < file.frames < UNKNOWN_FRAMES:
        return False
    if is_mpeg(file):  # without an index, it is estimated from the size of the file
        return file.format == "MP3" and _has_index(path)
    return file.format != "OGG" or not _is_chained(path)


def missing_frames(path: Path, file: SoundFile) -> float:
    """How many frames the header promises beyond those that are there; inf if it ends too early, by nobody knows what.

    libsndfile corrects a chunk that is longer than its file, and says so in its log only.
    """
    pattern = r"(?:^data|SSND|Data Size|BODY|Riff size|^riff) *: (\d+) \(should be (\d+)\)"
    if found := re.search(pattern, file.extra_info, re.MULTILINE):
        claimed, held = int(found[1]), int(found[2])
        is_known = not any(claimed in sizes for sizes in UNKNOWN_BYTES)
        return file.frames * max(claimed - held, 0) / max(held, 1) if is_known else 0.0
    if file.format == "NIST" and (count := re.search(rb"sample_count -i (\d+)", head(path))):
        return max(int(count[1]) - file.frames, 0.0)
    return inf if file.format == "OGG" and ends_too_early(path, "ogg") else 0.0


def _has_index(path: Path) -> bool:
    """Whether the first frame of an MP3 counts the others (Xing, Info, or VBRI), and there are no more than these."""
    with path.open("rb") as file:
        start = file.read(10)
        # the size of a tag has seven bits a byte
        tag = sum(byte << shift for byte, shift in zip(start[6:], (21, 14, 7, 0), strict=True))
        first = 10 + tag if start.startswith(b"ID3") else 0
        file.seek(first)
        frame = file.read(4096)
    if found := re.search(rb"(?:Xing|Info)\0\0\0([\0-\x0f])", frame):
        has_frames, has_bytes = found[1][0] & 1, found[1][0] & 2
        size = int.from_bytes(frame[found.end() + 4 : found.end() + 8], "big")
        return bool(has_frames) and not (has_bytes and size < 0.9 * (path.stat().st_size - first))
    return b"VBRI" in frame


def _is_chained(path: Path) -> bool:
    """Whether one Ogg stream follows another: a page that begins a stream, after one that does not."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        begins = [page[1][0] & 2 for page in re.finditer(rb"OggS\0([\0-\7])", data)]
    return 0 in begins and any(begins[begins.index(0) :])


def ends_too_early(path: Path, form: str) -> bool:
    """Whether a container ends within a part of itself, as far as that shows; `form` is FFmpeg's name for it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        match form:
            case "ogg":
                table = data.rfind(b"OggS\0") + 27  # the byte before it is the length of the table of lengths
                return table > len(data) or table + data[table - 1] + sum(data[table:][: data[table - 1]]) > len(data)
            case "matroska,webm":
                return _ends_within_an_element(data)
            case "avi":
                return UNKNOWN_BYTES[0].start > int.from_bytes(data[4:8], "little") > len(data)
    return False


def _ends_within_an_element(data: mmap.mmap) -> bool:
    """Whether a Matroska file does: elements are an id, a size, and content (RFC 8794); what is in a few is walked."""
    place = 0
    while place < len(data):
        key, place, _ = _number(data, place)
        size, place, is_unknown = _number(data, place)
        if place > len(data) or (not is_unknown and place + size > len(data)):
            return True
        if key not in (SEGMENT, CLUSTER):
            place += size
    return False


def _number(data: mmap.mmap, place: int) -> tuple[int, int, bool]:
    """A number of variable length: its value, where it ends, and whether all its bits are set, as for no size."""
    length = 9 - data[place].bit_length() if place < len(data) else 1
    value = int.from_bytes(data[place : place + length], "big") & ((1 << 7 * length) - 1)
    return value, place + length, value == (1 << 7 * length) - 1
