"""Two mono files per conversation, distinguished by a file name pattern."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from segkit.corpora.base import OWN, Corpus, OwnOptions, doubled, files_below
from segkit.errors import UsageError
from segkit.schemas import Conversation, Problem, Track
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
A file that starts late: --set corpus.offsets=0,1.25 (seconds, for all), or --set corpus.offsets=offsets.csv with
    id,first_s,second_s
    17,0,1.25"""
    Options = PairsOptions

    def find(self) -> Iterator[Conversation | Problem]:
        """Both files of a conversation lie under the same folder; that folder is part of the id."""
        found: dict[str, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
        patterns = self._patterns
        for path in files_below(self.root, ""):
            for side, pattern in enumerate(patterns):
                if match := pattern.fullmatch(path.relative_to(self.root).as_posix()):
                    found[(match["folder"] or "") + match["id"]][side].append(path)
        for recording_id, sides in sorted(found.items()):
            yield self._recording(recording_id, sides)

    def _recording(self, recording_id: str, sides: tuple[list[Path], list[Path]]) -> Conversation | Problem:
        names = ", ".join(path.name for side in sides for path in side)
        if not all(sides):
            wanted = self.options.pattern.split(",")[0 if not sides[0] else 1]
            return Problem(recording_id, "missing partner", f"found {names}, but nothing for {wanted}")
        if problem := doubled(recording_id, *sides):
            return problem
        first_s, second_s = self._offsets.get(recording_id, self._offsets.get("", (0.0, 0.0)))
        return Conversation(
            recording_id,
            self.name(),
            (Track(sides[0][0], offset_s=first_s), Track(sides[1][0], offset_s=second_s)),
            language=self.options.language or None,
            licence=self.options.licence,
        )

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        sides = self.options.pattern.split(",")
        if len(sides) != 2 or any(side.count("{id}") != 1 for side in sides) or sides[0] == sides[1]:
            raise UsageError(
                f"Setting 'corpus.pattern' got {self.options.pattern!r}. Expected two different file names with "
                "{id} in each, separated by a comma, such as {id}_agent.wav,{id}_caller.wav."
            )
        return [
            re.compile(
                "(?P<folder>(?:.*/)?)" + re.escape(side).replace(r"\{id\}", "(?P<id>[^/]+)").replace(r"\*", "[^/]*")
            )
            for side in sides
        ]

    @cached_property
    def _offsets(self) -> dict[str, tuple[float, float]]:
        """Offsets by recording id; under the empty id those of all others."""
        text = self.options.offsets
        try:
            if Path(text).suffix.lower() == ".csv":
                with Path(text).open(newline="", encoding="utf-8-sig") as file:
                    return {r["id"]: (float(r["first_s"]), float(r["second_s"])) for r in csv.DictReader(file)}
            first_s, second_s = map(float, text.split(","))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"Setting 'corpus.offsets' got {text!r} ({error}). Expected two numbers of seconds such as 0,1.25, "
                "or a CSV file with the columns id,first_s,second_s."
            ) from None
        return {"": (first_s, second_s)}
