"""Words beside audio, in the formats that recognisers and annotators write: one table of readers, `READERS`.

A reader gives `Entries`: who (a speaker, a tier, or a channel), text, and times, as the file has them, unchecked:
`segkit.corpora.transcripts` makes a `Transcript` of them. What an entry lacks is to cost that entry only, which is why
TextGrid and ELAN are not read by praatio 6.2 (it drops the sign of times, and silently ends a short TextGrid at its
first bad number) and pympi 1.71 (it reads 1e-05 as 5, and one bad time, or a reference to a subdivision, costs the
file); the tests read what pympi writes.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize
from xml.etree import ElementTree

from segkit.corpora.base import read_json, read_text, reading
from segkit.errors import BadInputError, MissingExtraError

SILENCE = {"", "#", "sil", "sp", "spn", "<eps>", "<p:>"}
"""Texts of intervals in which nothing is said, by Praat, Kaldi, the Montreal Forced Aligner and MAUS."""

NAME = re.compile(r"^(?:\[([^]\n]+)\]|([^\s:][^:\n]{0,40})):(?:[^\S\n]+|$)", re.MULTILINE)
"""Who speaks, before the text of a cue, or of a line of one; it is one only if most cues have one."""
TIMING = re.compile(r"\s*[^\s:]*(?::[^\s:]+){1,2}\s*-->\s*[^\s:]*:\S")
"""The line of a cue that holds its times, readable or not: `00:01.200 --> 00:0x.500`."""


class Entry(NamedTuple):
    """A word or utterance as a file has it.

    Attributes:
        label: who says it: the name of a speaker, tier or channel, or a channel (0 or 1) where the format says that;
            None if the file does not tell.
        text: not stripped, not checked.
        start_s: a number, or text of one, or anything.
        end_s: the same.
        confidence: the same.
    """

    label: str | int | None
    text: Any
    start_s: Any
    end_s: Any
    confidence: Any = None


NOTHING = Entry(0, None, None, None)
"""An entry of which nothing can be read."""


class Entries(NamedTuple):
    """What a file holds.

    Attributes:
        unit: "word" or "utterance"; empty if only the texts tell.
        entries: in the order of the file.
        lost: how many entries could not be read at all.
    """

    unit: str
    entries: list[Entry]
    lost: int = 0


def read_json_words(path: Path) -> Entries:
    """Words of WhisperX or Whisper, of moshi-finetune, or `[{"speaker", "word", "start", "end"}, ...]`.

    Segments without words are utterances; so is a list of `{"speaker", "text", "start", "end"}`.
    """
    content = read_json(path)
    with reading(path):
        if isinstance(content, dict) and "alignments" in content:
            aligned = [_aligned(row) for row in content["alignments"]]
            if aligned and all(entry is NOTHING for entry in aligned):
                raise ValueError('expected {"alignments": [["hi", [0.1, 0.3], "SPEAKER_MAIN"], ...]}')
            return Entries("word", aligned)
        segments = [fields_of(item) for item in (content["segments"] if isinstance(content, dict) else content)]
        if segments and not any({"words", "word", "text"} & item.keys() for item in segments):
            raise ValueError('expected [{"speaker": "A", "word": "hi", "start": 0.1, "end": 0.3}, ...]')
        by_word = any({"words", "word"} & item.keys() for item in segments)
        return Entries("word" if by_word else "utterance", list(said_in(segments, "word" if by_word else "text")))


def _aligned(row: Any) -> Entry:
    match row:
        case [text, [start_s, end_s], str(label)]:
            return Entry(int(label != "SPEAKER_MAIN"), text, start_s, end_s)
        case [text, [start_s, end_s], *_]:
            return Entry(None, text, start_s, end_s)
    return NOTHING


def said_in(segments: Iterable[dict[str, Any]], text: str = "word") -> Iterator[Entry]:
    """What segments in the form of Whisper hold: `text` is "word" for their words, or "text".

    One without a list of words gives one entry.
    """
    for segment in segments:
        words = segment.get("words") if text == "word" else None
        for item in map(fields_of, words) if isinstance(words, list) else [segment]:
            score = next((item[name] for name in ("score", "probability", "confidence") if name in item), None)
            label = item.get("speaker", segment.get("speaker"))
            yield Entry(label_of(label), item.get(text), item.get("start"), item.get("end"), score)


def fields_of(item: Any) -> dict[str, Any]:
    """An object of JSON; empty in the place of anything else."""
    return item if isinstance(item, dict) else {}


def label_of(value: Any) -> str | None:
    """The name of a speaker, which may be a number; None if it is neither."""
    return str(value).strip() or None if isinstance(value, str | int) else None


def read_cues(path: Path) -> Entries:
    """Cues of SRT or WebVTT. The speaker is the voice, `<v Ann>`, or stands before the text: `[Ann]: `, `Ann: `.

    What several speakers say in one cue has the times of that cue.
    """
    try:
        from webvtt import WebVTT
        from webvtt.errors import MalformedCaptionError, MalformedFileError
    except ImportError:
        raise MissingExtraError("Reading subtitles", "webvtt-py", "corpora") from None

    text = read_text(path).strip()
    with reading(path):
        try:
            captions = WebVTT.from_buffer(text.split("\n"), path.suffix[1:].lower()).captions
        except (MalformedFileError, MalformedCaptionError) as error:
            raise ValueError(error) from None
    unvoiced = [NAME.match(caption.text) for caption in captions if not caption.voice]
    names = {match[1] or match[2] for match in unvoiced if match}
    if 2 * sum(map(bool, unvoiced)) <= len(unvoiced):
        names = set()
    entries = []
    for caption in captions:
        times = [time.in_milliseconds() / 1000 for time in (caption.start_time, caption.end_time)]
        for speaker, said in _turns(caption, names):
            entries.append(Entry(label_of(speaker), unescape(" ".join(said.split())), *times))
    return Entries("utterance", entries, sum(map(bool, map(TIMING.match, text.split("\n")))) - len(captions))


def _turns(caption: Any, names: set[str]) -> Iterator[tuple[str | None, str]]:
    """Who says what in a cue of webvtt-py.

    Args:
        caption: the cue.
        names: who speaks first in a cue; empty if cues have no names. A later line begins what another one says if it
            begins with one of them, or with a name in brackets.
    """
    if caption.voice:
        voices = caption.VOICE_SPAN_PATTERN.split(caption.raw_text)[1:]
        for speaker, said in zip(voices[::2], voices[1::2], strict=True):
            yield speaker, type(caption)(text=said).text
        return
    text = caption.text
    starts = [match for match in NAME.finditer(text) if names and (match[1] or match[2] in names)]
    if not starts or starts[0].start() > 0:
        yield None, text
        return
    for match, end in zip(starts, [*(each.start() for each in starts[1:]), len(text)], strict=True):
        yield match[1] or match[2], text[match.end() : end]


def read_textgrid(path: Path) -> Entries:
    """The intervals of all tiers of a TextGrid of Praat, long or short, without silence; a label is the name of a tier.

    Of the Montreal Forced Aligner, the tiers "words" (then without labels) or "Ann - words" (the label is "Ann") alone.
    """
    parts = re.split(r'"((?:[^"]|"")*)"', read_text(path))
    strings = [part.replace('""', '"') for part in parts[1::2]]
    before = [part.split() for part in parts[::2]]  # what stands before each string
    numbers = [[word for word in words if re.match(r"[-+]?\.?\d", word)] for words in before]
    with reading(path):
        if strings[:2] != ["ooTextFile", "TextGrid"]:
            raise ValueError("expected a TextGrid of text; in Praat: Save as text file")
        tiers, lost = defaultdict(list), 0
        starts = [i for i, string in enumerate(strings) if string in ("IntervalTier", "TextTier")]
        for first, last in pairwise([*starts, len(strings)]):
            if strings[first] == "IntervalTier":
                size = int(numbers[first + 2][2])  # after the tier's start and end
                lost += max(size - (last - first - 2), 0)
                numbers[first + 2] = numbers[first + 2][3:]
                for i in range(first + 2, last):
                    if strings[i].strip() not in SILENCE:
                        times = numbers[i] if len(numbers[i]) == 2 else (None, None)
                        tiers[strings[first + 1]].append(Entry(strings[first + 1], strings[i], *times))
    if aligned := {name: name[:-5].rstrip(" -") for name in tiers if re.fullmatch(r"(.* - )?words", name)}:
        return Entries("word", [e._replace(label=aligned[name] or None) for name in aligned for e in tiers[name]], lost)
    return Entries("", [entry for tier in tiers.values() for entry in tier], lost)


def read_elan(path: Path) -> Entries:
    """The annotations of all tiers of an .eaf of ELAN; a label is the name of a tier.

    An annotation that refers to another one has the times of that.
    """
    with reading(path):
        root = ElementTree.parse(path).getroot()
        times_s = {
            slot.get("TIME_SLOT_ID"): sum_s(slot.get("TIME_VALUE"), per_second=1000) for slot in root.iter("TIME_SLOT")
        }
        tiers = {tier.get("TIER_ID"): tier.findall("ANNOTATION/*") for tier in root.iter("TIER")}
        by_id = {each.get("ANNOTATION_ID"): each for tier in tiers.values() for each in tier}
        entries = []
        for label, tier in tiers.items():
            for annotation in tier:
                timed: ElementTree.Element | None = annotation
                for _ in by_id:  # more steps would be a circle
                    if timed is None or timed.tag != "REF_ANNOTATION":
                        break
                    timed = by_id.get(timed.get("ANNOTATION_REF"))
                slots = ["", ""] if timed is None else [timed.get("TIME_SLOT_REF1"), timed.get("TIME_SLOT_REF2")]
                text = annotation.findtext("ANNOTATION_VALUE")
                entries.append(Entry(label, text, times_s.get(slots[0]), times_s.get(slots[1])))
        return Entries("", entries)


def read_ctm(path: Path) -> Entries:
    """Words of a CTM of NIST, `recording channel start duration word [confidence]`; a label is a channel."""
    rows, lost = _rows(path, 5)
    entries = [
        Entry(row[1], row[4], row[2], sum_s(row[2], row[3]), row[5].split()[0] if len(row) > 5 else None)
        for row in rows
    ]
    return Entries("word", entries, lost)


def read_stm(path: Path) -> Entries:
    """Utterances of an STM of NIST, `recording channel speaker start end [<labels>] text`.

    A label is a channel, or a speaker where there is one channel only.
    """
    rows, lost = _rows(path, 5)
    rows = [row for row in rows if row[2] != "inter_segment_gap" and "IGNORE_TIME_SEGMENT" not in row[-1].upper()]
    by = 1 if len({row[1] for row in rows}) > 1 else 2
    texts = [re.sub(r"^<[^>]*>\s*", "", row[5]) if len(row) > 5 else "" for row in rows]
    return Entries("utterance", [Entry(r[by], text, r[3], r[4]) for r, text in zip(rows, texts, strict=True)], lost)


def read_rttm(path: Path) -> Entries:
    """Words of an RTTM of NIST, `LEXEME recording channel start duration word subtype speaker confidence`.

    Raises:
        BadInputError: it says who speaks when, and no words.
    """
    rows, lost = _rows(path, 8, first=1)
    words = [row for row in rows if row[0] == "LEXEME"]
    if not words:
        turns = sum(row[0] == "SPEAKER" for row in rows)
        detail = (
            f"{path.name} says when someone speaks ({turns} turns), not what: an RTTM has words in lines LEXEME only"
        )
        raise BadInputError("no words", detail)
    by = 2 if len({row[2] for row in words}) > 1 else 7
    return Entries(
        "word",
        [Entry(r[by], r[5], r[3], sum_s(r[3], r[4]), r[8].split()[0] if len(r) > 8 else None) for r in words],
        lost,
    )


def _rows(path: Path, fields: int, first: int = 0) -> tuple[list[list[str]], int]:
    """The lines of a recording in a table of NIST, and how many are cut off.

    Args:
        path: one that holds several recordings is to hold the one that it is named after.
        fields: that a line has at least; what follows them is one.
        first: where the name of the recording stands.
    """
    lines = [line.split(maxsplit=fields) for line in read_text(path).split("\n")]
    lines = [line for line in lines if line and not line[0].startswith(";;")]
    rows = [row for row in lines if len(row) >= fields]
    names = {normalize("NFC", row[first]) for row in rows}
    if len(names) > 1:
        if normalize("NFC", path.stem) not in names:
            found = ", ".join(sorted(names)[:3])
            raise BadInputError("unreadable transcript", f"{path.name} speaks of {found}, ..., and not of {path.stem}")
        return [row for row in rows if normalize("NFC", row[first]) == normalize("NFC", path.stem)], 0
    if lines and not rows:
        raise BadInputError("unreadable transcript", f"{path.name}: no line has {fields} fields")
    return rows, len(lines) - len(rows)


def sum_s(*numbers: Any, per_second: int = 1) -> float | None:
    """The sum of numbers, or of texts of numbers, in seconds; None if one of them is none."""
    try:
        return sum(map(float, numbers)) / per_second
    except (TypeError, ValueError, OverflowError):
        return None


READERS: dict[str, Callable[[Path], Entries]] = {
    ".json": read_json_words,
    ".textgrid": read_textgrid,
    ".eaf": read_elan,
    ".ctm": read_ctm,
    ".stm": read_stm,
    ".vtt": read_cues,
    ".srt": read_cues,
    ".rttm": read_rttm,
}
"""Readers by suffix; where a recording has several files, the first of them counts."""


def read_entries(path: Path) -> Entries:
    """What a file of words holds, by its suffix in upper or lower case.

    Raises:
        BadInputError: it is not of that form.
    """
    return READERS[path.suffix.lower()](path)
