"""Synthetic conversations with exact truth: no data, no licence to sign, every axis occurs often.

Two espeak-ng voices per conversation, composed by `segkit.synthesis` from published distributions of
turns, gaps, pauses, backchannels and interruptions. `prepare` renders a conversation when its files
are missing; the same options give the same files in any order and any process.

    >>> corpus = Synthetic(Path("made"), SyntheticOptions(hours=0.1, minutes=2.0))
    >>> [c.id for c in corpus.find()]
    ['00000', '00001', '00002']
    >>> partners(0, 40), partners(1, 40), partners(10, 40)
    ((0, 1), (5, 4), (2, 3))
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segkit.corpora.base import Corpus
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Intervals, Problem, Track, Transcript, Word
from segkit.settings import Settings, fingerprint, setting
from segkit.synthesis import render
from segkit.synthesis.voices import espeak_loader, voice_of

GENERATOR = 1  # raise it when the same options make other recordings


class SyntheticOptions(Settings):
    """What is made."""

    hours: float = setting(
        0.5, "of conversations in all; a larger number keeps what was rendered for a smaller one", gt=0, lt=math.inf
    )
    seed: int = setting(0, "another one makes other conversations, with the same voices", ge=0)
    minutes: float = setting(5.0, "length of each conversation", ge=0.5, le=120)
    rate_hz: int = setting(24_000, "sample rate", ge=8000, le=48_000)
    snr_db: float = setting(35.0, "level of the speech over white noise; inf: no noise", ge=0)
    crosstalk_db: float = setting(
        -math.inf, "gain at which each speaker leaks into the other's channel; -inf: none", le=-6
    )
    crosstalk_delay_s: float = setting(
        0.0, "how much later that is than in the speaker's own channel", added_later=True, ge=0, le=0.5
    )
    speakers: int = setting(
        200,
        "size of the pool, an even number; it consists of groups of four (two men, two women) who talk only among "
        "themselves, so a split by groups is disjoint in speakers",
        ge=2,
        multiple_of=2,
    )
    first_speaker: int = setting(
        0,
        "number of the first of the pool, even; from 200 on, none of the default's voices",
        added_later=True,
        ge=0,
        multiple_of=2,
    )


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of a synthetic conversation; times in seconds of the recording.

    Attributes:
        activity: the inter-pausal units of channels 0 and 1.
        words: of both.
        events: what the preset `paper` must find; `segkit.synthesis.render` documents the keys.
    """

    activity: tuple[Intervals, Intervals]
    words: list[Word]
    events: list[dict[str, Any]]


def read_truth(path: Path) -> Truth:
    """Read the truth file of a rendered conversation.

    Raises:
        BadInputError: the file is missing or not such a file.
    """
    try:
        facts = json.loads(path.read_text())
        first, second = (np.array(spans, dtype=np.float64).reshape(-1, 2) for spans in facts["activity"])
        return Truth((first, second), [Word(**word) for word in facts["words"]], facts["events"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            "unreadable truth",
            f"{path.name}: {error!r}. Expected a truth file of the corpus synthetic; render it again.",
        ) from None


def partners(index: int, speakers: int) -> tuple[int, int]:
    """The speakers of conversation `index`: a man (even) and a woman of one group of four."""
    num_groups = (speakers + 3) // 4
    around, group = divmod(index, num_groups)
    half = min(4, speakers - 4 * group) // 2  # men in the group, and women
    man = 4 * group + 2 * (around % half)
    woman = 4 * group + 2 * ((around + around // half) % half) + 1
    return (man, woman) if (group + around // half**2) % 2 == 0 else (woman, man)


class Synthetic(Corpus):
    """espeak-ng is GPL-3.0 software; its licence does not cover the speech it says."""

    title = "Synthetic conversations with exact truth, made on this machine"
    licence = "CC0-1.0"
    redistributable = True
    citation = "segkit; speech by espeak-ng (https://github.com/espeak-ng/espeak-ng)"
    how_to_get_it = (
        'Nothing to get: pip install "segkit[synthetic]". ROOT is the folder to render into; '
        "--set corpus.hours=2 --set corpus.rate_hz=8000 and so on choose what is made."
    )
    tree = """\
ROOT/
└── 0f3a.../           one folder per set of options
    ├── 00000.wav      two channels, 16 bit
    └── 00000.json     the truth: activity, words, events"""
    Options = SyntheticOptions
    needs_root = False
    options: SyntheticOptions

    def find(self) -> Iterator[Conversation | Problem]:
        """List all conversations, rendered or not.

        Raises:
            MissingExtraError: some are not, and espeak-ng is not installed.
        """
        o = self.options
        folder = self.root / fingerprint(GENERATOR, o.changed({"hours": 1.0}))
        for index in range(max(1, round(o.hours * 60 / o.minutes))):
            wav = folder / f"{index:05d}.wav"
            first, second = (
                Track(wav, channel, speaker=voice_of(speaker).name)
                for channel, speaker in enumerate(self._speakers(index))
            )
            truth = wav.with_suffix(".json")
            if not truth.exists():
                espeak_loader()
            yield Conversation(wav.stem, self.name(), (first, second), (truth,), language="en", licence=self.licence)

    def prepare(self, conversation: Conversation) -> None:
        """Render the wav and the truth of `conversation` unless both are there.

        Raises:
            MissingExtraError: espeak-ng is not installed.
        """
        (wav,), (truth,) = conversation.audio, conversation.transcripts
        if truth.exists() and wav.exists():
            return
        o, index = self.options, int(conversation.id)
        first, second = self._speakers(index)
        voices, seed = (voice_of(first), voice_of(second)), (o.seed, index)
        length = round(o.minutes * 60 * o.rate_hz)
        plan = render.compose(voices, seed, o.rate_hz, length)
        audio = render.mix(plan, voices, length, o.snr_db, o.crosstalk_db, seed, round(o.crosstalk_delay_s * o.rate_hz))
        render.write(wav, audio, o.rate_hz, truth, render.truth(plan, voices, o.rate_hz, length))

    def _speakers(self, index: int) -> tuple[int, int]:
        first, second = partners(index, self.options.speakers)
        return self.options.first_speaker + first, self.options.first_speaker + second

    def transcript(self, conversation: Conversation) -> Transcript:
        """The words of the truth, at espeak's own times."""
        return Transcript(read_truth(conversation.transcripts[0]).words)
