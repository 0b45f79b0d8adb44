"""MIAMI: parts of the Bangor Miami corpus in which two people talk at ease, in Spanish and English, on one channel.

The adaptation for speaker diarization (https://github.com/Brono25/MIAMI-Corpus). Beside a recording there is a file of
utterances, `0.407|1.420|NIC|SPA|no se`: start, end, speaker, language, text. Both tracks are the same channel, masked
by the times of the utterances. In `eherring06` and `ssastre01`, the part in one language is left of `herring06` and
`sastre01`; since audio was cut out, the texts are not exact.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from segkit.corpora.base import Corpus, doubled, files_below, read_text
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Problem, Track, Transcript
from segkit.settings import Settings, setting

FILE = re.compile(r"(?P<id>[es]?(?P<whole>(herring|maria|sastre|zeledon)\d+))\.(?P<kind>tr|wav|flac|mp3|m4a)", re.I)


class MiamiOptions(Settings):
    """Options of the corpus `miami`."""

    model: str = setting("", "diarization of what has no readable utterances, as for the corpus mono")


class Miami(Corpus):
    """Audio and utterances are matched by the name of the recording."""

    title = "MIAMI: 8.5 h of the Bangor Miami corpus, 23 recordings of two, Spanish and English, one channel"
    licence = "GPL-3.0-or-later"
    redistributable = False  # its site adds conditions to that
    citation = (
        "Deuchar, Davies, Herring, Parafita Couto, Carter (2014), Building Bilingual Corpora, in Advances in the Study "
        "of Bilingualism"
    )
    how_to_get_it = (
        "https://github.com/Brono25/MIAMI-Corpus: transcriptions/, and the audio that its readme.md links. The "
        "recordings are of http://bangortalk.org.uk, which allows to train a large language model on them only if all "
        "its training data are public."
    )
    tree = """\
ROOT/any/depth/
├── audio/herring06.wav              one channel; or .flac .mp3 .m4a; optional with --vad transcript
└── transcriptions/herring06.tr      utterances of both"""
    Options = MiamiOptions

    def find(self) -> Iterator[Conversation | Problem]:
        """A recording for each name that has audio or utterances."""
        audio: dict[str, list[Path]] = defaultdict(list)
        texts: dict[str, list[Path]] = defaultdict(list)
        whole = {}
        for path in files_below(self.root, ".tr", ".wav", ".flac", ".mp3", ".m4a"):
            if match := FILE.fullmatch(path.name):
                name = match["id"].lower()
                (texts if match["kind"].lower() == "tr" else audio)[name].append(path)
                whole[name] = match["whole"].lower()
        for name in sorted(whole):
            if problem := doubled(name, audio[name], texts[name]):
                yield problem
                continue
            signal = audio[name][0] if audio[name] else None
            first, second = (Track(signal, speaker=f"{whole[name]}/{i}") for i in (0, 1))
            yield Conversation(
                name, self.name(), (first, second), tuple(texts[name]), licence=self.licence, derived="transcript"
            )

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """Utterances; the two speakers with the most of them are channel 0 and 1 in the order of the alphabet."""
        for path in conversation.transcripts:
            return read_utterances(path)
        return None


def read_utterances(path: Path) -> Transcript:
    """The utterances of a file, which are also when its people speak.

    Raises:
        BadInputError: it has no utterances, or not those of two speakers.
    """
    lines = [line.split("|", 4) for line in read_text(path).split("\n") if line.strip()]
    rows = [line for line in lines if len(line) == 5]
    if not rows:
        raise BadInputError("unreadable transcript", f"{path.name}: no line is `start|end|speaker|language|text`")
    by_speaker: dict[str, Transcript] = defaultdict(lambda: Transcript(unit="utterance"))
    for start, end, speaker, _, text in rows:
        by_speaker[speaker.strip()].add(0, text, start, end)
    most_often = sorted(by_speaker, key=lambda speaker: -len(by_speaker[speaker].words))
    if len(most_often) < 2:
        raise BadInputError("unknown speakers", f"{path.name}: found {most_often[0]!r} only, expected two speakers")
    both = sorted(most_often[:2])
    spans = [[(w.start_s, w.end_s) for w in by_speaker[each].words] for each in [*both, *most_often[2:]]]
    first, second, *others = (np.array(each, np.float64).reshape(-1, 2) for each in spans)
    transcript = Transcript(unit="utterance", activity=(first, second), others=np.concatenate([first[:0], *others]))
    for channel, speaker in enumerate(both):
        transcript.dropped += by_speaker[speaker].dropped
        for word in by_speaker[speaker].words:
            if text := spoken(word.text):
                transcript.add(channel, text, word.start_s, word.end_s)
    if len(lines) > len(rows):
        transcript.dropped["line that is not an utterance"] += len(lines) - len(rows)
    return transcript


def spoken(text: str) -> str:
    """What is said in an utterance, without marks of the language and what nobody understood.

    >>> spoken("!estaba@s buscando@s xxx in New_York")
    'estaba buscando in New York'
    """
    words = re.sub(r"@s\b(:\w+)?|^!", "", text).replace(" !", " ").split()
    return " ".join(word.replace("_", " ") for word in words if word not in ("xxx", "yyy", "www"))
