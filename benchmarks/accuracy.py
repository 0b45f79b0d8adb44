"""How right segments are: precision and recall per axis on synthetic conversations, against their truth.

    python benchmarks/accuracy.py
    python benchmarks/accuracy.py --words FOLDER      speech found by VAD against word times of real calls

With the true activity every figure must be 1. With VAD they say what reaches a dataset: a segment counts
as right if the truth has one of the same axis and roles that shares 80 % of the time with it (intersection
over union).
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from segkit import corpora
from segkit.audio import Recording
from segkit.corpora.stereo import StereoOptions
from segkit.corpora.synthetic import SyntheticOptions, read_truth
from segkit.schemas import Axis, Conversation, Intervals, Transcript
from segkit.segmenters import vad
from segkit.segmenters.axes import find_segments
from segkit.settings import SegmentSettings

PAPER = SegmentSettings()
Spans = dict[Axis, list[tuple[int, float, float]]]
"""Segments as (user, start_s, end_s)."""


def detect(conversation: Conversation, settings: SegmentSettings) -> tuple[Intervals, Intervals]:
    """Speech of both tracks by VAD."""
    recording = Recording(conversation.tracks)
    rate_hz = vad.rate_for(recording.rate_hz)
    detector = vad.load(settings.vad)
    first, second = detector.detect([recording.blocks(rate_hz, detector.block_samples(rate_hz))], rate_hz)[0]
    return first, second


def spans(activity: tuple[Intervals, Intervals], settings: SegmentSettings) -> Spans:
    """What `segkit.segmenters.axes` finds in an activity."""
    found: Spans = {axis: [] for axis in Axis}
    for segment in find_segments(activity, settings):
        found[segment.axis].append((segment.user, segment.start_s, segment.end_s))
    return found


def matched(these: list[tuple[int, float, float]], those: list[tuple[int, float, float]]) -> int:
    """How many of `these` share 80 % of the time with one of `those` of the same roles."""
    return sum(
        any(
            user == other and min(end, e) - max(start, s) >= 0.8 * (max(end, e) - min(start, s))
            for other, s, e in those
        )
        for user, start, end in these
    )


def score(cases: list[tuple[Spans, Spans]]) -> list[list[str]]:
    """Rows of the table, from (truth, found) per conversation."""
    rows = []
    for axis in Axis:
        true = sum(len(truth[axis]) for truth, _ in cases)
        found = sum(len(spans[axis]) for _, spans in cases)
        right = sum(matched(spans[axis], truth[axis]) for truth, spans in cases)
        hit = sum(matched(truth[axis], spans[axis]) for truth, spans in cases)
        ratios = [f"{a / b:.3f}" if b else "-" for a, b in ((right, found), (hit, true))]
        rows.append([str(axis), str(true), str(found), *ratios])
    return rows


def synthetic(
    root: Path, options: SyntheticOptions
) -> Iterator[tuple[Conversation, Spans, tuple[Intervals, Intervals]]]:
    """Rendered conversations, with the events and the activity of their truth."""
    corpus = corpora.get("synthetic")(root, options)
    for conversation in corpus.find():
        corpus.prepare(conversation)
        truth = read_truth(conversation.transcripts[0])
        events: Spans = {axis: [] for axis in Axis}
        for event in truth.events:
            events[Axis(event["axis"])].append((event["user"], event["start_s"], event["end_s"]))
        yield conversation, events, truth.activity


def on_synthetic(console: Console, hours: float) -> None:
    """Print a table per condition."""
    conditions: dict[str, tuple[dict[str, float], dict[str, str]]] = {
        "true activity": ({}, {}),
        "Silero, 24 kHz, SNR 35 dB": ({}, {"vad.backend": "silero"}),
        "Silero, 8 kHz": ({"rate_hz": 8000}, {"vad.backend": "silero"}),
        "Silero, SNR 10 dB": ({"snr_db": 10.0}, {"vad.backend": "silero"}),
        "Silero, crosstalk -20 dB": ({"crosstalk_db": -20.0}, {"vad.backend": "silero"}),
        "Silero, 24 kHz, vad.end_bias_s=0.06": ({}, {"vad.end_bias_s": "0.06"}),
        "Silero, 8 kHz, vad.end_bias_s=0.06": ({"rate_hz": 8000}, {"vad.end_bias_s": "0.06"}),
        "Silero, SNR 10 dB, vad.end_bias_s=0.06": ({"snr_db": 10.0}, {"vad.end_bias_s": "0.06"}),
        "webrtc, 8 kHz": ({"rate_hz": 8000}, {"vad.backend": "webrtc"}),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, (changes, overrides) in conditions.items():
            settings = PAPER.changed(overrides)
            options = SyntheticOptions(hours=hours).changed(changes)
            cases = [
                (events, spans(detect(conversation, settings) if overrides else activity, settings))
                for conversation, events, activity in synthetic(Path(folder), options)
            ]
            table = Table(title=f"{name} ({hours:g} h)", title_justify="left")
            for column in ("axis", "true", "found", "precision", "recall"):
                table.add_column(column, justify="left" if column == "axis" else "right")
            for row in score(cases):
                table.add_row(*row)
            console.print(table)


def on_words(console: Console, root: Path) -> None:
    """Print how the speech that VAD finds agrees with the words of a `stereo` corpus, in frames of 10 ms."""
    corpus = corpora.get("stereo")(root, StereoOptions())
    table = Table("recording", "track", "speech by VAD", "speech by words", "agreement", "precision", "recall", "kappa")
    for conversation in corpus.find():
        words = (corpus.transcript(conversation) or Transcript()).words
        middles = np.arange(0.005, Recording(conversation.tracks).duration_s, 0.01)
        for channel, activity in enumerate(detect(conversation, PAPER)):
            said = np.array([[w.start_s, w.end_s] for w in words if w.channel == channel]).reshape(-1, 2)
            heard, told = (
                ((middles[:, None] > a[:, 0]) & (middles[:, None] < a[:, 1])).any(axis=1) for a in (activity, said)
            )
            agreement = (heard == told).mean()
            by_chance = heard.mean() * told.mean() + (~heard).mean() * (~told).mean()
            kappa = (agreement - by_chance) / (1 - by_chance)
            both = (heard & told).sum()
            figures = [heard.mean(), told.mean(), agreement, both / heard.sum(), both / told.sum(), kappa]
            table.add_row(conversation.id, str(channel), *(f"{figure:.3f}" for figure in figures))
    console.print(table)


def main() -> None:
    """Parse the arguments and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, default=2.0, help="of synthetic conversations")
    parser.add_argument("--words", type=Path, help="a folder of the corpus stereo, with words")
    arguments = parser.parse_args()
    console = Console(width=110)
    if arguments.words:
        on_words(console, arguments.words)
    else:
        on_synthetic(console, arguments.hours)


if __name__ == "__main__":
    main()
