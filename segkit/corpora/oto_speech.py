"""otoSpeech: two strangers who talk over the internet, a channel each, denoised, about 18 minutes.

The release of 141 h on the Hugging Face Hub is shards of `SESSION.flac` and `SESSION.json` (topics, profiles, what was
blanked for privacy). It has no words; those of `seglst.json` are of a speech recogniser and come from lhotse's recipe
`oto_speech`. What lhotse makes of them cannot be used: it puts both speakers on channel 0.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from segkit.corpora.base import Corpus, files_below, read_json, reading
from segkit.corpora.readers import NOTHING, Entry, fields_of, label_of
from segkit.corpora.transcripts import filled
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Problem, Transcript

LABELS = "seglst.json"


class OtoSpeech(Corpus):
    """Audio and words are matched by the name of the session."""

    title = "otoSpeech full duplex, processed: 141 h of two strangers who talk over the internet, English"
    licence = "CC-BY-4.0"
    redistributable = False  # who gets it accepts conditions, which a copy would not ask for
    citation = "oto (2026), otoSpeech-full-duplex-processed-141h, Hugging Face dataset of otoearth"
    how_to_get_it = (
        "https://huggingface.co/datasets/otoearth/otoSpeech-full-duplex-processed-141h: accept its conditions (nobody "
        "tries to find out who speaks), download it, and unpack the shards with `tar xf`. Words: seglst.json, as "
        "`lhotse download oto-speech` gets it."
    )
    tree = """\
ROOT/any/depth/
├── data/train/unpacked/SESSION.flac     two channels, of the shards data/train/shard-000000.tar, ...
└── seglst.json                          optional: words, or utterances, of all sessions"""

    def find(self) -> Iterator[Conversation | Problem]:
        """A session for each name that has audio or words."""
        audio: dict[str, list[Path]] = defaultdict(list)
        texts: dict[str, list[Path]] = defaultdict(list)
        shards = []
        for path in files_below(self.root, ".flac", ".tar", LABELS):
            if path.suffix.lower() == ".flac":
                audio[path.stem].append(path)
            elif path.name == LABELS:
                try:
                    for session, segments in read_labels(path).items():
                        if session is None:
                            detail = f"{len(segments)} segments without a session_id are left out"
                            yield Problem(path.relative_to(self.root).as_posix(), "segments without a session", detail)
                        else:
                            texts[session].append(path)
                except BadInputError as error:
                    yield Problem(str(path.relative_to(self.root)), "unreadable table", error.detail)
            else:
                shards.append(path.relative_to(self.root).as_posix())
        if not audio:
            yield from (Problem(shard, "shard that is not unpacked", f"unpack it: tar xf {shard}") for shard in shards)
        for session in sorted(audio.keys() | texts.keys()):
            yield self.of_channels(session, audio[session], texts[session], "en")

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """Words, or utterances if not all of them are divided into words.

        The first of the two labels, in the order of the alphabet, is on channel 0: nothing says so, but the labels are
        made from the channels. Words that fit the other channel better are warned of.
        """
        for path in conversation.transcripts:
            with reading(path):
                segments = read_labels(path)[conversation.id]
                labels = sorted({label for segment in segments if (label := label_of(segment.get("speaker")))})
                by_word = all(segment.get("word_alignment") for segment in segments)
                said = [entry for segment in segments for entry in _entries(segment, by_word)]
            if len(labels) != 2:
                found = ", ".join(labels) or "none"
                raise BadInputError("unknown speakers", f"{path.name}: found {found}, expected two")
            channels = {label: channel for channel, label in enumerate(labels)}
            return filled("word" if by_word else "utterance", [(channels.get(str(e.label)), e) for e in said])
        return None


def _entries(segment: dict[str, Any], by_word: bool) -> Iterator[Entry]:
    label = label_of(segment.get("speaker"))
    if not by_word:
        yield Entry(label, segment.get("words"), segment.get("start_time"), segment.get("end_time"))
        return
    words = segment["word_alignment"]
    for word in words if isinstance(words, list) else [None]:
        match word:
            case [text, start_s, end_s]:
                yield Entry(label, text, start_s, end_s)
            case _:
                yield NOTHING._replace(label=label)


@lru_cache(maxsize=2)
def read_labels(path: Path) -> dict[str | None, list[dict[str, Any]]]:
    """The segments of all sessions, which are read once in each worker and not for each session.

    Those that do not say their session are under None.

    Raises:
        BadInputError: it is not such a list.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise BadInputError("unreadable transcript", f"{path.name}: expected a list of segments")
    by_session = defaultdict(list)
    for segment in map(fields_of, content):
        by_session[label_of(segment.get("session_id"))].append(segment)
    return dict(by_session)
