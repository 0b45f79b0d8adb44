"""Row groups: what one clip costs to read, and what small groups cost whoever streams everything.

    python benchmarks/clips.py DATASET      # a folder that `segkit extract` wrote

The shards are written again with row groups of several sizes, counted in bytes of one track. For each: bytes read for
the user's track of one segment drawn at random (the footer of a file is read once before), the time of that, and
segments per second through `datasets.load_dataset(..., streaming=True)`, relative to the largest row groups; and what
the files grow by.
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from datasets import Audio, load_dataset

from segkit.dataset import rows
from segkit.dataset.folder import Folder

CLIPS = 200
SIZES = (50_000_000, 8_000_000, 2_000_000, 500_000, 1)


def read_bytes() -> int:
    """What this process has read so far, from files and from the cache of the system."""
    line = Path("/proc/self/io").read_text().splitlines()[0]
    return int(line.removeprefix("rchar:"))


def measure(source: Folder, size: int, out: Path) -> tuple[float, float, float, int]:
    """MiB and ms per clip, segments per second when streamed, bytes of all files."""
    rows.ROW_GROUP_BYTES = size
    target = Folder(out)
    for path in source.shards():
        written = (row for some in rows.in_batches(path, rows=1) for row in some)
        rows.write_segments(target.data / path.relative_to(source.data), written)
    places = rows.Places(target.shards())
    drawn = np.random.default_rng(0).choice(list(places), CLIPS)
    before, began = read_bytes(), time.perf_counter()
    for name in drawn:
        places.row(name, ["user"])
    took_s, read = time.perf_counter() - began, read_bytes() - before
    files = [str(path) for path in target.shards()]
    streamed = load_dataset("parquet", data_files=files, split="train", streaming=True)
    streamed = streamed.cast_column("user", Audio(decode=False)).cast_column("agent", Audio(decode=False))
    began = time.perf_counter()
    count = sum(1 for _ in streamed)
    per_s = count / (time.perf_counter() - began)
    total = sum(path.stat().st_size for path in target.shards())
    return read / CLIPS / 2**20, 1000 * took_s / CLIPS, per_s, total


def main() -> None:
    """Measure and print."""
    source = Folder(Path(sys.argv[1]))
    print(f"{'group, a track':>16}{'MiB per clip':>14}{'ms per clip':>13}{'streaming':>11}{'size':>9}")
    first: tuple[float, float, float, int] | None = None
    for size in SIZES:
        with TemporaryDirectory() as folder:
            found = measure(source, size, Path(folder))
        first = first or found
        name = f"{size / 1e6:g} MB" if size > 1 else "one row"
        mib, ms, per_s, total = found
        print(f"{name:>16}{mib:14.2f}{ms:13.1f}{per_s / first[2]:11.2f}{total / first[3] - 1:9.2%}")


if __name__ == "__main__":
    main()
