"""What the judge is given to read, on whose clock, and to whom its marks go."""

import numpy as np
import pytest
import torch

from segkit.models.open import find_model
from segkit.models.protocols import Completions
from segkit.rollouts.hearing import listen
from segkit.rollouts.judging import Judge, by_utterance
from segkit.rollouts.scenes import Scene
from segkit.rollouts.scoring import Scorer, facts_by_axis
from segkit.schemas import Axis, Word
from segkit.segmenters import vad
from segkit.settings import JudgeSettings, ModelSettings, RewardSettings, SamplingSettings, VadSettings
from segkit.tasks import nobody
from segkit.train import loop

FRAMES, START = 150, 50  # 12 s, of which the segment is the last 8; of the 4 s before it, 2 are context
TURN_END_S, INTERRUPTION_END_S = 3.0, 4.0
USER = [[-9.0, -8.0], [-3.5, -2.5], [-1.0, 1.2], [1.5, 2.2], [3.3, 3.9], [5.1, 7.0]]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    found = find_model("tiny", tmp_path_factory.mktemp("tiny"))
    return found.speaker(ModelSettings(), SamplingSettings(), "cpu")


def scorer(judge=None, transcriber=None):
    return Scorer(RewardSettings(), vad.load(VadSettings()), judge, transcriber)


def scene(axis, words, name="s"):
    events = {"turn_end_s": None, "interruption_start_s": None, "interruption_end_s": None, "backchannels": None}
    events |= {"turn_end_s": TURN_END_S} if axis is Axis.TURN_TAKING else {}
    if axis is Axis.INTERRUPTION:
        events |= {"interruption_start_s": 1.0, "interruption_end_s": INTERRUPTION_END_S}
    said = None if words is None else [dict(zip(("speaker", "start_s", "text"), word, strict=True)) for word in words]
    row = {"axis": str(axis), "id": name, "duration_s": 8.0, "words": said, "user_activity": USER} | events
    return Scene(row | {"agent_activity": [[3.2, 7.5]]}, np.zeros(FRAMES * 1920, np.float32), START, FRAMES, 2.0)


def group(policy, *completions):
    """Completions with words at some seconds of the segment, out of the pieces of the small tokenizer."""
    text = torch.full((len(completions), FRAMES), 3)
    for row, words in zip(text, completions, strict=True):
        for start_s, word in words:
            pieces = policy.tokenizer.encode(word)
            first = START + round(start_s * 12.5)
            row[first : first + len(pieces)] = torch.tensor(pieces)
    codes = torch.zeros(len(completions), 8, FRAMES, dtype=torch.long)
    return Completions(codes, text, codes, torch.zeros(text.shape))


RECORDED = [
    ("user", -8.9, "long"),
    ("user", -1.9, "so"),
    ("user", -0.9, "how"),
    ("agent", 0.1, "mhm"),
    ("user", 1.6, "are"),
    ("user", 2.1, "you"),
    ("agent", 3.3, "fine"),
    ("user", 3.5, "well"),
    ("user", 5.2, "good"),
    ("user", 6.0, "then"),
]
MODEL = [(-3.0, "hi"), (-1.6, "on"), (2.4, "the"), (3.6, "well"), (4.4, "i"), (6.9, "so")]
SPOKEN = np.array([[-1.7, -1.1], [2.3, 2.9], [3.5, 5.0], [6.5, 7.9]])
EXPECTED = {
    Axis.TURN_TAKING: "User: so\nAgent: on\nUser: how are you\nAgent: the well i so",
    Axis.INTERRUPTION: "User: so\nAgent: on\nUser: how are you\nAgent: the well i\nUser: well\nAgent: so",
}


@pytest.mark.parametrize("axis", [Axis.TURN_TAKING, Axis.INTERRUPTION])
def test_the_judge_reads_the_dialogue_as_the_model_had_it(policy, axis):
    """Context included, opening and the recorded agent not, and nothing that the user said to that one."""
    said = group(policy, MODEL, [])
    assert policy.words(said.text[0]) == [(START + round(s * 12.5), word) for s, word in MODEL]
    texts = scorer().dialogues(policy, scene(axis, RECORDED), said, None, [SPOKEN, np.zeros((0, 2))])
    all_of_user = "User: so how are you" + " well" * (axis is Axis.INTERRUPTION)
    assert texts == [EXPECTED[axis], f"{all_of_user}\nAgent: (silence)"]


@pytest.mark.parametrize("axis, last", [(Axis.TURN_TAKING, 3.0), (Axis.INTERRUPTION, 4.0)])
def test_the_users_words_end_with_the_turn_or_the_interruption(policy, axis, last):
    words = [("user", last - 0.01, "mine"), ("user", last, "yours")]
    (text,) = scorer().dialogues(policy, scene(axis, words), group(policy, [(7.0, "i")]), None, [SPOKEN])
    assert text == "User: mine\nAgent: i"
    later = [("user", last + 0.01, "yours"), ("agent", 0.0, "no")]
    assert scorer().dialogues(policy, scene(axis, later), group(policy, []), None, [SPOKEN]) == []


class Recogniser:
    """Speech recognition itself needs a model; this one hears words at known seconds of what it is given."""

    def __init__(self, words):
        self.words = words

    def transcribe(self, audio, rate_hz):
        self.heard = [len(each) / rate_hz for each in audio], rate_hz
        start_s = START * 0.08
        return [[Word(0, text, start_s + s, start_s + s + 0.2) for s, text in self.words] for _ in audio]


def test_with_recognition_it_reads_the_same(policy):
    """What is heard of the model in the place of its text; and of the user, where the dataset has no words."""
    silent, recogniser = group(policy, [], []), Recogniser(MODEL)
    audio, axis = listen(policy, [silent])[0], Axis.TURN_TAKING
    texts = scorer(transcriber=recogniser).dialogues(policy, scene(axis, RECORDED), silent, audio, [SPOKEN] * 2)
    assert texts == [EXPECTED[axis]] * 2 and recogniser.heard == ([12.0, 12.0], 16_000)
    user = [(s, text) for who, s, text in RECORDED if who == "user"]
    both = scorer(transcriber=Recogniser(user)).dialogues(policy, scene(axis, None), silent, audio, [SPOKEN] * 2)
    assert both == ["User: so\nAgent: so how\nUser: how are you\nAgent: are you well good then"] * 2
    assert scorer().dialogues(policy, scene(axis, None), silent, audio, [SPOKEN] * 2) == []  # words unknown


def test_words_go_to_the_utterance_that_is_nearest():
    lines = by_utterance(
        "agent", [(9.0, "e"), (1.9, "b"), (0.2, "a"), (2.1, "c"), (3.9, "d")], np.array([[0, 1], [3, 4.0]])
    )
    assert [(line.start_s, line.text) for line in lines] == [(0.0, "a b"), (3.0, "c d e")]
    assert [line.text for line in by_utterance("user", [(2.0, "b"), (1.0, "a")], np.zeros((0, 2)))] == ["a b"]


def test_marks_go_to_the_completions_they_were_given_for(policy, server):
    """Every completion of every group says a word of its own, which the judge's mark follows."""
    marks = {"on": 0, "the": 1, "well": 2, "i": 2, "so": 1, "to": 0}
    scenes = [scene(Axis.PAUSE, RECORDED), scene(Axis.TURN_TAKING, RECORDED, "t")]
    scenes += [scene(Axis.TURN_TAKING, None, "mute"), scene(Axis.INTERRUPTION, RECORDED, "i")]
    said = [
        [[(6.0, word)] for word in words]
        for words in (("so",) * 3, ("on", "the", "well"), ("so",) * 3, ("i", "so", "to"))
    ]
    groups = [group(policy, *words) for words in said]
    server.reply = lambda prompt: str(marks[prompt.split()[-1]])
    judge = Judge(JudgeSettings(url=server.url, model="m", retries=0))
    found = loop.score_groups(loop.Stage(policy, None, None, scorer(judge)), scenes, groups, nobody)
    judge.close()
    scored, advantages = found.scored, found.advantages
    assert [list(each.components) for each in scored] == [
        ["timing"],
        ["timing", "judge"],
        ["timing"],
        ["timing", "judge"],
    ]
    assert scored[1].components["judge"].tolist() == [0, 1, 2] and scored[3].components["judge"].tolist() == [2, 1, 0]
    assert advantages[1].argsort().tolist() == [0, 1, 2] and advantages[3].argsort().tolist() == [2, 1, 0]
    assert judge.failures == {"no words of the user": 3}
    facts = facts_by_axis(scenes, scored, RewardSettings())
    assert facts["turn_taking"]["reward"] == {"timing": -5.0, "judge": 1.0}  # silence, as its codec is noise
    assert facts["turn_taking"]["human"]["reward"] == {"timing": pytest.approx(-0.2)}
    assert facts["interruption"]["human"]["diagnostics"]["delay_s"] == pytest.approx(0.8)
