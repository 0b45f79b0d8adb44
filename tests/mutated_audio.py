"""Damage audio files, read what is left, and count what is said: `python mutated_audio.py COUNT FILE...`."""

import random
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

from segkit.audio import Recording
from segkit.errors import BadInputError
from segkit.schemas import Track

COUNTS = 0, 1, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF


def damaged(data: bytearray, chance: random.Random) -> bytearray:
    """Bits flipped anywhere or in the header, a cut, a hole, a count in the header replaced, or a part twice."""
    kind = chance.choice(["bits", "header", "cut", "hole", "count", "count", "again"])
    if kind in ("bits", "header"):
        end = len(data) if kind == "bits" else min(len(data), 200)
        for _ in range(chance.choice([1, 5, 50])):
            data[chance.randrange(end)] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del data[chance.randrange(len(data)) :]
    elif kind == "hole":
        start = chance.randrange(len(data))
        data[start : start + 3000] = bytes(len(data[start : start + 3000]))
    elif kind == "count":
        start = chance.randrange(min(300, len(data) - 4))
        data[start : start + 4] = chance.choice(COUNTS).to_bytes(4, chance.choice(["little", "big"]))
    else:
        start = chance.randrange(len(data))
        data[start:start] = data[start // 2 : start]
    return data


def outcome(path: Path) -> str:
    """What reading all of a file, and a part again, comes to."""
    try:
        recording = Recording([Track(path)])
        for _ in recording.blocks(16_000, 16_000):
            pass
        recording.window(0.2, 0.7, 16_000)
    except BadInputError as error:
        return error.reason
    return "read"


def peak_mb() -> int:
    """The most memory that this process has had; `ru_maxrss` is also that of the process which started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) // 1024 for line in status.read_text().splitlines() if "VmHWM" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20


def main(count: int, sources: list[Path]) -> None:
    found = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(count):
            chance = random.Random(seed)
            source = chance.choice(sources)
            path = Path(folder, f"{seed}{source.suffix}")
            path.write_bytes(damaged(bytearray(source.read_bytes()), chance))
            found[outcome(path)] += 1
    found["MB"] = peak_mb()
    sys.stdout.write("".join(f"{reason}\t{n}\n" for reason, n in found.items()))


if __name__ == "__main__":
    main(int(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
