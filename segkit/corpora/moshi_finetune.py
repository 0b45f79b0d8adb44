"""The training data of moshi-finetune: manifests of stereo files, the model on the left, with words beside them.

The form is Kyutai's, https://github.com/kyutai-labs/moshi-finetune: a line of a manifest is
`{"path": "calls/1.wav", "duration": 24.5}`, the path relative to the manifest. Its `annotate.py` transcribes the left
channel only.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from segkit.corpora.base import OWN, Corpus, OwnOptions, doubled, files_below, read_text, reading
from segkit.corpora.transcripts import of_labels
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Problem, Track, Transcript


class MoshiFinetune(Corpus):
    """What the manifests list; other audio below the root is left alone."""

    title = "Data in the form of moshi-finetune: manifests of stereo files"
    licence = "yours"
    redistributable = False
    licence_of_each = True
    citation = "Défossez et al. (2024), Moshi: a speech-text foundation model for real-time dialogue, arXiv 2410.00037"
    how_to_get_it = f"{OWN} https://github.com/kyutai-labs/moshi-finetune makes the words."
    tree = """\
ROOT/any/depth/
├── train.jsonl        {"path": "calls/1.wav", "duration": 24.5}, one a line; any number of manifests
└── calls/
    ├── 1.wav          two channels, left = the model; optional with --vad transcript
    └── 1.json         optional words: {"alignments": [["hi", [0.1, 0.3], "SPEAKER_MAIN"], ...]}"""
    Options = OwnOptions

    def find(self) -> Iterator[Conversation | Problem]:
        """Each listed file once, named by its path without suffix."""
        by_id: dict[str, set[Path]] = defaultdict(set)
        for manifest in files_below(self.root, ".jsonl"):
            for item in self._listed(manifest):
                if isinstance(item, Problem):
                    yield item
                else:
                    by_id[item.with_suffix("").as_posix()].add(item)
        for recording_id, paths in sorted(by_id.items()):
            yield self._recording(recording_id, sorted(paths))

    def _listed(self, manifest: Path) -> Iterator[Path | Problem]:
        """The paths of a manifest, as seen from the root."""
        source = manifest.relative_to(self.root).as_posix()
        try:
            lines = read_text(manifest).split("\n")
        except BadInputError as error:
            yield Problem(source, "unreadable table", error.detail)
            return
        for number, line in enumerate(lines, 1):
            try:
                with reading(manifest, "unreadable table"):
                    listed = manifest.parent / json.loads(line)["path"] if line.strip() else None
                    if listed:
                        listed.with_suffix("").is_file()  # raises for what can be no name
            except BadInputError as error:
                detail = f'{error.detail}. Expected a line such as {{"path": "calls/1.wav", "duration": 24.5}}'
                yield Problem(f"{source} line {number}", error.reason, detail)
            else:
                if listed:
                    yield Path(os.path.relpath(listed, self.root))

    def _recording(self, recording_id: str, paths: list[Path]) -> Conversation | Problem:
        if problem := doubled(recording_id, paths):
            return problem
        path = self.root / paths[0]
        words = path.with_suffix(".json")
        audio = path if path.is_file() else None
        return Conversation(
            recording_id,
            self.name(),
            (Track(audio, channel=0), Track(audio, channel=1)),
            transcripts=(words,) if words.is_file() else (),
            language=self.options.language or None,
            licence=self.options.licence,
        )

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """The words of the model, and those of the other side where somebody transcribed it."""
        for path in conversation.transcripts:
            return of_labels(path)
        return None
