"""Fisher English, part 1 and 2: two strangers on the telephone for ten minutes about a given topic.

LDC2004S13 and LDC2005S13 (audio), LDC2004T19 and LDC2005T19 (transcripts of complete calls, one utterance per line,
`3.76 5.54 A: and i generally prefer`). Channel 0 is side A, channel 1 side B.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from segkit.corpora.base import Corpus, files_below, read_text, reading
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Problem, Transcript

AUDIO = re.compile(r"(?P<call>fe_03_\d{5})\.(sph|wav|flac)", re.IGNORECASE)
TRANSCRIPT = re.compile(r"(?P<call>fe_03_\d{5})\.txt", re.IGNORECASE)
ENTRY = re.compile(r"(\S+)\s+(\S+)\s+([AB]):(.*)")
SIDES = "AB"
SIDE = re.compile(r"(?P<call>\d{5})_(?P<side>[AB])\b")

# Kaldi's recipes for speaker recognition leave out the audio of calls 00446, 01243 and 06716 as bad and do not say
# why. They are not left out here: what cannot be decoded is reported when it is read.


class Fisher(Corpus):
    """Audio, transcripts and tables are matched by the number of the call."""

    title = "Fisher English part 1 and 2 (LDC2004S13, LDC2005S13): 11,699 telephone calls, 1,960 h"
    licence = "LDC User Agreement"
    redistributable = False
    citation = (
        "Cieri, Miller, Walker (2004), The Fisher Corpus: a Resource for the Next Generations of Speech-to-Text, LREC"
    )
    how_to_get_it = (
        "Audio: https://catalog.ldc.upenn.edu/LDC2004S13 and LDC2005S13. Transcripts: "
        "https://catalog.ldc.upenn.edu/LDC2004T19 and LDC2005T19."
    )
    tree = """\
ROOT/any/depth/
├── fe_03_p1_sph1/audio/000/fe_03_00001.sph        two channels, u-law, or .wav or .flac; optional with --vad transcript
├── fe_03_p1_tran/data/trans/000/fe_03_00001.txt   utterances of both sides
└── fe_03_p1_tran/doc/fe_03_p1_calldata.tbl        optional: who speaks (and fe_03_p2_calldata.tbl)"""

    def find(self) -> Iterator[Conversation | Problem]:
        """A call for each number that audio or transcripts have."""
        audio: dict[str, list[Path]] = defaultdict(list)
        texts: dict[str, list[Path]] = defaultdict(list)
        sides: dict[tuple[str, str], str] = {}
        for path in files_below(self.root, ".sph", ".wav", ".flac", ".txt", "_calldata.tbl", "_pindata.tbl"):
            if match := AUDIO.fullmatch(path.name):
                audio[match["call"].lower()].append(path)
            elif match := TRANSCRIPT.fullmatch(path.name):
                texts[match["call"].lower()].append(path)
            elif path.suffix.lower() == ".tbl":
                try:
                    found = read_sides(path)
                    sides = found | sides if "pindata" in path.name.lower() else sides | found  # calls are audited
                except BadInputError as error:
                    yield Problem(path.name, error.reason, error.detail)
        for call in sorted(audio.keys() | texts.keys()):
            first, second = (sides.get((call, side)) for side in SIDES)
            yield self.of_channels(call, audio[call], texts[call], "en", (first, second))

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """Utterances of both sides; those without a word are left out."""
        for path in conversation.transcripts:
            return read_utterances(path)
        return None


def read_utterances(path: Path) -> Transcript:
    """The utterances of a transcript file.

    Raises:
        BadInputError: it holds none.
    """
    transcript = Transcript(unit="utterance")
    entries = 0
    for line in read_text(path).split("\n"):
        if match := ENTRY.match(line):
            start, end, side, text = match.groups()
            entries += 1
            if text := spoken(text):
                transcript.add(SIDES.index(side), text, start, end)
        elif line.strip() and not line.startswith("#"):
            transcript.dropped["line that is not an utterance"] += 1
    if not entries:
        raise BadInputError("unreadable transcript", f"{path.name}: no line is `start end A: text`")
    return transcript


def spoken(text: str) -> str:
    """What is said in an utterance, without noises and marks of doubt.

    >>> spoken(" [laughter] (( i think )) so [mn] (( ))")
    'i think so'
    """
    return " ".join(re.sub(r"\[+[^\]]*\]+|\(\(|\)\)", " ", text).split())


def read_sides(path: Path) -> dict[tuple[str, str], str]:
    """The PIN of each side of a call, by call and side; some PINs have several users, who then stay together.

    A table of calls has a line for each (`00001,...,2602,...,1790,...`), the table of PINs one for each PIN, with its
    sides in the last column (`2602,F,54,16,English,WA,2,00001_A/f.a;00342_B/f.a`).

    Raises:
        BadInputError: it is neither.
    """
    with reading(path, "unreadable table"):
        lines = read_text(path, "unreadable table").split("\n")
        if lines[0].startswith("PIN,"):
            by_pin = {line.split(",")[0]: SIDE.finditer(line) for line in lines}
            return {(f"fe_03_{match['call']}", match["side"]): pin for pin in by_pin for match in by_pin[pin]}
        rows = csv.DictReader(lines, quoting=csv.QUOTE_NONE)
        pins = ((row["CALL_ID"], side, row[f"{side}PIN"]) for row in rows for side in SIDES)
        return {(f"fe_03_{call}", side): pin for call, side, pin in pins if pin}
