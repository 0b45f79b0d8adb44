"""Seamless Interaction: two people face to face, improvising on a prompt or talking freely, a file per participant.

Meta's release (https://github.com/facebookresearch/seamless_interaction), as its download tools lay it out. The audio
is denoised against bleed; words are those of a speech recogniser, times in seconds of the participant's own file.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segkit.corpora.base import Corpus, doubled, files_below, read_json, reading
from segkit.corpora.readers import fields_of, said_in, sum_s
from segkit.schemas import Conversation, Intervals, Problem, Track, Transcript
from segkit.settings import Settings, setting

FILE = re.compile(r"(?P<interaction>(?P<vendor>V\d+)_S\d+_I\d+)_(?P<participant>P\d+[A-Z]?)\.(?P<kind>wav|json)")
LABELS = ("improvised", "naturalistic")


class SeamlessOptions(Settings):
    """Options of the corpus `seamless`."""

    label: Literal["", "improvised", "naturalistic"] = setting(
        "", "take only interactions below folders of this name; empty for both"
    )
    speech: Literal["words", "vad"] = setting(
        "words",
        "where --vad transcript finds speech: in the words, or in the intervals of the release's own detector, which "
        "interactions without words have, too",
        added_later=True,
    )


class Seamless(Corpus):
    """The two files of an interaction are matched by vendor, session and interaction, `V00_S0809_I00000582`."""

    title = "Seamless Interaction: 4,000 h of two people face to face, 4,000 participants"
    licence = "CC-BY-NC-4.0"
    redistributable = True
    citation = (
        "Agrawal et al. (2025), Seamless Interaction: Dyadic Audiovisual Motion Modeling and Large-Scale Dataset, "
        "arXiv 2506.22554"
    )
    how_to_get_it = (
        "https://huggingface.co/datasets/facebook/seamless-interaction, with the tools of "
        "https://github.com/facebookresearch/seamless_interaction. Only the .wav and .json files are read."
    )
    tree = """\
ROOT/any/depth/
└── improvised/train/0000/0005/                  label, split, batch, archive
    ├── V00_S0809_I00000582_P0947.wav            one per participant; optional with --vad transcript
    ├── V00_S0809_I00000582_P0947.json           optional: words, voice activity
    ├── V00_S0809_I00000582_P0948.wav
    └── V00_S0809_I00000582_P0948.json"""
    Options = SeamlessOptions

    def find(self) -> Iterator[Conversation | Problem]:
        """An interaction for each vendor, session and interaction that the files name."""
        wanted = self.options.label
        found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        for path in files_below(self.root, ".wav", ".json"):
            if (match := FILE.fullmatch(path.name)) and (not wanted or wanted in path.parts):
                found[match["interaction"]][path.name].append(path)
        for interaction, files in sorted(found.items()):
            yield from self._interaction(interaction, files)

    def _interaction(self, interaction: str, files: dict[str, list[Path]]) -> Iterator[Conversation | Problem]:
        people = sorted({Path(name).stem for name in files})
        if problem := doubled(interaction, *files.values()):
            yield problem
        elif len(people) > 2:
            yield Problem(interaction, "more than two participants", f"found {', '.join(people)}, expected two")
        elif len(people) < 2:
            yield Problem(interaction, "missing partner", f"found {', '.join(sorted(files))}, but no partner")
        else:
            transcripts = tuple(files[f"{person}.json"][0] for person in people if f"{person}.json" in files)
            if len(transcripts) == 1:
                yield Problem(interaction, "missing partner", f"found {transcripts[0].name}, but no words of the other")
                transcripts = ()
            first, second = (_track(person, files) for person in people)
            yield Conversation(interaction, self.name(), (first, second), transcripts, "en", self.licence)

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """The words of both, and their voice activity if that is asked for; None without any of it for both."""
        contents = [read_json(path) for path in conversation.transcripts]
        transcript = Transcript()
        if not contents:
            return None
        files = list(zip(conversation.transcripts, contents, strict=True))
        if self.options.speech == "vad":
            first, second = (_voice_activity(path, content) for path, content in files)
            transcript.activity = first, second
        for channel, (path, content) in enumerate(files):
            with reading(path):
                if "metadata:transcript" not in content:  # the recogniser was not run on both
                    return None if transcript.activity is None else Transcript(activity=transcript.activity)
                for entry in said_in(map(fields_of, content["metadata:transcript"])):
                    transcript.add(channel, *entry[1:])
        return transcript


def _voice_activity(path: Path, content: Any) -> Intervals:
    """The intervals of `metadata:vad`, without those that have no finite times or end before they start."""
    with reading(path):
        found = [(sum_s(each.get("start")), sum_s(each.get("end"))) for each in map(fields_of, content["metadata:vad"])]
    intervals: Intervals = np.array(found, np.float64).reshape(-1, 2)  # None is NaN
    return intervals[np.isfinite(intervals).all(axis=1) & (intervals[:, 0] <= intervals[:, 1])]


def _track(person: str, files: dict[str, list[Path]]) -> Track:
    """The track of `V00_S0809_I00000582_P0947`; participants are numbered anew by each vendor."""
    vendor, _, _, participant = person.split("_")
    paths = files.get(f"{person}.wav")
    return Track(paths[0] if paths else None, speaker=f"{vendor}_{participant}")
