"""CANDOR: video calls between strangers, each on a channel of the sound, transcribed by Amazon Transcribe.

BetterUp's release (Reece et al. 2023). `metadata.json` says who is on the left and on the right channel. The words are
those of the recogniser, `ch_0` left and `ch_1` right; the release makes turns of them in three ways, of which only
"backbiter" sets backchannels apart. A turn goes on through silence, for minutes at worst: its times say little.
"""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from segkit.corpora.base import Corpus, doubled, files_below, read_json, read_text, reading
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Problem, Track, Transcript
from segkit.settings import Settings, setting

# Not `raw`: what each side recorded is put on one clock only in `processed`.
FILE = re.compile(
    r".*/(?P<call>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})/(metadata\.json|(processed|transcription)/[^/]+)"
)
TRANSCRIPTS = {
    "words": "transcribe_output.json",
    "audiophile": "transcript_audiophile.csv",
    "backbiter": "transcript_backbiter.csv",
    "cliffhanger": "transcript_cliffhanger.csv",
}


class CandorOptions(Settings):
    """Options of the corpus `candor`."""

    transcript: Literal["words", "audiophile", "backbiter", "cliffhanger"] = setting(
        "words",
        "words, or the turns of one of the three models: audiophile (until the other speaks), backbiter (backchannels "
        "apart), cliffhanger (sentences)",
    )


class Candor(Corpus):
    """The files of a call are matched by the folder that is named by its UUID."""

    title = "CANDOR: 1,656 video calls of two strangers, 850 h"
    licence = "BetterUp CANDOR data licence"
    redistributable = False
    citation = (
        "Reece et al. (2023), The CANDOR corpus: Insights from a large multimodal dataset of naturalistic "
        "conversation, Science Advances 9(13)"
    )
    how_to_get_it = "Ask for it at https://betterup-data-requests.herokuapp.com/; the sound is in the media parts."
    tree = """\
ROOT/any/depth/
└── 0020a0c5-1658-4747-99c1-2839e736b481/
    ├── metadata.json                                     who is on which channel
    ├── processed/0020a0c5-1658-....mp3                   two channels; or else a video of each:
    ├── processed/5a73899f9cdd1800017786f0.mp4            optional with --vad transcript
    ├── transcription/transcribe_output.json              words
    └── transcription/transcript_backbiter.csv            turns: --set corpus.transcript=backbiter"""
    Options = CandorOptions

    def find(self) -> Iterator[Conversation | Problem]:
        """A call for each folder that is named by a UUID."""
        calls: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        for path in files_below(self.root, ".json", ".csv", ".mp3", ".mp4"):
            if match := FILE.fullmatch(path.absolute().as_posix()):
                calls[match["call"]][path.name].append(path)
        for call_id, files in sorted(calls.items()):
            yield self._call(call_id, files)

    def _call(self, call_id: str, files: dict[str, list[Path]]) -> Conversation | Problem:
        if problem := doubled(call_id, *files.values()):
            return problem
        one = {name: paths[0] for name, paths in files.items()}
        if "metadata.json" not in one:
            detail = f"found {', '.join(one)}, but no metadata.json, which says who is on which channel"
            return Problem(call_id, "unreadable table", detail)
        try:
            left, right = users(one["metadata.json"])
        except BadInputError as error:
            return Problem(call_id, error.reason, error.detail)
        if sound := one.get(f"{call_id}.mp3"):
            tracks = Track(sound, 0, speaker=left), Track(sound, 1, speaker=right)
        else:
            tracks = Track(one.get(f"{left}.mp4"), speaker=left), Track(one.get(f"{right}.mp4"), speaker=right)
        transcript = one.get(TRANSCRIPTS[self.options.transcript])
        return Conversation(call_id, self.name(), tracks, (transcript,) if transcript else (), "en", self.licence)

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """The recogniser's words, or turns, as the option says."""
        if not conversation.transcripts:
            return None
        (path,) = conversation.transcripts
        return _words(path) if path.suffix == ".json" else _turns(path, conversation.speakers)


def users(metadata: Path) -> tuple[str, str]:
    """Who is on the left and on the right channel.

    Raises:
        BadInputError: the file does not say so.
    """
    with reading(metadata, "unreadable table"):
        by_channel = {speaker["channel"]: str(speaker["user_id"]) for speaker in read_json(metadata)["speakers"]}
        return by_channel["L"], by_channel["R"]


def _words(path: Path) -> Transcript:
    transcript = Transcript()
    content = read_json(path)
    with reading(path):
        for channel in content["results"]["channel_labels"]["channels"]:
            side = ("ch_0", "ch_1").index(channel["channel_label"])
            for item in channel["items"]:
                if item["type"] == "pronunciation":
                    match item.get("alternatives"):
                        case [{**best}, *_]:
                            text, confidence = best.get("content"), best.get("confidence")
                        case _:
                            text = confidence = None
                    transcript.add(side, text, item.get("start_time"), item.get("end_time"), confidence)
    return transcript


def _turns(path: Path, speakers: tuple[str, str]) -> Transcript:
    transcript = Transcript(unit="utterance")
    with reading(path):
        for row in csv.DictReader(io.StringIO(read_text(path))):
            for speaker, text, start, end in said(row):
                if speaker in speakers:
                    transcript.add(speakers.index(speaker), text or "", start, end)
                else:
                    transcript.dropped["utterance of an unknown speaker"] += 1
    return transcript


def said(row: dict[str, str]) -> list[tuple[str, str, str, str]]:
    """Speaker, text, start and end of a turn, and of the backchannels in it, which the release has joined to one.

    >>> turn = {"speaker": "ann", "utterance": "so i went", "start": "1.0", "stop": "2.5"}
    >>> said(turn | {"backchannel": "", "backchannel_speaker": "", "backchannel_start": "", "backchannel_stop": ""})
    [('ann', 'so i went', '1.0', '2.5')]
    >>> mhm = {"backchannel_speaker": "ben", "backchannel_start": "1.5", "backchannel_stop": "1.75"}
    >>> said(turn | {"backchannel": "mhm"} | mhm)[1]
    ('ben', 'mhm', '1.5', '1.75')
    """
    turn = row["speaker"], row["utterance"], row["start"], row["stop"]
    if not row.get("backchannel"):
        return [turn]
    inside = row["backchannel_speaker"], row["backchannel"], row["backchannel_start"], row["backchannel_stop"]
    return [turn, inside]
