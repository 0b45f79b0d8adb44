"""nano, the small model inside segkit: on the clock, the same when sampled and trained, and with a voice.

That it learns is shown by experiments/nano.py, which takes an hour; docs/nano.md has what came out.
"""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from support import assert_streaming_is_teacher_forcing, disturb, lines, make_job, result, sample, teacher_forced

from segkit.dataset.dataset import Dataset
from segkit.extraction.run import run
from segkit.models.checkpoints import find_checkpoint
from segkit.models.nano import pretrain
from segkit.models.open import find_model
from segkit.models.protocols import Completions
from segkit.rollouts.hearing import activities, listen
from segkit.rollouts.rollout import rollout
from segkit.rollouts.scenes import Segments
from segkit.runs import RunFolder
from segkit.schemas import Axis
from segkit.segmenters import vad
from segkit.settings import AlignSettings, ModelSettings, SamplingSettings
from segkit.tasks import nobody

FRAME = 640
LORA = ModelSettings(lora_rank=4)
SMALL = {
    "steps": 2,
    "groups": 4,
    "completions": 4,
    "max_segment_s": 12,
    "context.max_s": 1,
    "evaluation.segments": 0,
    "evaluation.checkpoint_every": 1,
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return open_nano(tmp_path_factory.mktemp("work"))


def open_nano(workdir, name="nano", model=LORA):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return find_model(name, workdir).trainable(model, SamplingSettings(audio_top_k=0, opening_s=0), "cpu")


@pytest.fixture(scope="module")
def users(policy, recordings):
    """Four users who really speak, 200 frames each, (4, K, 200)."""
    samples = [soundfile.read(path, dtype="float32", frames=200 * FRAME)[0].T for path in recordings[:2]]
    return policy.encode(torch.from_numpy(np.concatenate(samples)))


def test_its_weights_are_small_and_in_the_package():
    folder = find_checkpoint("nano", None).info.moshi_weights.parent
    assert (folder / "model.safetensors").stat().st_size <= 12e6
    assert folder.parent.name == "models"


@pytest.mark.parametrize("model", [LORA, ModelSettings()], ids=["lora", "all weights"])
def test_streaming_and_teacher_forced_text_logits_are_the_same(tmp_path, users, model):
    """Over more frames than it attends to, and with the weights elsewhere than at the beginning."""
    policy = open_nano(tmp_path, model=model)
    disturb(policy, by=0.02)
    assert users.shape[2] == 200 > policy.lm.context
    assert_streaming_is_teacher_forcing(policy, users, (200, 150, 121, 1))


def test_what_the_user_says_in_a_frame_is_heard_in_the_next(policy, users):
    said, _ = sample(policy, users[:1])
    other = users[:1].clone()
    other[:, 0, 31] = 255 - other[:, 0, 31]  # another energy
    twice = [Completions(user, said.text, said.audio, said.log_probs) for user in (users[:1], other)]
    before, after = (teacher_forced(policy, each)[0] for each in twice)
    assert (before != after).any(1).nonzero()[0, 0] == 32


def test_a_token_said_in_a_frame_is_audible_in_that_frame(policy, users):
    """What the depth transformer is made to say at the delays of its streams comes out undelayed."""
    delays = policy.lm.delays[1:8]

    def force(step, tokens):
        for k, delay in enumerate(delays):
            if 0 <= step - delay < users.shape[2]:
                tokens[:, k] = users[:1, k, step - delay]

    said, _ = sample(policy, users[:1], force)
    assert torch.equal(said.audio, users[:1])  # and tests/test_codec2.py says when a code is heard


def test_its_words_are_heard(policy, dataset):
    """Silero hears speech where its text has words more than where it has none: the text controls the voice."""
    settings = AlignSettings.preset("nano")
    segments = Segments(Dataset(dataset.out), "train", settings.axes, settings.max_segment_s, required=True)
    scenes = segments.scenes(segments.first(2), policy)
    groups = rollout(policy, scenes, 4, (0,), 64, nobody)
    spoken = activities(policy, scenes, listen(policy, groups), vad.load(settings.vad))
    audible, worded = [], []
    for scene, group, activity in zip(scenes, groups, spoken, strict=True):
        clock_s = (np.arange(scene.frames) + 0.5 - scene.start_frame) * 0.08
        for text, speech in zip(group.text, activity, strict=True):
            audible.append(((clock_s[:, None] >= speech[:, 0]) & (clock_s[:, None] < speech[:, 1])).any(1))
            near = np.zeros(scene.frames)
            for frame, _ in policy.words(text):
                near[frame : frame + 4] = 1
            worded.append(near)
    audible, worded = np.concatenate(audible), np.concatenate(worded)
    assert 0.02 < audible.mean() < 0.6 and np.corrcoef(audible, worded)[0, 1] > 0.5


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 3)), max_size=12))
def test_a_monologue_has_every_word_once_it_begins_and_padding_elsewhere(drawn):
    words = [(begin, [10 * i + k + 10 for k in range(n)]) for i, (begin, n) in enumerate(sorted(drawn))]
    text = pretrain.monologue(words, frames=100).tolist()
    assert [token for token in text if token >= 10] == [token for _, tokens in words for token in tokens]
    for begin, tokens in words:
        first = text.index(tokens[0])
        assert first >= begin and text[first : first + len(tokens)] == tokens
        assert first == 0 or text[first - 1] != pretrain.PAD
    assert text.count(pretrain.END_OF_PADDING) <= len(words)


def test_pretraining_lowers_the_loss_and_leaves_a_policy(dataset, tmp_path, monkeypatch):
    for name, value in {"WINDOW": 50, "BATCH": 4, "EVERY": 1}.items():
        monkeypatch.setattr(pretrain, name, value)
    rows = next(pretrain.read(dataset.out, "train"))[:4]
    tokenizer = pretrain.learn_tokenizer([word["text"] for row in rows for word in row["words"]], 80)
    lessons = [lesson for row in rows for lesson in pretrain.lessons_of(row, tokenizer)]
    assert len(lessons) == 8 and all(lesson.shape[0] == 15 for lesson in lessons)
    told = []
    for step, trained, line in pretrain.train(lessons, lessons, steps=12, seed=0):
        told.append(float(line.split("held out: text ")[1].split(",")[0]))
        assert step == len(told)
        lm = trained
    assert told[-1] < 0.7 * told[0]
    pretrain.write(tmp_path / "model", lm, tokenizer)
    own = open_nano(tmp_path, str(tmp_path / "model"))
    words = [word for _, word in own.words(torch.from_numpy(lessons[0][0].astype(np.int64)))]
    assert words == [word["text"] for word in rows[0]["words"] if word["speaker"] == "user"]


def command(dataset, folder, *more):
    settings = [f"--set={name}={value}" for name, value in SMALL.items()]
    return [sys.executable, "-m", "segkit", "align", dataset.out, folder, *settings, *more]


def test_a_killed_and_resumed_run_ends_the_same_bit_for_bit(dataset, tmp_path):
    """Nano is the policy where none is named, with settings of its own."""
    subprocess.run(command(dataset, tmp_path / "whole"), check=True, capture_output=True)
    killed = tmp_path / "killed"
    process = subprocess.Popen(command(dataset, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not RunFolder(killed).checkpoints():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "export").exists()
    done = subprocess.run(command(dataset, killed, "--resume"), check=True, capture_output=True, text=True)
    assert "step 1:" not in done.stdout and "step 2:" in done.stdout and "Nothing was learnt" not in done.stdout
    weights, metrics = result(tmp_path / "whole")
    weights_again, metrics_again = result(killed)
    assert metrics == metrics_again
    assert all(torch.equal(weights[name], weights_again[name]) for name in weights)
    exported = [load_file(run / "export" / "model.safetensors") for run in (tmp_path / "whole", killed)]
    assert all(torch.equal(exported[0][name], exported[1][name]) for name in exported[0])
    trained = open_nano(tmp_path, str(killed / "export"))
    assert trained.rate_hz == 8000 and json.loads((killed / "config.json").read_text())["policy"] == "nano"
    assert any(line["axes"][axis]["reward_std"]["timing"] > 0 for line in lines(killed)[1:] for axis in line["axes"])


def test_a_policy_hears_a_dataset_of_any_rate(dataset, made, tmp_path):
    """The same calls extracted at 8 and at 24 kHz are heard at both rates, everything at the same time."""
    native = make_job(made, tmp_path / "native", rate_hz=None)
    run(native)
    loudness = []
    for job in (dataset, native):
        for rate_hz in (8000, 24_000):
            found = Dataset(job.out)
            rows = found.table(Axis.PAUSE, "train").to_pylist()
            row = min(rows, key=lambda row: (row["recording_id"], row["start_s"], row["user_channel"]))
            audio = found.audio(row["id"], "user", rate_hz)
            assert len(audio) == pytest.approx((row["context_s"] + row["duration_s"]) * rate_hz, abs=4)
            frames = audio[: len(audio) // (rate_hz // 50) * (rate_hz // 50)].reshape(-1, rate_hz // 50)
            loudness.append(np.log(np.square(frames).mean(1) + 1e-6))
    shortest = min(map(len, loudness))
    likeness = np.corrcoef([each[:shortest] for each in loudness])
    assert likeness.min() > 0.98
