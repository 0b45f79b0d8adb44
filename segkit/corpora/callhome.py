"""CallHome: unscripted calls to family and friends, of which the LDC transcribed five or ten minutes each.

English: LDC97S42 (audio), LDC97T14 (transcripts, one utterance per entry, `101.89 104.55 A: text`). The TalkBank has
the same calls in CHAT (MacWhinney, https://ca.talkbank.org/access/CallHome/). All times count from the start of the
audio file. A and B are channel 0 and 1; `B1` is a second speaker on channel 1.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from segkit.corpora.base import Corpus, files_below, read_text, reading
from segkit.errors import BadInputError, MissingExtraError
from segkit.schemas import Conversation, Problem, Transcript
from segkit.settings import Settings, setting

AUDIO = re.compile(r"(?:[a-z]{2}_)?(?P<call>\d{4})\.(sph|wav|flac|mp3)", re.IGNORECASE)
TRANSCRIPT = re.compile(r"[a-z]{2}_(?P<call>\d{4})\.txt|(?P<chat>\d{4})\.cha", re.IGNORECASE)
ENTRY = re.compile(r"(\S+)\s+(\S+)\s+([AB]\d*):(.*)")
SIDES = "AB"

Entry = tuple[str, str, float | str | None, float | str | None]
"""Speaker, text, start_s, end_s."""


class CallHomeOptions(Settings):
    """Options of the corpus `callhome`."""

    language: str = setting("en", "BCP 47 code of the calls below the root")


class CallHome(Corpus):
    """Audio and transcripts are matched by the number of the call."""

    title = "CallHome English (LDC97S42): 120 telephone calls, 60 h, 18 h of them transcribed; and other languages"
    licence = "LDC User Agreement"
    redistributable = False
    citation = (
        "Canavan, Graff, Zipperlen (1997), CALLHOME American English Speech LDC97S42; Kingsbury et al. (1997), "
        "CALLHOME American English Transcripts LDC97T14"
    )
    how_to_get_it = (
        "https://catalog.ldc.upenn.edu/LDC97S42 and https://catalog.ldc.upenn.edu/LDC97T14, or "
        "https://ca.talkbank.org/access/CallHome/eng.html."
    )
    tree = """\
ROOT/any/depth/
├── data/train/en_4065.sph         two channels, u-law; or 4065.wav .flac .mp3; optional with --vad transcript
├── transcrpt/train/en_4065.txt    utterances of both sides; other languages: ge_4091.txt, ...
└── eng/4065.cha                   or the same in CHAT"""
    Options = CallHomeOptions

    def find(self) -> Iterator[Conversation | Problem]:
        """A call for each number that audio or transcripts have."""
        audio: dict[str, list[Path]] = defaultdict(list)
        texts: dict[str, list[Path]] = defaultdict(list)
        for path in files_below(self.root, ".sph", ".wav", ".flac", ".mp3", ".txt", ".cha"):
            if match := AUDIO.fullmatch(path.name):
                audio[match["call"]].append(path)
            elif match := TRANSCRIPT.fullmatch(path.name):
                texts[match["call"] or match["chat"]].append(path)
        for call in sorted(audio.keys() | texts.keys()):
            yield self.of_channels(call, audio[call], texts[call], self.options.language)

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """Utterances of both sides, and the part of the call from the first to the last of them."""
        for path in conversation.transcripts:
            transcript = Transcript(unit="utterance")
            for speaker, text, start, end in read_chat(path) if path.suffix.lower() == ".cha" else read_ldc(path):
                if text:
                    transcript.add(SIDES.index(speaker[0]), text, start, end)
            if not transcript.words:
                raise BadInputError("unreadable transcript", f"{path.name}: found no utterance of A or B with times")
            starts, ends = zip(*((word.start_s, word.end_s) for word in transcript.words), strict=True)
            transcript.span_s = min(starts), max(ends)
            return transcript
        return None


def read_ldc(path: Path) -> list[Entry]:
    """The entries of a transcript of the LDC; long ones go on in the lines below."""
    entries: list[list[str]] = []
    for line in read_text(path).split("\n"):
        if match := ENTRY.match(line):
            entries.append(list(match.groups()))
        elif entries and not line.startswith("#"):
            entries[-1][3] += " " + line
    return [(speaker, spoken(text), start, end) for start, end, speaker, text in entries]


def spoken(text: str) -> str:
    """What is said in an entry of the LDC, without noises, comments, and marks of doubt, names and languages.

    >>> spoken("%um {laugh} &Mary's ((coffee klatch)) <German guten Tag> [[singing]] [/static] //quit it// -- abso-")
    "um Mary's coffee klatch guten Tag quit it abso-"
    """
    return " ".join(re.sub(r"\{[^}]*\}|\[+[^]]*\]+|<\S+|--|[()#/+*&%>]", " ", text).split())


def read_chat(path: Path) -> list[Entry]:
    """The utterances of A and B in a CHAT file."""
    try:
        from pylangacq import CHAT
    except ImportError:
        raise MissingExtraError("Reading CHAT", "pylangacq", "corpora") from None

    with reading(path):
        # Not strict: a slip of the form in one place must not cost the other utterances.
        chat = CHAT.from_strs([read_text(path)], parallel=False, strict=False, mor_tier=None, gra_tier=None)
    entries: list[Entry] = []
    for utterance in chat.utterances():
        if utterance.audible and re.fullmatch(r"[AB]\d*", speaker := utterance.participant or ""):
            start_s, end_s = (None if ms is None else ms / 1000 for ms in utterance.time_marks or (None, None))
            entries.append((speaker, heard(utterance.audible), start_s, end_s))
    return entries


def heard(audible: str) -> str:
    """The words of an utterance of CHAT, without punctuation, events and what nobody understood.

    >>> heard("I um Mister_Brown xxx &=laughs , because +...")
    'I um Mister Brown because'
    """
    tokens = (token for token in audible.split() if re.search(r"\w", token) and not token.startswith(("&=", "+")))
    return " ".join(token.replace("_", " ") for token in tokens if token not in {"xxx", "yyy", "www"})
