"""Full-Duplex-Bench v1: what a user says to a model, and what the model says to that, in two files on one clock.

The test sets hold the user; running a model adds its `output.wav`, and the benchmark's `asr.py` the words of it. Of
candor and icc, the transcripts also hold the other party of the original conversation, who is in neither file.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segkit.corpora.base import Corpus, files_below, read_json, reading
from segkit.corpora.candor import Candor
from segkit.corpora.readers import fields_of
from segkit.schemas import Conversation, Problem, Track, Transcript
from segkit.settings import Settings, setting


class FullDuplexBenchOptions(Settings):
    """Options of the corpus `full_duplex_bench`."""

    model: str = setting(
        "",
        "what stands before output.wav and output.json in their names, where several models lie side by side: moshi_ "
        "for moshi_output.wav; empty for output.wav",
    )


class FullDuplexBench(Corpus):
    """Track 0 is the user, track 1 the model; a conversation is named by its set and number."""

    title = "Full-Duplex-Bench v1: 727 test inputs for full-duplex models, and their answers"
    licence = "by test set: MIT (synthetic), CC-BY-NC-4.0 (icc); candor is cut from CANDOR, which may not be passed on"
    redistributable = False
    licence_of_each = True
    citation = (
        "Lin, Lian, Li, Wang, Anumanchipalli, Liu, Lee (2025), Full-Duplex-Bench: a benchmark to evaluate "
        "full-duplex spoken dialogue models on turn-taking capabilities, arXiv 2503.04721"
    )
    how_to_get_it = "The test sets: https://github.com/DanielLin94144/Full-Duplex-Bench. The answers: run a model."
    tree = """\
ROOT/any/depth/candor_turn_taking/1/        or another set, another number
├── input.wav             the user
├── output.wav            the model, if one has been run; or <model>output.wav
├── transcription.json    optional words of the user, [{"speaker": 1, "item": [{"text": "hi", "timestamp": [0, 0.3]}]}];
│                         or input.json, as output.json
├── output.json           optional words of the model, {"text": "hi", "chunks": [{"text": "hi", "timestamp": [1, 1.2]}]}
└── interrupt.json        where there is one, output.json starts at the end of the interruption"""
    Options = FullDuplexBenchOptions

    def find(self) -> Iterator[Conversation | Problem]:
        """Every folder with audio or words of the user or the model."""
        output = f"{self.options.model}output.wav"
        names: dict[Path, set[str]] = defaultdict(set)
        for path in files_below(self.root, ".wav", ".json"):
            names[path.parent].add(path.name)
        for folder in sorted(names):
            sample_id = folder.relative_to(self.root).as_posix()
            if output in names[folder] and "input.wav" not in names[folder]:
                yield Problem(sample_id, "missing partner", f"found {output}, but no input.wav beside it")
            elif {"input.wav", "transcription.json"} & names[folder]:
                yield self._sample(sample_id, folder, names[folder])

    def _sample(self, sample_id: str, folder: Path, names: set[str]) -> Conversation:
        audio = (folder / name if name in names else None for name in ("input.wav", f"{self.options.model}output.wav"))
        user = [name for name in ("transcription.json", "input.json") if name in names][:1]
        model = [name for name in (f"{self.options.model}output.json",) if name in names]
        limits = [name for name in ("interrupt.json",) if model and name in names]
        return Conversation(
            sample_id,
            self.name(),
            (Track(next(audio)), Track(next(audio))),
            transcripts=tuple(folder / name for name in user + model + limits),
            language="en",
            licence=licence_of(folder.parent.name),
        )

    def transcript(self, conversation: Conversation) -> Transcript | None:
        """The words of both, as far as somebody transcribed them."""
        if not conversation.transcripts:
            return None
        transcript = Transcript()
        for path in conversation.transcripts:
            content = read_json(path)
            with reading(path):
                if path.name == "interrupt.json":
                    last_s = max((word.end_s for word in transcript.words), default=0.0)
                    transcript.span_s = min(float(content[0]["timestamp"][1]), last_s), last_s
                    continue
                for chunk in map(fields_of, _chunks(content)):
                    match chunk.get("timestamp"):
                        case [start_s, end_s]:
                            pass
                        case _:
                            start_s = end_s = None
                    text = chunk.get("text")
                    if isinstance(text, str):
                        text = text.strip(" []")  # CrisperWhisper writes [UH] and [UM]
                    transcript.add(int(path.name.endswith("output.json")), text, start_s, end_s)
        return transcript


def licence_of(test_set: str) -> str:
    """The licence of a test set, by the name of its folder; "unknown" for a folder of another name.

    >>> [licence_of(name) for name in ("synthetic_pause_handling", "icc_backchannel", "candor_turn_taking", "x")]
    ['MIT', 'CC-BY-NC-4.0', 'BetterUp CANDOR data licence', 'unknown']
    """
    source = test_set.partition("_")[0]
    return {"synthetic": "MIT", "icc": "CC-BY-NC-4.0", "candor": Candor.licence}.get(source, "unknown")


def _chunks(content: Any) -> list[Any]:
    """The words of one party: of a transcript with two, the one who begins, for that is the user.

    >>> _chunks([{"speaker": 0, "item": [{"text": "no", "timestamp": [2.0, 2.5]}]},
    ...          {"speaker": 1, "item": [{"text": "so?", "timestamp": [1.0, 1.5]}]}])
    [{'text': 'so?', 'timestamp': [1.0, 1.5]}]
    """
    if isinstance(content, dict):
        return list(content["chunks"])
    parties = [party["item"] for party in content if party["item"]]
    return list(min(parties, key=lambda items: items[0]["timestamp"][0], default=[]))
