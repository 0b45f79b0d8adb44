"""AMI: meetings of three to five people with headset microphones; every two of them are one recording.

Manual annotations 1.7 (NXT, ISO-8859-1), one `words` file per participant (`A` to `E`), times from forced alignment.
What the other participants say meanwhile becomes `Transcript.others`: without their words a pair cannot be used.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree

import numpy as np

from segkit.corpora.base import Corpus, doubled, files_below, reading
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Problem, Track, Transcript

FILE = re.compile(
    r"(?P<meeting>[A-Z]{2}\d{4}[a-z]?)\.((?P<agent>[A-E])\.words\.xml|Headset-(?P<headset>\d)\.(wav|flac))"
)
AGENTS = "ABCDE"

Seats: TypeAlias = dict[str, tuple[str, str]]
"""The headset and the name of each agent of a meeting."""


class Ami(Corpus):
    """Headsets and words are matched by the name of the meeting, and with each other by `meetings.xml`."""

    title = "AMI Meeting Corpus: 171 meetings, 100 h, as pairs of participants"
    licence = "CC-BY-4.0"
    redistributable = True
    citation = "Carletta et al. (2005), The AMI Meeting Corpus: A Pre-announcement, MLMI"
    how_to_get_it = "https://groups.inf.ed.ac.uk/ami/download/: individual headsets, and the manual annotations 1.7."
    tree = """\
ROOT/any/depth/
├── ES2002a/audio/ES2002a.Headset-0.wav   one per participant; optional with --vad transcript
├── words/ES2002a.A.words.xml             one per participant, all of them
└── corpusResources/meetings.xml          who wears which headset, and who that is; optional with --vad transcript"""

    def find(self) -> Iterator[Conversation | Problem]:
        """Each two participants of each meeting that has headsets or words."""
        meetings: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        seats: dict[str, Seats] = {}
        for path in files_below(self.root, ".wav", ".flac", ".xml"):
            if match := FILE.fullmatch(path.name):
                meetings[match["meeting"]][match["agent"] or match["headset"]].append(path)
            elif path.name == "meetings.xml":
                try:
                    seats |= seats_in(path)
                except BadInputError as error:
                    yield Problem(path.name, error.reason, error.detail)
        for meeting, files in sorted(meetings.items()):
            yield from self._meeting(meeting, files, seats.get(meeting, {}))

    def _meeting(self, meeting: str, files: dict[str, list[Path]], seats: Seats) -> Iterator[Conversation | Problem]:
        agents = sorted(seats.keys() | files.keys() & set(AGENTS))
        ids = [f"{meeting}-{first}-{second}" for first, second in combinations(agents, 2)]
        if problem := doubled(meeting, *files.values()) or incomplete(meeting, files, agents):
            yield from (replace(problem, source=name) for name in ids or [meeting])
            return
        # Without `meetings.xml` nobody knows who takes part in two meetings. At least those of a series (ES2002a to d)
        # have the same participants; under one name for the series, none of them gets into two splits.
        stranger = f"one of {meeting[:6]}"
        tracks = {}
        for agent in agents:
            headset, speaker = seats.get(agent, (None, stranger))
            tracks[agent] = Track(files[headset][0] if headset in files else None, speaker=speaker)
        words = tuple(files[agent][0] for agent in agents)
        for name, (first, second) in zip(ids, combinations(agents, 2), strict=True):
            pair = tracks[first], tracks[second]
            yield Conversation(name, self.name(), pair, words, language="en", licence=self.licence)

    def prepare(self, conversation: Conversation) -> None:
        """Check that the words can be read: the pair must not be used without knowing when the others speak."""
        self.transcript(conversation)

    def transcript(self, conversation: Conversation) -> Transcript:
        """The words of the two, and when the others speak."""
        transcript, others = Transcript(), Transcript()
        _, *pair = conversation.id.split("-")
        for path in conversation.transcripts:
            agent = path.name.split(".")[1]
            into, channel = (transcript, pair.index(agent)) if agent in pair else (others, 0)
            with reading(path):
                for word in ElementTree.parse(path).iter("w"):
                    if word.get("punc") != "true":
                        into.add(channel, word.text or "", word.get("starttime"), word.get("endtime"))
        transcript.others = np.array([(word.start_s, word.end_s) for word in others.words]).reshape(-1, 2)
        return transcript


def incomplete(meeting: str, files: dict[str, list[Path]], agents: list[str]) -> Problem | None:
    """The problem of a meeting without the words of everybody; None if all is well."""
    missing = [agent for agent in agents if agent not in files]
    if missing or len(agents) < 2:
        names = ", ".join(sorted(path.name for paths in files.values() for path in paths))
        lacking = ", ".join(missing) or "any two participants"
        detail = f"found {names}, but no words of {lacking}: so it is unknown when they speak"
        return Problem(meeting, "missing partner", detail)
    return None


def seats_in(table: Path) -> dict[str, Seats]:
    """The headset and the name of each agent of each meeting, from `meetings.xml`.

    Raises:
        BadInputError: the table cannot be read.
    """
    with reading(table, "unreadable table"):
        return {
            meeting.attrib["observation"]: {
                speaker.attrib["nxt_agent"]: (speaker.attrib["channel"], speaker.attrib["global_name"])
                for speaker in meeting.iter("speaker")
            }
            for meeting in ElementTree.parse(table).iter("meeting")
        }
