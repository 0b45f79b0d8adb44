"""Which voice activity detector? Errors of boundaries against exact truth and against word times, and speed.

    python benchmarks/vads.py [--root ../shared/data] [--hours 0.5]

On synthetic conversations the truth is exact. On real calls it is where the words are: SpokenWOZ spreads them evenly
over each phrase, Harper Valley has the times of a recogniser; so take these errors as a comparison, not as errors.
A boundary is compared with the nearest one of the same kind within half a second.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from segkit import corpora
from segkit.audio import Recording
from segkit.corpora.harper_valley import HarperValley
from segkit.corpora.spokenwoz import SpokenWoz
from segkit.corpora.synthetic import Synthetic, SyntheticOptions, read_truth
from segkit.extraction import words
from segkit.extraction.listen import detect_speech
from segkit.schemas import Conversation, Intervals
from segkit.segmenters import vad
from segkit.segmenters.timeline import common, covered_s, merged
from segkit.settings import VadSettings

NEAR_S = 0.5
Case = tuple[Recording, list[dict], tuple[Intervals, Intervals]]
"""A recording, its words, and when its speakers speak."""


def synthetic(root: Path, hours: float) -> Iterator[Case]:
    """Conversations at 8 kHz with their exact activity."""
    corpus = Synthetic(root, SyntheticOptions(hours=hours, rate_hz=8000))
    for conversation in corpus.find():
        corpus.prepare(conversation)
        recording = Recording(conversation.tracks)
        row = {"duration_s": recording.duration_s}
        words.fill(row, corpus.transcript(conversation))
        yield recording, row["words"], read_truth(conversation.transcripts[0]).activity


def real(corpus: corpora.Corpus) -> Iterator[Case]:
    """Calls with the activity of their words: silences under 0.1 s are none."""
    for conversation in corpus.find():
        if isinstance(conversation, Conversation) and conversation.audio:
            recording = Recording(conversation.tracks)
            row = {"duration_s": recording.duration_s}
            words.fill(row, corpus.transcript(conversation))
            yield recording, row["words"], words.spans_of_words(row["words"], 0.1)


def detect(backend: str, cases: list[Case]) -> tuple[list[tuple[Intervals, Intervals]], float]:
    """What a detector finds, and how many times faster than real time, on one thread, models loaded before."""
    recordings = {str(i): recording for i, (recording, *_) in enumerate(cases)}
    seconds = sum(recording.duration_s for recording in recordings.values())
    if backend == "transcript":
        begin = time.perf_counter()
        found = [words.spans_of_words(said, VadSettings().min_silence_s) for _, said, _ in cases]
        return found, seconds / (time.perf_counter() - begin)
    detector = vad.load(VadSettings(backend=backend))
    vad.detect_array(detector, np.zeros((2, 16_000), np.float32), 16_000)
    rows = {key: {"problem": None, "warnings": []} for key in recordings}
    begin = time.perf_counter()
    detect_speech(detector, rows, recordings)
    speed = seconds / (time.perf_counter() - begin)
    return [tuple(np.array(track).reshape(-1, 2) for track in row["activity"]) for row in rows.values()], speed


def errors(found: Intervals, truth: Intervals, side: int) -> np.ndarray:
    """Found minus true, for each true start (side 0) or end (1) that has a found one near."""
    if not len(found):
        return np.zeros(0)
    difference = found[:, side][None] - truth[:, side][:, None]
    nearest = difference[np.arange(len(truth)), np.abs(difference).argmin(axis=1)]
    return nearest[np.abs(nearest) <= NEAR_S]


def row(backend: str, cases: list[Case]) -> list[str]:
    """The figures of one detector on some recordings."""
    found, speed = detect(backend, cases)
    tracks = [
        (f, t, r.duration_s)
        for (r, _, truth), guess in zip(cases, found, strict=True)
        for f, t in zip(guess, truth, strict=True)
    ]
    boundaries = [np.concatenate([errors(f, t, side) for f, t, _ in tracks]) for side in (0, 1)]
    matched = sum(map(len, boundaries)) / (2 * sum(len(t) for _, t, _ in tracks))
    heard, told, both = (
        sum(covered_s(which(f, t), np.array([[0.0, end]]))[0] for f, t, end in tracks)
        for which in (lambda f, t: f, lambda f, t: merged(t), lambda f, t: common(f, merged(t)))
    )
    figures = [f"{np.median(b):+.3f} ({np.median(np.abs(b)):.3f})" for b in boundaries]
    return [backend, *figures, f"{matched:.2f}", f"{1 - both / told:.3f}", f"{1 - both / heard:.3f}", f"{speed:,.0f}"]


def main() -> None:
    """Parse the arguments and print a table per corpus."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--hours", type=float, default=0.5, help="of synthetic conversations")
    arguments = parser.parse_args()
    console = Console(width=130)
    with tempfile.TemporaryDirectory() as folder:
        sources = {
            f"synthetic, 8 kHz, {arguments.hours:g} h": list(synthetic(Path(folder), arguments.hours)),
            "SpokenWOZ and Harper Valley": [
                *real(SpokenWoz(arguments.root / "spokenwoz_sample")),
                *real(HarperValley(arguments.root / "harper_valley")),
            ],
        }
        for name, cases in sources.items():
            columns = ("VAD", "start: median (of |error|) s", "end", "matched", "missed", "false alarm", "x real time")
            table = Table(*columns, title=name, title_justify="left")
            for backend in ("silero", "pyannote", "webrtc", "transcript"):
                table.add_row(*row(backend, cases))
            console.print(table)


if __name__ == "__main__":
    main()
