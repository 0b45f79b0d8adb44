"""Manifests of lhotse: whatever one of its recipes prepares, https://github.com/lhotse-speech/lhotse.

Recordings of two channels, with supervisions that say who speaks, on which channel, and when. The times of a
supervision count from the start of its cut, those of its alignment always from the start of the recording.
"""

import gzip
import json
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from segkit.corpora.base import Corpus, OwnOptions, files_below, reading
from segkit.errors import BadInputError, MissingExtraError
from segkit.schemas import Conversation, Problem, Track, Transcript

MANIFEST = re.compile(r".*(recordings|supervisions|cuts).*\.jsonl(\.gz)?", re.IGNORECASE)
CHANNELS = {0: 0, 1: 1, "A": 0, "B": 1}
"""The recipe for Fisher Spanish leaves letters in the channels of its supervisions (lhotse 1.33)."""


class Lhotse(Corpus):
    """Every recording that a manifest holds, once; of cuts, their recordings, with what all the cuts say of them."""

    title = "Manifests of lhotse: recordings and supervisions, or cuts"
    licence = "that of the corpus"
    redistributable = False
    licence_of_each = True
    citation = "Żelasko et al. (2021), Lhotse: a speech data representation library, arXiv 2110.12561"
    how_to_get_it = "`lhotse prepare CORPUS ...` makes the manifests; https://lhotse.readthedocs.io lists its corpora."
    tree = """\
ROOT/any/depth/
├── fisher_recordings_train.jsonl.gz      two channels, 0 and 1, of one file or of two; .jsonl or .jsonl.gz
├── fisher_supervisions_train.jsonl.gz    optional: speakers; words from alignment["word"], else utterances
└── fisher_cuts_train.jsonl.gz            or cuts that hold both
Paths of audio are absolute, or relative to ROOT, or to the current folder."""
    Options = OwnOptions

    def find(self) -> Iterator[Conversation | Problem]:
        """Each recording, and each one that supervisions speak of."""
        recordings: dict[str, list[bytes]] = defaultdict(list)
        spoken: dict[str, list[Path]] = defaultdict(list)
        for path in files_below(self.root, ".jsonl", ".jsonl.gz"):
            if not (match := MANIFEST.fullmatch(path.name)):
                continue
            lines, broken = _read(path)
            source = path.relative_to(self.root).as_posix()
            yield from (Problem(f"{source} {place}", "unreadable table", detail) for place, detail in broken)
            for recording_id in lines:
                if match[1].lower() != "supervisions":
                    recordings[recording_id].append(lines[recording_id][0])
                if match[1].lower() != "recordings":
                    spoken[recording_id].append(path)
        for recording_id in sorted(recordings.keys() | spoken.keys()):
            try:
                yield self._conversation(recording_id, recordings[recording_id], spoken[recording_id])
            except BadInputError as error:
                yield Problem(recording_id, error.reason, error.detail)

    def _conversation(self, recording_id: str, lines: list[bytes], manifests: list[Path]) -> Conversation:
        if not lines:
            names = ", ".join(path.name for path in manifests)
            raise BadInputError("missing partner", f"{names} speaks of it, but no manifest of recordings holds it")
        with reading(Path(recording_id), "unreadable table"):
            first, *others = (_recording(line) for line in lines)
            if any(other.sources != first.sources for other in others):
                raise BadInputError("two files claim one id", "manifests name different audio: keep one of them")
            _check(first)
            audio = {channel: (source, i) for source in first.sources for i, channel in enumerate(source.channels)}
            paths = [self._audio(audio[channel][0].source) for channel in (0, 1)]
        speakers = _speakers(recording_id, manifests)
        tracks = (Track(paths[i], audio[i][1], speaker=speakers.get(i)) for i in (0, 1))
        return Conversation(
            recording_id,
            self.name(),
            (next(tracks), next(tracks)),
            transcripts=tuple(manifests),
            language=self.options.language or None,
            licence=self.options.licence,
        )

    def _audio(self, source: str) -> Path | None:
        return next((path for folder in (self.root, Path.cwd()) if (path := folder / source).is_file()), None)

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """Words if all utterances have an alignment of words, else utterances; None without any."""
        utterances = [each for each in _supervisions(conversation.id, conversation.transcripts) if each.text]
        if not utterances:
            return None
        by_word = all((each.alignment or {}).get("word") for each in utterances)
        transcript = Transcript(unit="word" if by_word else "utterance")
        with reading(conversation.transcripts[0]):
            for utterance in utterances:
                channel = _channel(utterance)
                for text, start_s, end_s, score in _entries(utterance, by_word):
                    if channel is None:
                        transcript.dropped[f"{transcript.unit} without a channel of its own"] += 1
                    elif said := spoken(text):
                        transcript.add(channel, said, start_s, end_s, score)
        return transcript


def spoken(text: str) -> str:
    """What is said, without noises, tags, and the marks of doubt that some recipes leave.

    >>> spoken("[laughter] (( so )) <foreign> what [noise]")
    'so what'
    """
    return " ".join(re.sub(r"\[[^]]*\]|<[^>]*>|\(\(|\)\)", " ", text).split())


def _entries(utterance: Any, by_word: bool) -> Iterator[tuple[str, float, float, float | None]]:
    if by_word:
        for item in utterance.alignment["word"]:
            yield item.symbol, item.start, item.start + item.duration, item.score
    else:
        yield utterance.text, utterance.start, utterance.start + utterance.duration, None


def _channel(utterance: Any) -> int | None:
    """The track of a supervision: a channel, or a list of one."""
    channels = utterance.channel if isinstance(utterance.channel, list) else [utterance.channel]
    return CHANNELS.get(channels[0]) if len(channels) == 1 else None


def _check(recording: Any) -> None:
    """Whether a recording is one of two channels, as the files have it.

    Raises:
        BadInputError: it is not.
    """
    channels = sorted({channel for source in recording.sources for channel in source.channels})
    if channels != [0, 1]:
        detail = f"its channels are {channels}; 0 and 1 are expected, one speaker each"
        raise BadInputError(f"{len(channels)}-channel audio", detail)
    if kinds := {source.type for source in recording.sources} - {"file"}:
        raise BadInputError(
            "audio is not a file", f"its source is of type {', '.join(kinds)}: write it to a file first"
        )
    # resampling changes no times
    if changes := {each["name"] for each in recording.to_dict().get("transforms", [])} - {"Resample"}:
        raise BadInputError("audio is changed", f"it is made by {', '.join(changes)}; use the manifest before that")


def _speakers(recording_id: str, manifests: Sequence[Path]) -> dict[int | None, str]:
    """Who speaks most often on each track, if the supervisions can be read and say so."""
    try:
        with reading(Path(recording_id)):
            told = Counter((_channel(each), each.speaker) for each in _supervisions(recording_id, manifests))
    except BadInputError:
        return {}  # `transcript` says what is wrong
    return {channel: str(speaker) for (channel, speaker), _ in reversed(told.most_common()) if speaker}


def _supervisions(recording_id: str, manifests: Sequence[Path]) -> list[Any]:
    """The supervisions of a recording, each once, their times counted from its start.

    Raises:
        BadInputError: lhotse cannot read them, or they do not say the channels.
    """
    found = {}
    for path in manifests:
        with reading(path):
            lines, _ = _read(path)
            for item in map(_parse, lines[recording_id]):
                in_cut = hasattr(item, "supervisions")
                for each in item.supervisions if in_cut else [item]:
                    found[each.id] = each.with_offset(item.start if in_cut else 0.0)
    channels = {_channel(each) for each in found.values()}
    # the recipe for CallHome Egyptian names no channels, and lhotse makes that channel 0
    if len(channels) == 1 and len({each.speaker for each in found.values()}) > 1:
        raise BadInputError("unreadable transcript", f"{recording_id}: all its speakers are on channel {channels}")
    return list(found.values())


def _recording(line: bytes) -> Any:
    item = _parse(line)
    return getattr(item, "recording", item)


def _parse(line: bytes) -> Any:
    """What a line holds, as lhotse has it: a recording, a supervision, or a cut."""
    try:
        from lhotse.serialization import deserialize_item
    except ImportError:
        raise MissingExtraError("Reading lhotse manifests", "lhotse", "corpora") from None
    return deserialize_item(json.loads(line))


def _read(path: Path) -> tuple[dict[str, list[bytes]], list[tuple[str, str]]]:
    stat = path.stat()
    return _index(path, stat.st_size, stat.st_mtime_ns)


@cache  # a worker reads a manifest once, not once per recording
def _index(path: Path, size: int, modified_ns: int) -> tuple[dict[str, list[bytes]], list[tuple[str, str]]]:
    """The lines of a manifest by recording, and what is broken: where, and how."""
    lines = defaultdict(list)
    broken = []
    number = 0
    try:
        with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    with reading(path):
                        lines[_recording_id(line)].append(line)
                except BadInputError as error:
                    broken.append((f"line {number}", error.detail))
    except (OSError, EOFError, zlib.error) as error:
        broken.append((f"after line {number}", f"{type(error).__name__}: {error}. What comes before is used"))
    return dict(lines), broken


def _recording_id(line: bytes) -> str:
    item = json.loads(line)
    if "tracks" in item:
        raise ValueError("a mixed cut; expected cuts of one recording each")
    return str(item["recording"]["id"] if "recording" in item else item.get("recording_id", item["id"]))
