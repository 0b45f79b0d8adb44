"""A folder of one-channel recordings of two speakers, separated by diarization."""

from collections.abc import Iterator
from pathlib import Path

from segkit.corpora.base import OWN, Corpus, OwnOptions, audio_below, doubled
from segkit.schemas import Conversation, Problem, Track
from segkit.settings import setting


class MonoOptions(OwnOptions):
    """Options of the corpus `mono`."""

    model: str = setting(
        "",
        "the pipeline of pyannote.audio that says who speaks when: its id on the Hub, or its configuration here, a "
        "file or folder; empty for the weights that packages carry",
    )


class Mono(Corpus):
    """One-channel files at any depth below the root; both tracks of a conversation are the same channel.

    Transcripts are not read: which of their speakers is which of diarization's is not known.
    """

    title = "A folder of one-channel recordings of two speakers"
    licence = "yours: --set corpus.licence=..."
    redistributable = False
    licence_of_each = True
    citation = ""
    how_to_get_it = f"{OWN} Exactly two people speak in each."
    tree = """\
ROOT/any/depth/
└── interview.wav     one channel; or .flac .mp3 .ogg .opus .sph .m4a .mp4 ..."""
    Options = MonoOptions
    channels = 1

    def find(self) -> Iterator[Conversation | Problem]:
        """Every file of an audio type is a recording, named by its path without suffix."""
        for found in audio_below(self.root):
            yield found if isinstance(found, Problem) else self._recording(*found)

    def _recording(self, recording_id: str, paths: list[Path]) -> Conversation | Problem:
        if problem := doubled(recording_id, paths):
            return problem
        return Conversation(
            recording_id,
            self.name(),
            (Track(paths[0]), Track(paths[0])),
            language=self.options.language or None,
            licence=self.options.licence,
            derived="diarization",
        )
