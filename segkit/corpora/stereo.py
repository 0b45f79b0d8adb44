"""A folder of two-channel recordings, one speaker per channel, with or without words."""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from segkit.audio import EXTENSIONS, probe
from segkit.corpora.base import OWN, Corpus, OwnOptions, doubled, files_below, read_json, reading, recordings_below
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Problem, Track, Transcript, Word
from segkit.settings import setting


class StereoOptions(OwnOptions):
    """Options of the corpus `stereo`."""

    speakers: str = setting("A,B", "the labels of channel 0 and channel 1 in the JSON of words")


class Stereo(Corpus):
    """Two-channel files at any depth below the root."""

    title = "A folder of two-channel recordings"
    licence = "yours: --set corpus.licence=..."
    redistributable = False
    licence_of_each = True
    citation = ""
    how_to_get_it = OWN
    tree = """\
ROOT/any/depth/
├── call.wav     two channels; or .flac .mp3 .ogg .opus .sph .m4a .mp4 ...
└── call.json    optional words, here or anywhere below ROOT under the same stem, as
                 [{"speaker": "A", "word": "hi", "start": 0.1, "end": 0.3}, ...]  or
                 {"alignments": [["hi", [0.1, 0.3], "SPEAKER_MAIN"], ...]}  (left = SPEAKER_MAIN)"""
    Options = StereoOptions

    def find(self) -> Iterator[Conversation | Problem]:
        """Every file of an audio type is a recording, named by its path without suffix."""
        for recording_id, paths in recordings_below(self.root, EXTENSIONS):
            yield self._recording(recording_id, paths)

    def _recording(self, recording_id: str, paths: list[Path]) -> Conversation | Problem:
        path = paths[0]
        if problem := doubled(recording_id, paths):
            return problem
        return Conversation(
            recording_id,
            self.name(),
            (Track(path, channel=0), Track(path, channel=1)),
            transcripts=self._transcripts(path),
            language=self.options.language or None,
            licence=self.options.licence,
        )

    def prepare(self, conversation: Conversation) -> None:
        """Check that there are two channels."""
        (path,) = conversation.audio
        channels = probe(path).channels
        if channels != 2:
            detail = f"{path.name} has {channels}; two are expected, one speaker each"
            raise BadInputError(f"{channels}-channel audio", detail)

    @cached_property
    def _json_by_stem(self) -> dict[str, list[Path]]:
        found = defaultdict(list)
        for path in files_below(self.root, ".json"):
            found[path.stem].append(path)
        return found

    def _transcripts(self, path: Path) -> tuple[Path, ...]:
        """The JSON beside the recording, else the only one below the root with its stem."""
        candidates = self._json_by_stem.get(path.stem, [])
        beside = path.with_suffix(".json")
        if beside in candidates:
            return (beside,)
        return tuple(candidates) if len(candidates) == 1 else ()

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """Read the JSON of words, either form."""
        for path in conversation.transcripts:
            return Transcript(read_words(path, tuple(self.options.speakers.split(","))))
        return None


def read_words(path: Path, speakers: tuple[str, ...]) -> list[Word]:
    """Words of a JSON file in one of the two forms that the module's `tree` shows, in any order.

    Args:
        path: the file.
        speakers: the labels of channel 0 and channel 1.

    Raises:
        BadInputError: not JSON, not of that form, or with other labels.
    """
    content = read_json(path)
    with reading(path):
        if isinstance(content, dict):
            rows = [(label, text, *times) for text, times, label in content["alignments"]]
            channel_of = {label: int(label != "SPEAKER_MAIN") for label, *_ in rows}
        else:
            rows = [(row["speaker"], row["word"], row["start"], row["end"]) for row in content]
            channel_of = {label: channel for channel, label in enumerate(speakers)}
        unknown = {label for label, *_ in rows} - channel_of.keys()
        if unknown:
            detail = (
                f"its speakers {sorted(unknown)} are not {list(speakers)}; name both with --set corpus.speakers=..."
            )
            raise BadInputError("unknown speakers", f"{path.name}: {detail}")
        return [Word(channel_of[label], str(text), float(a), float(b)) for label, text, a, b in rows]
