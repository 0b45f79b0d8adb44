"""SpokenWOZ: task-oriented calls between a user and an agent, with the words of an ASR.

Si et al. (2023), arXiv 2305.13040. Channel 0 is the user, channel 1 the agent. A release has one `data.json` of all its
calls, `{"MUL0001": {"log": [{"tag": "user", "words": [{"Word", "BeginTime", "EndTime"}, ...]}, ...]}}`, in
milliseconds; excerpts have a file for each call, `[{"speaker": "A", "word", "start", "end"}, ...]`, in seconds.
In all calls that were looked at, words divide the time of a turn by their length: a pause inside has words, too.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from segkit.corpora.base import Corpus, files_below, read_json, reading
from segkit.corpora.readers import Entry, fields_of, label_of, sum_s
from segkit.corpora.transcripts import filled, of_labels
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Problem, Transcript

# The archives were packed on a Mac: beside each file there may be another one, `._MUL0001.wav`, that holds no audio.
FILE = re.compile(r"(?P<call>(MUL|SNG)\d{4})\.(wav|json)")
TABLE = "data.json"
PARTIES: dict[str | int | None, int] = {"user": 0, "system": 1}


class SpokenWoz(Corpus):
    """Audio and words are matched by the name of the call."""

    title = "SpokenWOZ: 5,700 task-oriented calls, 249 h"
    licence = "CC-BY-NC-4.0"
    redistributable = True
    citation = (
        "Si et al. (2023), SpokenWOZ: A Large-Scale Speech-Text Benchmark for Spoken Task-Oriented Dialogue Agents, "
        "NeurIPS"
    )
    how_to_get_it = "https://spokenwoz.github.io/SpokenWOZ-github.io/"
    tree = """\
ROOT/any/depth/
├── audio_5700_train_dev/MUL0001.wav     two channels; optional with --vad transcript
├── text_5700_train_dev/data.json        the words of all calls
├── audio_5700_test/..., text_5700_test/...
└── text/MUL0001.json                    or a file for each call"""

    def find(self) -> Iterator[Conversation | Problem]:
        """A call for each name that has audio or words."""
        audio: dict[str, list[Path]] = defaultdict(list)
        texts: dict[str, list[Path]] = defaultdict(list)
        for path in files_below(self.root, ".wav", ".json"):
            if match := FILE.fullmatch(path.name):
                (audio if path.suffix == ".wav" else texts)[match["call"]].append(path)
            elif path.name == TABLE:
                try:
                    for call in read_table(path):
                        texts[call].append(path)
                except BadInputError as error:
                    yield Problem(str(path.relative_to(self.root)), "unreadable table", error.detail)
        for call in sorted(audio.keys() | texts.keys()):
            yield self.of_channels(call, audio[call], texts[call], "en")

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """The words of both parties."""
        for path in conversation.transcripts:
            if path.name != TABLE:
                return of_labels(path)
            with reading(path):
                turns = map(fields_of, read_table(path)[conversation.id]["log"])
                said = [entry for turn in turns for entry in _entries(turn)]
                return filled("word", [(PARTIES.get(entry.label), entry) for entry in said])
        return None


def _entries(turn: dict[str, Any]) -> Iterator[Entry]:
    party, words = label_of(turn.get("tag")), turn.get("words")
    for word in map(fields_of, words if isinstance(words, list) else [None]):
        start_s, end_s = (sum_s(word.get(name), per_second=1000) for name in ("BeginTime", "EndTime"))
        yield Entry(party, word.get("Word"), start_s, end_s)


@lru_cache(maxsize=2)
def read_table(path: Path) -> dict[str, Any]:
    """All calls of a release, which are read once in each worker and not for each of its thousands.

    Raises:
        BadInputError: it is not such a table.
    """
    table = read_json(path)
    with reading(path):
        return dict(table.items())
