"""Who speaks when in a mono recording: error rate and speed of diarization with two speakers given.

    python benchmarks/diarization.py [SHARED] [--model PIPELINE]

The diarization error rate (DER) is that of pyannote.metrics without a collar, overlapping speech counted: missed
speech, false alarms and speech of the other one, over the time that people speak. The recordings:

- pyannote's sample, two speakers, against its RTTM.
- 30 s of the AMI meeting EN2002a, against the RTTM of the whole meeting. It has four speakers, of whom at most two can
  be found: it shows what happens where the assumption is wrong, and is not in the total.
- Real calls with a channel per speaker, mixed to one; the truth is what Silero hears on each channel. It is no better
  than Silero, whose borders lie about 0.1 s after those of the words in the call of Harper Valley.
"""

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from segkit import corpora
from segkit.audio import Recording
from segkit.schemas import Conversation, Intervals
from segkit.segmenters import vad
from segkit.segmenters.diarization import Diarizer
from segkit.segmenters.timeline import clip
from segkit.settings import VadSettings

with warnings.catch_warnings(action="ignore"):
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

SHARED = Path(__file__).parents[2] / "shared" / "data"

EN2002A_START_S = 184.34
"""Where the 30 s begin in the meeting, which nothing beside them says. The number of speakers that segmentation 3.0
hears in them differs from the RTTM's in 8 % of the frames there, in 11 % at 0.1 s from there, in 65 % at 0 s."""

PARTS = ("missed detection", "false alarm", "confusion")


@dataclass(frozen=True)
class Case:
    """A recording, (samples,) at `rate_hz`, and who speaks when in it."""

    name: str
    audio: NDArray[np.float32]
    rate_hz: int
    truth: dict[str, Intervals]


def read_rttm(path: Path) -> dict[str, Intervals]:
    """Activity by speaker of a file in the format of NIST's Rich Transcription."""
    turns = defaultdict(list)
    for line in path.read_text().splitlines():
        _, _, _, start_s, duration_s, _, _, speaker, *_ = line.split()
        turns[speaker].append((float(start_s), float(start_s) + float(duration_s)))
    return {speaker: np.array(sorted(each)) for speaker, each in turns.items()}


def with_rttm(root: Path) -> Iterator[Case]:
    """The two recordings of `mono_rttm`."""
    for name, rttm, start_s in (("sample", "sample", 0.0), ("EN2002a_30s", "EN2002a", EN2002A_START_S)):
        audio, rate_hz = soundfile.read(root / f"{name}.wav", dtype="float32")
        end_s = start_s + len(audio) / rate_hz
        truth = {who: clip(turns, start_s, end_s) - start_s for who, turns in read_rttm(root / f"{rttm}.rttm").items()}
        yield Case(name, audio, rate_hz, {who: turns for who, turns in truth.items() if len(turns)})


def calls(root: Path) -> Iterator[Case]:
    """Two-channel calls as mono, with Silero's activity of their channels."""
    detector = vad.load(VadSettings())
    for corpus, folder in (("stereo", "spokenwoz_sample"), ("pairs", "aws_calls"), ("harper_valley", "harper_valley")):
        for conversation in corpora.get(corpus)(root / folder).find():
            if not isinstance(conversation, Conversation) or not conversation.audio:
                continue
            recording = Recording(conversation.tracks)
            rate_hz = vad.rate_for(recording.rate_hz)
            size = detector.block_samples(rate_hz)
            activity = detector.detect([recording.blocks(rate_hz, size)], rate_hz)[0]
            mixed = np.concatenate([block.mean(axis=0) for block in recording.blocks(rate_hz, size)])
            yield Case(conversation.id, mixed, rate_hz, dict(zip(conversation.speakers, activity, strict=True)))


def annotation(activities: dict[str, Intervals]) -> Annotation:
    """Activity by speaker as pyannote.metrics takes it."""
    made = Annotation()
    for speaker, activity in activities.items():
        for number, (start_s, end_s) in enumerate(activity):
            made[Segment(start_s, end_s), f"{speaker}-{number}"] = speaker
    return made


def row(name: str, facts: dict[str, float], *more: str) -> list[str]:
    """The figures of one recording, or of several, in percent of the time that people speak."""
    parts = [facts[part] for part in PARTS]
    return [name, *(f"{100 * part / facts['total']:.1f}" for part in (sum(parts), *parts)), *more]


def main() -> None:
    """Diarize everything, one after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", nargs="?", type=Path, default=SHARED, help="the folder of real dialogues")
    parser.add_argument("--model", default="", help="a pipeline of pyannote.audio")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    diarizer = Diarizer(arguments.model)
    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    table = Table(title=f"{arguments.model or 'weights inside packages'}, 1 thread", title_justify="left")
    for column in ("recording", "DER %", "missed", "false alarm", "confusion", "speakers", "s", "x real time"):
        table.add_column(column, justify="left" if column == "recording" else "right")
    total_s: dict[str, float] = defaultdict(float)
    for case in [*with_rttm(arguments.shared / "mono_rttm"), *calls(arguments.shared)]:
        length_s, begun = len(case.audio) / case.rate_hz, time.perf_counter()
        first, second = diarizer.diarize(case.audio, case.rate_hz)
        took_s = time.perf_counter() - begun
        whole = Timeline([Segment(0, length_s)])
        facts = metric(annotation(case.truth), annotation({"0": first, "1": second}), uem=whole, detailed=True)
        more = str(len(case.truth)), f"{length_s:.0f}", f"{length_s / took_s:.1f}"
        table.add_row(*row(case.name, facts, *more))
        if len(case.truth) == 2:
            for part in (*PARTS, "total"):
                total_s[part] += facts[part]
    table.add_section()
    table.add_row(*row("with two speakers", total_s))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
