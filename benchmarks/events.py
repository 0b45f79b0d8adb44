"""How long finding the segments of all four axes takes, and how it grows with the recording.

    python benchmarks/events.py

Peers, in the same run: pyannote.core's `Timeline` does the first step alone (utterances by merging
IPUs at silences up to 1 s), which every one of them has to do. Medians of several runs.
"""

import time
from collections.abc import Callable

import numpy as np
from pyannote.core import Segment, Timeline

from segkit.schemas import Intervals
from segkit.segmenters.axes import find_patterns
from segkit.segmenters.timeline import speech
from segkit.settings import SegmentSettings

PAPER = SegmentSettings()


def dialogue(hours: float, seed: int = 0) -> tuple[Intervals, Intervals]:
    """Two speakers with speech and silence of lifelike lengths, 1,000 IPUs an hour each."""
    rng = np.random.default_rng(seed)

    def track() -> Intervals:
        n = int(1000 * hours)
        speech_s = rng.gamma(2.0, 0.9, n) + 0.25
        silence_s = rng.lognormal(-0.2, 1.0, n) + 0.1
        edges = np.cumsum(np.stack([silence_s, speech_s], axis=1).ravel())
        return edges.reshape(-1, 2)

    return track(), track()


def median_ms(run: Callable[[], object], repeats: int = 5) -> float:
    """Median wall time of `run` in milliseconds."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1e3


def row(hours: float) -> str:
    """One line of the table: a dialogue of `hours`."""
    activity = dialogue(hours)
    timelines = [Timeline([Segment(*ipu) for ipu in track]) for track in activity]
    found = find_patterns(activity, PAPER).values()
    axes = median_ms(lambda: [(f.kept, f.dropped) for f in find_patterns(activity, PAPER).values()], 15)
    ours = median_ms(lambda: [speech(track, PAPER.timeline) for track in activity], 15)
    peer = median_ms(lambda: [timeline.support(collar=1.0) for timeline in timelines], 3)
    segments = sum(len(f.kept) for f in found)
    return f"{hours:8g} {segments:9d} {axes / hours:15.3f} {ours / hours:17.3f} {peer / hours:31.3f}"


def main() -> None:
    """Print the table."""
    print("   hours  segments   all axes ms/h   utterances ms/h   pyannote.core utterances ms/h")
    for hours in (0.1, 1, 10, 100):
        print(row(hours))


if __name__ == "__main__":
    main()
