"""A `Transcript` of files of words beside audio: one for both channels, or one for each."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from unicodedata import normalize

from segkit.corpora.readers import READERS, Entry, read_entries, sum_s
from segkit.errors import BadInputError, UsageError
from segkit.schemas import Transcript

MAX_OF_OTHERS = 0.1
"""With words of one channel only, a larger share of unknown speakers are those of the other channel, misnamed."""
MAX_WITH_SPACES = 0.1
"""If a larger share of the entries of a tier hold several words, it is one of utterances."""
NUMBERED: tuple[dict[str | int | None, int], ...] = ({"0": 0, "1": 1}, {"1": 0, "2": 1}, {"A": 0, "B": 1})
"""What files call the two channels."""


def same_name(name: str) -> str:
    """A name as it is compared: one letter with an accent, and a letter and an accent (of macOS), are the same."""
    return normalize("NFC", name)


def best_of(paths: Iterable[Path]) -> list[Path]:
    """Of files of words, those of the first suffix in `READERS` that there is."""
    by_suffix = defaultdict(list)
    for path in paths:
        by_suffix[path.suffix.lower()].append(path)
    return next((by_suffix[suffix] for suffix in READERS if suffix in by_suffix), [])


def two_labels(option: str) -> tuple[str, str]:
    """The option `speakers`: the labels of channel 0 and channel 1.

    Raises:
        UsageError: it is not two labels.
    """
    match [label.strip() for label in option.split(",")]:
        case [first, second] if first and second:
            return first, second
    raise UsageError(
        f"Setting 'corpus.speakers' got {option!r}. Expected two labels separated by a comma, such as A,B."
    )


def of_labels(path: Path, speakers: tuple[str, str] = ("A", "B")) -> Transcript:
    """The words of both channels in one file.

    Args:
        path: the file.
        speakers: the labels of channel 0 and channel 1. Where the file has none of them, and calls the channels 0 and
            1, 1 and 2, or A and B, that counts.

    Raises:
        BadInputError: it is not of its form, has other labels, or none.
    """
    unit, entries, lost = read_entries(path)
    labels = {entry.label for entry in entries if entry.label is not None}
    if entries and not labels:
        found = f"{path.name} does not say who says its {len(entries)} {unit or 'entry'}s".replace("entrys", "entries")
        expected = (
            "expected the speaker or the channel of each; the corpus pairs takes a file of words for each channel"
        )
        raise BadInputError("words without speakers", f"{found}; {expected}")
    channel_of: dict[str | int | None, int] = {0: 0, 1: 1, speakers[0]: 0, speakers[1]: 1}
    if not labels & channel_of.keys():
        channel_of = next((dict(each) for each in NUMBERED if each.keys() == labels), {})
    others = sum(entry.label is not None and entry.label not in channel_of for entry in entries)
    heard = {channel_of[entry.label] for entry in entries if entry.label in channel_of}
    if len(heard) < 2 and others > MAX_OF_OTHERS * len(entries):
        raise _unknown_speakers(path, labels, f"are not {list(speakers)}; name both with --set corpus.speakers=...")
    return filled(unit, [(channel_of.get(entry.label), entry) for entry in entries], lost)


def of_sides(sides: Sequence[tuple[Path, float]], speakers: tuple[str, str] = ("A", "B")) -> Transcript:
    """The words of a conversation with a file for each channel.

    Args:
        sides: the file of channel 0 and of channel 1, and how many seconds later than the conversation each starts.
        speakers: whose entries to take where a file has those of several speakers or tiers.

    Raises:
        BadInputError: a file is not of its form, or has several labels and not the one that is asked for.
    """
    said: list[tuple[int | None, Entry]] = []
    units, all_lost = set(), 0
    for channel, (path, late_s) in enumerate(sides):
        unit, entries, lost = read_entries(path)
        labels = {entry.label for entry in entries if isinstance(entry.label, str)}
        if len(labels) > 1 and speakers[channel] not in labels:
            expected = f"should be one, or hold {speakers[channel]!r}; name that of each file with"
            raise _unknown_speakers(path, labels, f"{expected} --set corpus.speakers=...")
        for entry in entries:
            own = len(labels) < 2 or entry.label == speakers[channel]
            late = entry._replace(start_s=sum_s(entry.start_s, late_s), end_s=sum_s(entry.end_s, late_s))
            said.append((channel if own else None, late))
        units.add(unit)
        all_lost += lost
    return filled(next((unit for unit in ("utterance", "") if unit in units), "word"), said, all_lost)


def filled(unit: str, said: Sequence[tuple[int | None, Entry]], lost: int = 0) -> Transcript:
    """A transcript of entries with their channels, None where that is unknown; what cannot be used is counted.

    Args:
        unit: "word" or "utterance"; empty to tell by the texts: those of words hold no spaces.
        said: the entries.
        lost: how many more could not be read.
    """
    texts = [str(entry.text).split() for channel, entry in said if channel is not None and entry.text]
    if not unit:
        unit = "utterance" if sum(len(text) > 1 for text in texts) > MAX_WITH_SPACES * len(texts) else "word"
    transcript = Transcript(unit=unit)
    for channel, entry in said:
        if channel is not None:
            transcript.add(channel, *entry[1:])
        else:
            transcript.dropped[
                f"{unit} of another speaker or tier" if entry.label else f"{unit} without a speaker"
            ] += 1
    if lost:
        transcript.dropped[f"{unit} that cannot be read"] += lost
    return transcript


def _unknown_speakers(path: Path, labels: Iterable[str | int], expected: str) -> BadInputError:
    return BadInputError("unknown speakers", f"{path.name}: its speakers {sorted(map(str, labels))} {expected}")
