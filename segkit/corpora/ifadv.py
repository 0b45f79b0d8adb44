"""IFA Dialog Video corpus (IFADV): two people who know each other talk freely for a quarter of an hour, in Dutch.

A wav file with a channel for each of the two, and orthographic transcripts in TextGrids of Praat that end in `.ort`,
with the tiers `spreker1` and `spreker2`, by the protocol of the Spoken Dutch Corpus (CGN). They are taken to be channel
0 and channel 1. The same tiers are read from the ELAN files.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

from segkit.corpora.base import Corpus, files_below
from segkit.corpora.readers import Entries, read_elan, read_textgrid
from segkit.corpora.transcripts import filled
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Problem, Transcript

FILE = re.compile(r"(?P<dialogue>DVA\d{1,2}[A-Z]+)[^.]*\.(?P<kind>wav|flac|ort|textgrid|eaf)", re.IGNORECASE)
TIER = re.compile(r"spreker(?P<number>[12])( \[[vm]\])?")
ACCENTS = dict(zip("\"'`^~,", "\u0308\u0301\u0300\u0302\u0303\u0327", strict=True))
"""How Praat writes an accent, and the character that combines with a letter."""


class Ifadv(Corpus):
    """Audio and transcripts are matched by the name of the dialogue."""

    title = "IFA Dialog Video corpus: 20 dialogues of friends and colleagues, 5 h, Dutch"
    licence = "GNU GPL, as its site says"
    redistributable = False  # the terms themselves were not at hand
    citation = "van Son, Wesseling, Sanders, van den Heuvel (2008), The IFADV Corpus: a Free Dialog Video Corpus, LREC"
    how_to_get_it = (
        "https://www.fon.hum.uva.nl/IFA-SpokenLanguageCorpora/IFADVcorpus/: the wav files of Speech/, and the .ort "
        "files of Annotations/ort/, or the .EAF files."
    )
    tree = """\
ROOT/any/depth/
├── Speech/DVA4C.wav               two channels; optional with --vad transcript
├── Annotations/ort/DVA4C*.ort     optional: utterances
└── EAF/DVA4C.EAF                  or the same from here"""

    def find(self) -> Iterator[Conversation | Problem]:
        """A dialogue for each name that has audio or utterances.

        Some people talk in two dialogues, and these files do not tell who: all have one name, and so one split.
        """
        audio: dict[str, list[Path]] = defaultdict(list)
        texts: dict[str, list[Path]] = defaultdict(list)
        elan: dict[str, list[Path]] = defaultdict(list)
        for path in files_below(self.root, ".wav", ".flac", ".ort", ".textgrid", ".eaf"):
            if match := FILE.fullmatch(path.name):
                kind = match["kind"].lower()
                files = elan if kind == "eaf" else audio if kind in ("wav", "flac") else texts
                files[match["dialogue"].upper()].append(path)
        for dialogue in sorted(audio.keys() | texts.keys() | elan.keys()):
            words = texts[dialogue] or elan[dialogue]
            yield self.of_channels(dialogue, audio[dialogue], words, "nl", (self.name(), self.name()))

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """Utterances of both; those without a word are left out."""
        for path in conversation.transcripts:
            entries = read_elan(path) if path.suffix.lower() == ".eaf" else read_textgrid(path)
            return _transcript(path, entries)
        return None


def _transcript(path: Path, found: Entries) -> Transcript:
    tiers = {entry.label: TIER.fullmatch(str(entry.label)) for entry in found.entries}
    channels = {label: int(match["number"]) - 1 for label, match in tiers.items() if match}
    if found.entries and not channels:
        tiers_found = ", ".join(map(str, tiers))
        raise BadInputError(
            "unknown speakers", f"{path.name}: its tiers are {tiers_found}; expected spreker1, spreker2"
        )
    entries = [entry._replace(text=spoken(str(entry.text or ""))) for entry in found.entries if entry.label in channels]
    return filled("utterance", [(channels[e.label], e) for e in entries if e.text], found.lost)


def spoken(text: str) -> str:
    r"""What is said in an utterance, without sounds (ggg), what nobody understood (xxx), and marks of kinds of words.

    >>> spoken("ja xxx dat is 'n caf\\e' in Belgi\\e\" hoo*a. ggg.")
    "ja dat is 'n café in België hoo."
    """
    text = re.sub(r"\\([A-Za-z])([\"'`^~,])", lambda match: match[1] + ACCENTS[match[2]], text)
    words = (re.sub(r"\*[a-z]+", "", word) for word in normalize("NFC", text).split())
    return " ".join(word for word in words if re.search(r"\w", word) and word.rstrip(".?!,") not in ("ggg", "xxx"))
