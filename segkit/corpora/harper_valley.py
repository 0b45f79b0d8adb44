"""Gridspace-Stanford Harper Valley: simulated calls to a bank, one file per party, with the words of an ASR.

Wu et al. (2020), arXiv 2010.13929. The file of a party that joined late starts late: in the entries of a transcript,
`start_ms` counts from the start of that party's file, `offset_ms` from the start of the call.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from segkit.corpora.base import Corpus, doubled, files_below, read_json, read_text, reading
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Problem, Track, Transcript

ROLES = ("caller", "agent")
"""Who speaks on channel 0 and 1; also the folders of the audio."""


class HarperValley(Corpus):
    """The files of a call have one name and lie in folders that say what they are."""

    title = "Gridspace-Stanford Harper Valley: 1,446 simulated calls to a bank, 23 h"
    licence = "Apache-2.0"
    redistributable = True
    citation = "Wu, Nafziger, Scodary, Maas (2020), HarperValleyBank: A Domain-Specific Spoken Dialog Corpus, arXiv"
    how_to_get_it = "git clone https://github.com/cricketclub/gridspace-stanford-harper-valley"
    tree = """\
ROOT/any/depth/
├── audio/caller/0002f70f7386445b.wav     one channel each
├── audio/agent/0002f70f7386445b.wav
├── transcript/0002f70f7386445b.json      words, and when each file starts
└── metadata/0002f70f7386445b.json        optional: who speaks"""

    def find(self) -> Iterator[Conversation | Problem]:
        """A call for each name of a transcript or an audio file."""
        calls: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        for path in files_below(self.root, ".wav", ".json"):
            kind = path.parent.name
            if kind in (("transcript", "metadata") if path.suffix == ".json" else ROLES):
                calls[path.stem][kind].append(path)
        for call, files in sorted(calls.items()):
            if files.keys() - {"metadata"}:
                try:
                    yield self._call(call, files)
                except BadInputError as error:
                    yield Problem(call, error.reason, error.detail)

    def _call(self, call: str, files: dict[str, list[Path]]) -> Conversation | Problem:
        if problem := doubled(call, *files.values()):
            return problem
        parties = [role for role in ROLES if role in files]
        if "transcript" not in files or len(parties) == 1:
            detail = f"found {', '.join(sorted(files))}, expected agent, caller, and transcript, which places both"
            raise BadInputError("missing partner", detail)
        entries = read_json(files["transcript"][0])
        speakers = read_speakers(files["metadata"][0]) if "metadata" in files else (None, None)
        with reading(files["transcript"][0]):
            first, second = (
                Track(files[role][0] if role in files else None, 0, late_s(entries, role), speaker)
                for role, speaker in zip(ROLES, speakers, strict=True)
            )
        transcripts = tuple(files["transcript"])
        return Conversation(call, self.name(), (first, second), transcripts, language="en", licence=self.licence)

    def transcript(self, conversation: Conversation) -> Transcript:
        """The words of both parties on the clock of the call."""
        transcript = Transcript()
        path = conversation.transcripts[0]
        entries = read_json(path)
        with reading(path):
            for entry in entries:
                try:
                    with reading(path):
                        add_words(transcript, entry)
                except BadInputError:
                    transcript.dropped["entry that cannot be read"] += 1
        return transcript


def read_speakers(path: Path) -> tuple[str | None, str | None]:
    """The speakers of a call, caller and agent; a person can be one in this call and the other in the next."""
    with reading(path, "unreadable table"):
        about = json.loads(read_text(path))
        ids = [about[role].get("speaker_id") for role in ROLES]
    first, second = (None if speaker is None else str(speaker) for speaker in ids)
    return first, second


def late_s(entries: list[dict[str, Any]], role: str) -> float:
    """How much later than the call the file of a party starts: the median of what its entries say."""
    late_ms = [entry["offset_ms"] - entry["start_ms"] for entry in entries if entry["speaker_role"] == role]
    return median(late_ms) / 1000 if late_ms else 0.0


def add_words(transcript: Transcript, entry: dict[str, Any]) -> None:
    """Take in the words of one entry, as a person corrected them where that is possible.

    The times belong to the words of the ASR. The correction has none, so it is used if it has as many words.
    """
    heard, corrected = entry["transcript"].split(), entry["human_transcript"].split()
    starts_ms, durations_ms = entry["word_offsets_ms"], entry["word_durations_ms"]
    if not len(heard) == len(starts_ms) == len(durations_ms):
        transcript.dropped["words and times that differ in number"] += 1
    elif any(not is_noise(word) for word in corrected):  # else the ASR heard words in noise
        texts = corrected if len(corrected) == len(heard) else heard
        for text, guess, start_ms, duration_ms in zip(texts, heard, starts_ms, durations_ms, strict=True):
            text = guess if text == "<unk>" else text
            if not is_noise(text):
                start_s = (entry["offset_ms"] + start_ms) / 1000
                transcript.add(ROLES.index(entry["speaker_role"]), text, start_s, start_s + duration_ms / 1000)


def is_noise(word: str) -> bool:
    """Whether a token stands for no word: `[noise]`, `[laughter]`."""
    return re.fullmatch(r"\[.*\]", word) is not None
