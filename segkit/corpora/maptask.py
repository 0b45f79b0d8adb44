"""HCRC Map Task: one explains a route on a map to another who cannot see it, with hand-corrected word times.

Edinburgh's release 2.1 (NXT). Words, silences and noises of each side tile the dialogue in a file of their own, `g`
for the giver of the route and `f` for the follower; the audio has the giver on the left. The release does not
document that: it is how others split it (https://github.com/mattroddy/lstm_turn_taking_prediction).
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from segkit.corpora.base import Corpus, doubled, files_below, reading
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Problem, Track, Transcript

FILE = re.compile(r"(?P<dialogue>q\d[en]c\d)(\.(?P<role>[gf])\.timed-units\.xml|(\.mix)?\.(wav|flac|sph|au))")
ROLES = "gf"


class MapTask(Corpus):
    """Audio and timed units are matched by the name of the dialogue."""

    title = "HCRC Map Task: 128 dialogues of two, 15 h, Scottish English"
    licence = "CC-BY-NC-SA-2.5"
    redistributable = True
    citation = "Anderson et al. (1991), The HCRC Map Task Corpus, Language and Speech 34(4)"
    how_to_get_it = (
        "Annotations: https://groups.inf.ed.ac.uk/maptask/maptasknxt.html. Audio: "
        "https://groups.inf.ed.ac.uk/maptask/signals/dialogues/. The .ses and .nst files of LDC93S12 have to be "
        "joined first, as the README of the annotations says."
    )
    tree = """\
ROOT/any/depth/
├── signals/dialogues/q1ec1.mix.wav                      two channels; optional with --vad transcript
└── maptaskv2-1/Data/
    ├── timed-units/q1ec1.g.timed-units.xml              the giver's words
    ├── timed-units/q1ec1.f.timed-units.xml              the follower's words
    └── corpus-resources/maptask-corpus.xml              optional: who speaks"""

    def find(self) -> Iterator[Conversation | Problem]:
        """A dialogue for each name that audio or timed units have."""
        found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        speakers: dict[tuple[str, str], str] = {}
        for path in files_below(self.root, ".xml", ".wav", ".flac", ".sph", ".au"):
            if match := FILE.fullmatch(path.name):
                found[match["dialogue"]][match["role"] or "audio"].append(path)
            elif path.name == "maptask-corpus.xml":
                try:
                    speakers |= participants(path)
                except BadInputError as error:
                    yield Problem(path.name, error.reason, error.detail)
        for dialogue, files in sorted(found.items()):
            yield from self._dialogue(dialogue, files, speakers)

    def _dialogue(
        self, dialogue: str, files: dict[str, list[Path]], speakers: dict[tuple[str, str], str]
    ) -> Iterator[Conversation | Problem]:
        if problem := doubled(dialogue, *files.values()):
            yield problem
            return
        transcripts = tuple(files[role][0] for role in ROLES if files[role])
        if len(transcripts) == 1:
            yield Problem(dialogue, "missing partner", f"found {transcripts[0].name}, but nothing for the other side")
            transcripts = ()
            if not files["audio"]:
                return
        audio = files["audio"][0] if files["audio"] else None
        # Four people hold the eight dialogues of a quad, in turns as giver and follower. Without the table nobody
        # knows which of them speaks; under one name for the quad, none of them gets into two splits.
        quad = f"one of quad {dialogue[:3]}"
        giver, follower = (
            Track(audio, i, speaker=speakers.get((dialogue, role), quad)) for i, role in enumerate(ROLES)
        )
        yield Conversation(dialogue, self.name(), (giver, follower), transcripts, language="en", licence=self.licence)

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """The words of both sides; a unit such as "do you" is one word, as the corpus times nothing below it."""
        if not conversation.transcripts:
            return None
        transcript = Transcript()
        for channel, path in enumerate(conversation.transcripts):
            with reading(path):
                for unit in ElementTree.parse(path).iter("tu"):
                    transcript.add(channel, unit.text or "", unit.get("start"), unit.get("end"))
        return transcript


def participants(table: Path) -> dict[tuple[str, str], str]:
    """Who is giver and follower in each dialogue, from `maptask-corpus.xml`.

    A dialogue is a `conv` with two pointers, `role="g" href="maptask-participants.xml#id(q1eta1)"`.

    Raises:
        BadInputError: the table cannot be read.
    """
    with reading(table, "unreadable table"):
        return {
            (conv.get("id", ""), pointer.get("role", "")): match[1]
            for conv in ElementTree.parse(table).iter("conv")
            for pointer in conv
            if (match := re.search(r"#id\((.+)\)", pointer.get("href", "")))
        }
