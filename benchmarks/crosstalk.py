"""What crosstalk costs, and what `vad.bleed=gate` gives back: precision and recall per axis, against the truth.

    python benchmarks/crosstalk.py [--hours 0.5]

Synthetic conversations without noise are mixed here, so that a row differs from the next in what it names only. A
segment counts as right if the truth has one of the same axis and roles that shares 80 % of the time with it. Thresholds
are low, for many segments in half an hour. Every mixture goes through `detect_speech` as two mono files.

The second table has the time that measuring and gating take, relative to the voice activity detection.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from accuracy import Spans, matched, spans
from numpy.typing import NDArray

from segkit import corpora
from segkit.audio import Recording
from segkit.corpora.synthetic import SyntheticOptions, read_truth
from segkit.extraction.listen import detect_speech
from segkit.schemas import Axis, Intervals, Track
from segkit.segmenters import bleed, vad
from segkit.segmenters.timeline import speech
from segkit.settings import ExtractionSettings

RATE_HZ = 16_000
SETTINGS = ExtractionSettings().changed(
    {"pause.tau_min_s": 2, "turn_taking.tau_min_s": 1.5, "backchannel.tau_min_s": 2, "interruption.tau_min_s": 1}
)
Audio = NDArray[np.float64]


class Condition(NamedTuple):
    """How a conversation is recorded.

    Attributes:
        crosstalk_db: level of each speaker in the other's channel.
        delay_s: how much later he is there.
        snr_db: level of the speech over white noise, of each channel's own.
        room: whether the leak goes through a room's response of 50 ms, of which 6 dB are reverberation.
        gain_db: of the second channel.
        backchannel_db: how much quieter than otherwise the short utterances are.
    """

    crosstalk_db: float = -np.inf
    delay_s: float = 0.0
    snr_db: float = 35.0
    room: bool = False
    gain_db: float = 0.0
    backchannel_db: float = 0.0

    @property
    def clean(self) -> "Condition":
        """The same without crosstalk."""
        return self._replace(crosstalk_db=-np.inf, delay_s=0.0, room=False)

    def __str__(self) -> str:
        parts = [f"SNR {self.snr_db:g} dB"]
        if self.crosstalk_db > -np.inf:
            parts.insert(0, f"{self.crosstalk_db:g} dB, {1000 * self.delay_s:g} ms")
        parts += ["room"] if self.room else []
        parts += [f"second channel {self.gain_db:g} dB"] if self.gain_db else []
        parts += [f"backchannels {self.backchannel_db:g} dB"] if self.backchannel_db else []
        return ", ".join(parts)


CONDITIONS = [
    *(
        Condition(level_db, delay_s, snr_db)
        for snr_db in (35.0, 10.0)
        for level_db, delay_s in (
            (-40, 0.003),
            (-30, 0.0),
            (-30, 0.01),
            (-20, 0.0),
            (-20, 0.01),
            (-12, 0.0),
            (-12, 0.003),
            (-12, 0.01),
            (-6, 0.0),
            (-6, 0.01),
        )
    ),
    Condition(-20, 0.003, room=True),
    Condition(-12, 0.003, room=True),
    Condition(-20, 0.003, gain_db=-15.0),
    *(Condition(level_db, 0.003, backchannel_db=-10.0) for level_db in (-20, -12, -6)),
    Condition(-12, 0.003, room=True, backchannel_db=-10.0),
]


class Talk(NamedTuple):
    """A conversation without noise: audio, (2, samples), and its true activity."""

    audio: Audio
    activity: tuple[Intervals, Intervals]


def talks(root: Path, hours: float) -> Iterator[Talk]:
    """Rendered conversations."""
    corpus = corpora.get("synthetic")(root, SyntheticOptions(hours=hours, rate_hz=RATE_HZ, snr_db=np.inf))
    for conversation in corpus.find():
        corpus.prepare(conversation)
        audio, _ = soundfile.read(conversation.audio[0])
        yield Talk(audio.T, read_truth(conversation.transcripts[0]).activity)


def samples(activity: Intervals) -> Iterator[slice]:
    """Where an activity is, in samples."""
    for start_s, end_s in activity:
        yield slice(round(start_s * RATE_HZ), round(end_s * RATE_HZ))


def mixed(talk: Talk, condition: Condition, seed: int) -> Audio:
    """The two channels of a conversation as they are recorded."""
    rng = np.random.default_rng(seed)
    voices = talk.audio.copy()
    levels = [np.sqrt(np.mean(np.concatenate([v[s] for s in samples(a)]) ** 2)) for v, a in zip(*talk, strict=True)]
    for voice, activity in zip(voices, talk.activity, strict=True):
        turns = speech(activity, SETTINGS.timeline).utterances
        for here in samples(turns[turns[:, 1] - turns[:, 0] <= SETTINGS.backchannel.max_backchannel_s]):
            voice[here] *= gain(condition.backchannel_db)
    late = round(condition.delay_s * RATE_HZ)
    leaks = np.pad(voices[::-1], ((0, 0), (late, 0)))[:, : voices.shape[1]] * gain(condition.crosstalk_db)
    if condition.room:
        leaks = np.stack([through_room(leak, rng) for leak in leaks])
    noise = rng.normal(0, 1, voices.shape) * np.array(levels)[:, None] * gain(-condition.snr_db)
    return (voices + leaks + noise) * np.array([[1.0], [gain(condition.gain_db)]])


def gain(db: float) -> float:
    """The factor of a level."""
    return float(10 ** (db / 20))


def through_room(voice: Audio, rng: np.random.Generator) -> Audio:
    """A voice with a decaying tail of a quarter of its energy (T60 of 0.08 s)."""
    times_s = np.arange(round(0.05 * RATE_HZ)) / RATE_HZ
    tail = rng.normal(0, 1, len(times_s)) * gain(-60) ** (times_s / 0.08)
    path = tail * np.sqrt(0.25 / np.sum(tail**2))
    path[0] = np.sqrt(0.75)
    size = 1 << (len(voice) + len(path)).bit_length()
    return np.fft.irfft(np.fft.rfft(voice, size) * np.fft.rfft(path, size))[: len(voice)]


def listen(files: dict[str, tuple[Path, Path]], gate: bool) -> dict[str, dict]:
    """Rows of annotations with activity and bleed."""
    rows = {key: {"problem": None, "bleed": None, "warnings": []} for key in files}
    recordings = {key: Recording((Track(first, 0), Track(second, 0))) for key, (first, second) in files.items()}
    detect_speech(vad.load(SETTINGS.vad), rows, recordings, gate)
    return rows


def record(folder: Path, condition: Condition, conversations: list[Talk]) -> dict[str, tuple[Path, Path]]:
    """The files of all conversations."""
    files = {}
    for number, talk in enumerate(conversations):
        first, second = paths = (folder / f"{number}_0.wav", folder / f"{number}_1.wav")
        for path, track in zip(paths, mixed(talk, condition, number), strict=True):
            soundfile.write(path, np.clip(track, -1, 1), RATE_HZ, subtype="PCM_16")
        files[str(number)] = first, second
    return files


def figures(rows: dict[str, dict], conversations: list[Talk]) -> list[float]:
    """Precision and recall of each axis; NaN where there is nothing to be right."""
    cases: list[tuple[Spans, Spans]] = []
    for talk, row in zip(conversations, rows.values(), strict=True):
        first, second = (np.array(track).reshape(-1, 2) for track in row["activity"])
        cases.append((spans(talk.activity, SETTINGS), spans((first, second), SETTINGS)))
    found = []
    for axis in Axis:
        right = sum(matched(guess[axis], truth[axis]) for truth, guess in cases)
        hit = sum(matched(truth[axis], guess[axis]) for truth, guess in cases)
        guessed, true = (sum(len(case[i][axis]) for case in cases) for i in (1, 0))
        found += [right / guessed if guessed else np.nan, hit / true if true else np.nan]
    return found


def line(*cells: object) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(f'{cell:.2f}' if isinstance(cell, float) else str(cell) for cell in cells)} |".replace(
        "nan", "-"
    )


def on_axes(folder: Path, conversations: list[Talk]) -> None:
    """Print the table of conditions: measured level, and precision and recall per axis."""
    print(line("condition", "measured", "bleed", *(f"{axis} {what}" for axis in Axis for what in ("prec.", "recall"))))
    print(line(*["---"] * 11))
    for clean in dict.fromkeys(condition.clean for condition in CONDITIONS):
        rows = listen(record(folder, clean, conversations), gate=False)
        reference = figures(rows, conversations)
        print(line(clean, level(rows), "off", *reference), flush=True)
        for condition in (condition for condition in CONDITIONS if condition.clean == clean):
            files = record(folder, condition, conversations)
            for name in ("off", "gate"):
                rows = listen(files, gate=name == "gate")
                print(line(condition, level(rows), name, *figures(rows, conversations)), flush=True)


def level(rows: dict[str, dict]) -> str:
    """The range of the levels that were measured."""
    levels = [leak["level_db"] for row in rows.values() for leak in row["bleed"] or () if leak]
    return f"{min(levels):.1f} to {max(levels):.1f} dB" if max(levels) > bleed.FLOOR_DB else "none"


def on_time(conversations: list[Talk]) -> None:
    """Print the time of measuring and of gating, in per cent of that of VAD."""
    print(line("recording", "measuring", "gate (VAD again included)"))
    print(line(*["---"] * 3))
    detector = vad.load(SETTINGS.vad)
    size = detector.block_samples(RATE_HZ)
    for minutes in (1, 5, 20):
        audio = np.concatenate([mixed(talk, Condition(-20, 0.003), 0) for talk in conversations[:4]], axis=1)
        audio = audio[:, : minutes * 60 * RATE_HZ].astype(np.float32)
        blocks = [audio[:, i : i + size] for i in range(0, audio.shape[1], size)]
        every = -(-len(blocks) // 8)
        pieces = [(i * size, block) for i, block in enumerate(blocks) if i % every == 0]
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            activity = detector.detect([iter(blocks)], RATE_HZ)[0]
            heard = time.perf_counter()
            found = bleed.stretches(pieces, activity, RATE_HZ)
            bleed.is_one_signal(found)
            paths = dict(enumerate(bleed.leaks(found)))
            measured = time.perf_counter()
            detector.detect([bleed.gated(iter(blocks), paths, RATE_HZ)], RATE_HZ)
            times.append((heard - begin, measured - heard, time.perf_counter() - measured))
        whole, measuring, gating = np.median(times, axis=0)
        print(line(f"{minutes} min", f"{100 * measuring / whole:.0f} %", f"{100 * gating / whole:.0f} %"), flush=True)


def main() -> None:
    """Parse the arguments and print the tables."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, default=0.5, help="of synthetic conversations")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        conversations = list(talks(Path(folder), arguments.hours))
        on_axes(Path(folder), conversations)
        print()
        on_time(conversations)


if __name__ == "__main__":
    main()
