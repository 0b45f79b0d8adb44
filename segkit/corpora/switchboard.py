"""Switchboard-1: two strangers on the telephone about a given topic, with the word times of the MS98 release.

LDC97S62; transcripts by ISIP (Deshmukh et al. 1998). Channel 0 is side A, channel 1 side B. A word file is one
line per word, silence or noise, `sw2001A-ms98-a-0002 1.215250 1.724625 hi`; the utterance files (`-trans`) have
the same form.
"""

import csv
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from segkit.corpora.base import Corpus, doubled, files_below, read_text, reading
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Problem, Track, Transcript

TRANSCRIPT = re.compile(r"sw(?P<call>\d{4})(?P<side>[AB])-ms98-a-(?P<kind>word|trans)\.text")
AUDIO = re.compile(r"sw0?(?P<call>\d{4})\.(sph|wav|flac)", re.IGNORECASE)
SIDES = "AB"


class Switchboard(Corpus):
    """Audio and transcripts are matched by the number of the call."""

    title = "Switchboard-1 (LDC97S62) with the MS98 transcripts: 2,400 telephone calls, 260 h"
    licence = "LDC User Agreement"
    redistributable = False
    citation = (
        "Godfrey, Holliman, McDaniel (1992), SWITCHBOARD, ICASSP; Deshmukh et al. (1998), Resegmentation of "
        "SWITCHBOARD, ICSLP"
    )
    how_to_get_it = (
        "Audio: https://catalog.ldc.upenn.edu/LDC97S62. Transcripts: switchboard_word_alignments.tar.gz, "
        "https://www.openslr.org/5/."
    )
    tree = """\
ROOT/any/depth/
├── swb1_d1/data/sw02001.sph               two channels, u-law; optional with --vad transcript
├── 20/2001/sw2001A-ms98-a-word.text       words; or only -trans.text: utterances
├── 20/2001/sw2001B-ms98-a-word.text
└── call_con_tab.csv                      optional: who speaks (2001, "A", 1044, ...)"""

    def find(self) -> Iterator[Conversation | Problem]:
        """A call for each number that audio or transcripts have."""
        calls: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        callers: dict[tuple[str, str], str] = {}
        for path in files_below(self.root, ".sph", ".wav", ".flac", ".text", "call_con_tab.csv"):
            if match := AUDIO.fullmatch(path.name):
                calls[match["call"]]["audio"].append(path)
            elif match := TRANSCRIPT.fullmatch(path.name):
                calls[match["call"]][match["kind"] + match["side"]].append(path)
            elif path.suffix == ".csv":
                try:
                    callers |= read_callers(path)
                except BadInputError as error:
                    yield Problem(path.name, error.reason, error.detail)
        for call, files in sorted(calls.items()):
            first, second = callers.get((call, "A")), callers.get((call, "B"))
            yield from self._call(f"sw{call}", files, (first, second))

    def _call(
        self, name: str, files: dict[str, list[Path]], callers: tuple[str | None, str | None]
    ) -> Iterator[Conversation | Problem]:
        if problem := doubled(name, *files.values()):
            yield problem
            return
        kind = "word" if files.keys() & {"wordA", "wordB"} else "trans"
        transcripts = tuple(files[kind + side][0] for side in SIDES if kind + side in files)
        if len(transcripts) == 1:
            yield Problem(name, "missing partner", f"found {transcripts[0].name}, but nothing for the other side")
            transcripts = ()
            if "audio" not in files:
                return
        path = files["audio"][0] if "audio" in files else None
        first, second = (Track(path, channel, speaker=caller) for channel, caller in enumerate(callers))
        yield Conversation(name, self.name(), (first, second), transcripts, language="en", licence=self.licence)

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """Words, or utterances where there are no word files, of both sides."""
        if not conversation.transcripts:
            return None
        by_word = conversation.transcripts[0].name.endswith("-word.text")
        transcript = Transcript(unit="word" if by_word else "utterance")
        end_s = 0.0
        for channel, path in enumerate(conversation.transcripts):
            for line in read_text(path).split("\n"):
                fields = line.split(maxsplit=3)
                if len(fields) == 4 and (text := spoken(fields[3])):
                    transcript.add(channel, text, fields[1], fields[2])
                elif fields and len(fields) < 4:
                    transcript.dropped["line that is cut off"] += 1
                end_s = max(end_s, _seconds(fields))
        if not end_s:
            names = ", ".join(path.name for path in conversation.transcripts)
            raise BadInputError("unreadable transcript", f"{names}: no line is `name start end text`")
        transcript.span_s = 0.0, end_s
        return transcript


def read_callers(path: Path) -> dict[tuple[str, str], str]:
    """The number of the caller on each side of each call, from the LDC's `call_con_tab.csv`.

    Raises:
        BadInputError: it cannot be read.
    """
    with reading(path, "unreadable table"):
        rows = list(csv.reader(read_text(path).split("\n"), skipinitialspace=True))
    return {(row[0], row[1]): row[2] for row in rows if len(row) > 2 and row[1] in SIDES}


def spoken(text: str) -> str:
    """What is said in a line, without `[silence]`, `[noise]` and `<b_aside>`.

    Laughed words are words; a slip `[lard/yard]` is what was said, an invention `{alrighty}` a word.

    >>> spoken("[laughter] okay_1 [laughter-all] i[t]- [vocalized-noise] [lard/yard] {alrighty}")
    'okay all i[t]- lard alrighty'
    """
    words = re.sub(r"\[laughter-([^]]*)\]|\[([^]/]+)/[^]]+\]|\{([^}]*)\}", r"\1\2\3", text)
    tokens = (token.split("_1")[0] for token in words.split())
    return " ".join(token for token in tokens if not re.fullmatch(r"\[[a-z-]+\]|<[be]_aside>", token))


def _seconds(fields: list[str]) -> float:
    try:
        end_s = float(fields[2])
    except (IndexError, ValueError):
        return 0.0
    return end_s if math.isfinite(end_s) else 0.0
