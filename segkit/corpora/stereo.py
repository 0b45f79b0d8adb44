"""A folder of two-channel recordings, one speaker per channel, with or without words."""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from segkit.corpora.base import OWN, Corpus, OwnOptions, audio_below, doubled, files_below
from segkit.corpora.readers import READERS
from segkit.corpora.transcripts import best_of, of_labels, same_name, two_labels
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Problem, Track, Transcript
from segkit.settings import setting


class StereoOptions(OwnOptions):
    """Options of the corpus `stereo`."""

    speakers: str = setting(
        "A,B", "the labels of channel 0 and channel 1 in the files of words: names of speakers, tiers, or channels"
    )


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
                 {"alignments": [["hi", [0.1, 0.3], "SPEAKER_MAIN"], ...]}  (left = SPEAKER_MAIN)  or
                 {"segments": [{"speaker": "A", "words": [{"word": "hi", "start": 0.1, ...}]}]}  of WhisperX;
                 or call.TextGrid .eaf .ctm .stm .vtt .srt .rttm (LEXEME), the first of these that is there.
                 Speakers, tiers or channels that are not A and B: --set corpus.speakers=Ann,Ben"""
    Options = StereoOptions
    channels = 2

    def find(self) -> Iterator[Conversation | Problem]:
        """Every file of an audio type is a recording, named by its path without suffix."""
        two_labels(self.options.speakers)
        for found in audio_below(self.root, READERS):
            yield found if isinstance(found, Problem) else self._recording(*found)

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

    @cached_property
    def _words_by_stem(self) -> dict[str, list[Path]]:
        found = defaultdict(list)
        for path in files_below(self.root, *READERS):
            found[same_name(path.stem)].append(path)
        return found

    def _transcripts(self, path: Path) -> tuple[Path, ...]:
        """The words beside the recording, else those elsewhere below the root with its stem."""
        candidates = self._words_by_stem.get(same_name(path.stem), [])
        beside = [each for each in candidates if each.parent == path.parent]
        return tuple(best_of(beside or candidates))

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """Read the words, in whatever form."""
        if problem := doubled(conversation.id, list(conversation.transcripts)):
            raise BadInputError(problem.reason, problem.detail)
        for path in conversation.transcripts:
            return of_labels(path, two_labels(self.options.speakers))
        return None
