"""Two mono files per conversation, distinguished by a file name pattern."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from segkit.corpora.base import OWN, Corpus, OwnOptions, doubled, files_below, read_text
from segkit.corpora.readers import READERS
from segkit.corpora.transcripts import best_of, of_labels, of_sides, same_name, two_labels
from segkit.errors import BadInputError, UsageError
from segkit.schemas import Conversation, Problem, Track, Transcript
from segkit.settings import setting


class PairsOptions(OwnOptions):
    """Options of the corpus `pairs`."""

    pattern: str = setting(
        "{id}_agent.wav,{id}_caller.wav",
        "the two files of a conversation, relative to any folder below the root; {id} stands for what they share, * "
        "for anything within a name",
    )
    offsets: str = setting(
        "0,0",
        'where the files start on the shared clock, in seconds: two numbers for all conversations ("0,1.25"), or a CSV '
        "file with a header and the columns id, first_s, second_s",
    )
    speakers: str = setting(
        "A,B",
        "the labels of the first and the second speaker in a file of words for both, or in files of words with several "
        "speakers or tiers",
        added_later=True,
    )


class Pairs(Corpus):
    """Pairs of mono files at any depth below the root."""

    title = "A folder of pairs of mono recordings"
    licence = "yours: --set corpus.licence=..."
    redistributable = False
    licence_of_each = True
    citation = ""
    how_to_get_it = OWN
    tree = """\
ROOT/any/depth/
├── 17_agent.wav     --set "corpus.pattern={id}_agent.wav,{id}_caller.wav"  (the default)
├── 17_caller.wav
├── agent/17.wav     --set "corpus.pattern=agent/{id}.wav,caller/{id}.wav"
└── caller/17.wav
Words are optional: 17_agent.json and 17_caller.json beside the audio, on its clock, or 17.json for both, on the clock
    of the conversation, with the speakers that --set corpus.speakers=A,B names; in any form of `segkit corpora stereo`
A file that starts late: --set corpus.offsets=0,1.25 (seconds, for all), or --set corpus.offsets=offsets.csv with
    id,first_s,second_s
    17,0,1.25"""
    Options = PairsOptions

    def find(self) -> Iterator[Conversation | Problem]:
        """Both files of a conversation lie under the same folder; that folder is part of the id."""
        found: dict[str, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
        patterns = self._patterns
        two_labels(self.options.speakers)
        for path in files_below(self.root, ""):
            for side, pattern in enumerate(patterns if path.suffix.lower() not in READERS else ()):
                if match := pattern.fullmatch(same_name(path.relative_to(self.root).as_posix())):
                    found[(match["folder"] or "") + match["id"]][side].append(path)
        for recording_id, sides in sorted(found.items()):
            yield from self._recording(recording_id, sides)

    def _recording(self, recording_id: str, sides: tuple[list[Path], list[Path]]) -> Iterator[Conversation | Problem]:
        names = ", ".join(path.name for side in sides for path in side)
        if not all(sides):
            wanted = self.options.pattern.split(",")[0 if not sides[0] else 1]
            yield Problem(recording_id, "missing partner", f"found {names}, but nothing for {wanted}")
            return
        if problem := doubled(recording_id, *sides):
            yield problem
            return
        of_each = [words for (path,) in sides for words in self._words(path.relative_to(self.root).with_suffix(""))]
        transcripts = of_each if len(of_each) == 2 else self._words(Path(recording_id))
        if of_each and not transcripts:
            yield Problem(recording_id, "missing partner", f"found {of_each[0].name}, but no words of the other side")
        first_s, second_s = self._offsets.get(recording_id, self._offsets.get("", (0.0, 0.0)))
        yield Conversation(
            recording_id,
            self.name(),
            (Track(sides[0][0], offset_s=first_s), Track(sides[1][0], offset_s=second_s)),
            tuple(transcripts),
            language=self.options.language or None,
            licence=self.options.licence,
        )

    @cached_property
    def _words_by_name(self) -> dict[str, list[Path]]:
        found = defaultdict(list)
        for path in files_below(self.root, *READERS):
            found[same_name(path.relative_to(self.root).with_suffix("").as_posix())].append(path)
        return found

    def _words(self, name: Path) -> list[Path]:
        """The file of words of this name, a path without suffix; empty without one."""
        return best_of(self._words_by_name.get(same_name(name.as_posix()), []))[:1]

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """Read the words: a file for each side, on its clock, or one for both, on that of the conversation."""
        speakers = two_labels(self.options.speakers)
        match conversation.transcripts:
            case [both]:
                return of_labels(both, speakers)
            case [*sides] if sides:
                offsets_s = [track.offset_s for track in conversation.tracks]
                return of_sides(list(zip(sides, offsets_s, strict=True)), speakers)
        return None

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        sides = self.options.pattern.split(",")
        if len(sides) != 2 or any(side.count("{id}") != 1 for side in sides) or sides[0] == sides[1]:
            raise UsageError(
                f"Setting 'corpus.pattern' got {self.options.pattern!r}. Expected two different file names with "
                "{id} in each, separated by a comma, such as {id}_agent.wav,{id}_caller.wav."
            )
        return [re.compile(_expression(same_name(side))) for side in sides]

    @cached_property
    def _offsets(self) -> dict[str, tuple[float, float]]:
        """Offsets by recording id; under the empty id those of all others."""
        text = self.options.offsets
        try:
            if Path(text).suffix.lower() == ".csv":
                table = csv.DictReader(read_text(Path(text)).split("\n"))
                return {same_name(r["id"]): (float(r["first_s"]), float(r["second_s"])) for r in table}
            first_s, second_s = map(float, text.split(","))
        except (BadInputError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"Setting 'corpus.offsets' got {text!r} ({error}). Expected two numbers of seconds such as 0,1.25, "
                "or a CSV file with the columns id,first_s,second_s."
            ) from None
        return {"": (first_s, second_s)}


def _expression(pattern: str) -> str:
    """The regular expression of a file name pattern, its suffix in upper or lower case."""
    name, dot, suffix = pattern.rpartition(".")
    if not dot or "{id}" in suffix:
        name, suffix = pattern, ""
    parts = re.escape(name) + (f"(?i:{re.escape(dot + suffix)})" if suffix else "")
    return "(?P<folder>(?:.*/)?)" + parts.replace(r"\{id\}", "(?P<id>[^/]+)").replace(r"\*", "[^/]*")
