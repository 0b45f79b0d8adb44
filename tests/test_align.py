"""`segkit align` as a whole, on the small random Moshi: it learns, resumes bit for bit, stops where it must."""

import json
import shutil
import signal
import subprocess
import sys
import time
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import soxr
import torch
from support import EASY, lines, result, rewritten, segkit

from segkit import api
from segkit.dataset.dataset import Dataset
from segkit.errors import SegkitError, TrainingError, UsageError
from segkit.models.devices import resolve
from segkit.models.protocols import Completions
from segkit.models.tiny import write_tiny_moshi
from segkit.models.training import Moshi
from segkit.reporting import training
from segkit.rollouts import evaluation
from segkit.runs import Run, RunFolder
from segkit.settings import LITERAL, AlignSettings, RewardSettings, SegmentSettings
from segkit.settings.base import read_yaml
from segkit.settings.training import align_settings, differences
from segkit.tasks import nobody
from segkit.train import loop, memory
from segkit.train.log import Log
from segkit.train.loop import align

SMALL = {
    "steps": 4,
    "groups": 3,
    "completions": 4,
    "max_segment_s": 13,
    "context.max_s": 2,
    "optimiser.lr": 1e-3,
    "optimiser.microbatch": 4,
    "model.lora_rank": 4,
    "model.export": "lora",
    "sampling.opening_s": 0.5,
    "evaluation.segments": 1,
    "evaluation.every": 2,
    "evaluation.samples_every": 3,
    "evaluation.checkpoint_every": 1,
}


@pytest.fixture
def audible(recordings, monkeypatch):
    """A voice for the small Moshi, whose own codec is noise: a second of real speech or of silence at a time.

    Which of them follows from the text tokens of that second, so that its training has something to learn.
    """
    samples, rate_hz = soundfile.read(recordings[0], dtype="float32")
    voice = soxr.resample(samples[: 60 * rate_hz, 0], rate_hz, 24_000)
    loud = voice.reshape(-1, 1920)
    talk = torch.from_numpy(loud[np.abs(loud).max(1) > 0.05][:200].ravel())

    def decode(policy, audio):
        block = 12
        first = torch.nn.functional.pad(audio[:, 0].float(), (0, -audio.shape[2] % block))
        speaks = first.unflatten(1, (-1, block)).mean(2) > 31.5
        gate, voice = speaks.repeat_interleave(block * 1920, 1)[:, : audio.shape[2] * 1920], talk.to(audio.device)
        return gate * voice.repeat(1 + gate.shape[1] // len(voice))[: gate.shape[1]]

    monkeypatch.setattr(Moshi, "decode", decode)


def run_align(dataset, folder, resume=False, on_step=lambda metrics: None, policy="tiny", device="cpu", **changes):
    """A small run with some other settings; returns the commands that run its result."""
    settings = AlignSettings().changed(SMALL | {name.replace("__", "."): value for name, value in changes.items()})
    commands = []

    def hook(stage, done, total, facts=MappingProxyType({})):
        if stage == "steps":
            assert (done, total) == (facts["step"], settings.steps)
            on_step(facts)
        commands.extend(facts.get("commands", []))

    align(Dataset(dataset), RunFolder(folder), policy, settings, device, resume, hook)
    return commands


ALL_WEIGHTS = {"model__lora_rank": 0, "model__export": "merged", "model__dtype": "bfloat16", "optimiser__lr": 1e-4}


def test_a_run_trains_and_leaves_all_there_is_to_look_at(dataset, tmp_path, audible):
    told = []
    commands = run_align(dataset.out, tmp_path / "run", on_step=told.append, groups=4, max_segment_s=20)
    metrics = lines(tmp_path / "run")
    assert [line["step"] for line in metrics] == [0, 1, 2, 3, 4] and metrics[1:] == told
    assert all(line["grad_norm"] > 0 and line["ratio_off"] <= 1e-5 and line["mismatch"] <= 1e-4 for line in told)
    assert told[0]["lr"] == 1e-3 > told[-1]["lr"] > 0
    assert any(each["reward_std"]["timing"] > 0 for line in told for each in line["axes"].values())
    assert {line["step"] for line in metrics if "validation" in line} == {0, 2, 4}
    samples = list((tmp_path / "run" / "samples" / "step-000003").glob("train-*.wav"))
    heard, rate_hz = soundfile.read(samples[0])
    assert heard.shape[1] == 2 and rate_hz == 24_000 and np.abs(heard).max() > 0.01
    pairs, changed = training.read(Run(tmp_path / "run")).samples, []
    for axis in metrics[0]["validation"]:
        before, after = pairs[axis]
        assert (before.step, after.step) == (0, 4) and before.segment_id == after.segment_id
        (first, _), (last, _) = (soundfile.read(tmp_path / "run" / each.file) for each in (before, after))
        assert np.array_equal(first[:, 0], last[:, 0]) and first[:, 0].any()
        changed.append(not np.array_equal(first, last))
    assert any(changed)  # chance is the same, so that little training changes little
    assert [path.name for path in RunFolder(tmp_path / "run").checkpoints()] == [
        "checkpoint-000003",
        "checkpoint-000004",
    ]
    assert list((tmp_path / "run").glob("events.out.tfevents*"))
    assert "moshi.server" in commands[0] and (tmp_path / "run" / "export" / "lora.safetensors").exists()
    trained, _ = result(tmp_path / "run")
    assert any(tensor.abs().max() > 1e-4 for name, tensor in trained.items() if name.endswith("lora_B.weight:original"))


def test_before_the_first_update_the_ratio_is_1_and_there_is_no_divergence(dataset, tmp_path, audible):
    """With one update per step, all of the first step is before it."""
    told = []
    run_align(dataset.out, tmp_path / "run", on_step=told.append, minibatch=4, steps=2)
    assert told[0]["ratio_off"] <= 1e-5 and told[0]["kl"] == 0 and told[0]["clipped"] == 0
    assert told[1]["ratio_off"] <= 1e-5 and told[1]["kl"] > 0


class Stop(Exception):
    """What stands for the end of the process."""


@pytest.mark.parametrize("changes", [{}, ALL_WEIGHTS])
def test_a_stopped_and_resumed_run_ends_the_same_bit_for_bit(dataset, tmp_path, audible, changes):
    changes = changes | {"steps": 3}
    run_align(dataset.out, tmp_path / "whole", **changes)

    def stop(metrics):
        if metrics["step"] == 2:  # its line is written, its checkpoint is not
            raise Stop

    with pytest.raises(Stop):
        run_align(dataset.out, tmp_path / "stopped", on_step=stop, **changes)
    (tmp_path / "stopped" / ".checkpoint-000002.1.tmp").mkdir()
    torch.rand(7), np.random.rand(3)  # noqa: NPY002 - chance of others does not matter
    told = []
    run_align(dataset.out, tmp_path / "stopped", resume=True, on_step=told.append, **changes)
    assert [line["step"] for line in told] == [2, 3]
    assert told[0]["ratio_off"] <= 1e-5
    weights, metrics = result(tmp_path / "whole")
    weights_again, metrics_again = result(tmp_path / "stopped")
    assert metrics == metrics_again
    assert weights.keys() == weights_again.keys()
    assert all(torch.equal(weights[name], weights_again[name]) for name in weights)


def test_a_damaged_checkpoint_and_an_adapter_on_an_adapter_are_told(dataset, tmp_path, audible):
    run_align(dataset.out, tmp_path / "run", steps=1)
    weights = RunFolder(tmp_path / "run").checkpoints()[-1] / "optimiser.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(SegkitError, match="Remove it to use the one before"):
        run_align(dataset.out, tmp_path / "run", resume=True, steps=1)
    with pytest.raises(UsageError, match="has an adapter already"):
        run_align(dataset.out, tmp_path / "more", policy=str(tmp_path / "run" / "export"))


def test_a_run_that_never_began_is_in_nobodys_way(dataset, tmp_path, audible):
    with pytest.raises(UsageError, match="no such folder"):
        run_align(dataset.out, tmp_path / "run", policy="typo")
    run_align(dataset.out, tmp_path / "run", steps=1)
    with pytest.raises(UsageError, match="has no run to resume"):
        run_align(dataset.out, tmp_path / "rum", resume=True)
    assert not (tmp_path / "rum").exists()
    write_tiny_moshi(tmp_path / "model")
    with pytest.raises(UsageError, match="is not empty and is not the folder of a run"):
        run_align(dataset.out, tmp_path / "model")  # a model has a config.json, too
    with pytest.raises(UsageError, match="Add --resume"):
        run_align(dataset.out, tmp_path / "run", steps=1)


def test_a_killed_process_resumes(dataset, tmp_path):
    arguments = [f"--set={name}={value}" for name, value in (SMALL | {"steps": 30, "evaluation.every": 30}).items()]
    run = dataset.out, tmp_path / "run", "--policy", "tiny"
    command = [sys.executable, "-m", "segkit", "align", *run, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not RunFolder(tmp_path / "run").checkpoints():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(UsageError, match=r"other settings .*steps: 30 -> 4"):
        run_align(dataset.out, tmp_path / "run", resume=True)
    told = []
    with pytest.raises(Stop):
        run_align(
            dataset.out,
            tmp_path / "run",
            resume=True,
            on_step=lambda line: (told.append(line), stop_now()),
            steps=30,
            evaluation__every=29,  # what decides memory, speed and what is looked at may change
            sampling__rows=8,
        )
    assert told[0]["step"] > 1
    assert [line["step"] for line in lines(tmp_path / "run")] == list(range(told[0]["step"] + 1))


def stop_now():
    raise Stop


def test_a_loss_that_is_no_number_stops_the_run_with_its_step_and_axis(dataset, tmp_path, audible, monkeypatch):
    text_logits = Moshi.text_logits
    state = {"nan": False}
    monkeypatch.setattr(
        Moshi,
        "text_logits",
        lambda self, c: text_logits(self, c) * (float("nan") if state["nan"] and torch.is_grad_enabled() else 1.0),
    )
    with pytest.raises(TrainingError, match=r"Step 3: the loss is nan on (pause|turn_taking|backchannel|interruption)"):
        run_align(dataset.out, tmp_path / "run", on_step=lambda line: state.update(nan=line["step"] == 2))
    assert [path.name for path in RunFolder(tmp_path / "run").checkpoints()] == [
        "checkpoint-000001",
        "checkpoint-000002",
    ]
    state["nan"] = False
    told = []
    run_align(dataset.out, tmp_path / "run", resume=True, on_step=told.append)
    assert [line["step"] for line in told] == [3, 4]


def test_weights_that_are_no_numbers_are_told_with_their_axis(dataset, tmp_path, audible, monkeypatch):
    set_up = loop.set_up

    def broken(*arguments):
        stage = set_up(*arguments)
        stage.policy.lm.text_linear.weight[0, 0] = float("nan")
        return stage

    monkeypatch.setattr(loop, "set_up", broken)
    with pytest.raises(TrainingError, match=r"Step 1: the log-probability is nan on (pause|turn|backchannel|interr)"):
        run_align(dataset.out, tmp_path / "run")


def test_a_slip_shows_where_nearly_all_is_padding(dataset, tmp_path, audible, monkeypatch):
    set_up = loop.set_up

    def silent(*arguments):
        stage = set_up(*arguments)
        text_linear = torch.nn.Linear(64, 64)
        text_linear.weight, text_linear.bias = stage.policy.lm.text_linear.weight, torch.nn.Parameter(torch.zeros(64))
        text_linear.bias.data[3] = 7.0  # padding
        stage.policy.lm.text_linear = text_linear.requires_grad_(False)
        return stage

    monkeypatch.setattr(loop, "set_up", silent)
    told = []
    run_align(dataset.out, tmp_path / "right", on_step=told.append, steps=1)
    assert told[0]["mismatch"] < 1e-4
    sample = Moshi.sample
    monkeypatch.setattr(Moshi, "sample", lambda self, *arguments: [late(each) for each in sample(self, *arguments)])
    with pytest.raises(TrainingError, match="streaming and training disagree"):
        run_align(dataset.out, tmp_path / "late", steps=1)


def late(said):
    """Text that is taken down one frame late."""
    return Completions(said.user, said.text.roll(1, 1), said.audio, said.log_probs)


def test_a_sampler_and_a_trainer_that_disagree_are_caught(dataset, tmp_path, audible, monkeypatch):
    sample = Moshi.sample

    def off_by_one(self, *arguments):
        said = sample(self, *arguments)
        return [late(each) for each in said]

    monkeypatch.setattr(Moshi, "sample", off_by_one)
    with pytest.raises(TrainingError, match="streaming and training disagree"):
        run_align(dataset.out, tmp_path / "run")


@pytest.mark.gpu
@pytest.mark.parametrize("rank, export", [(4, "lora"), (0, "merged")])
def test_a_run_on_a_gpu(dataset, tmp_path, audible, rank, export):
    told = []
    changes = {"model__lora_rank": rank, "model__export": export}
    run_align(dataset.out, tmp_path / "run", on_step=told.append, device="cuda", **changes)
    assert len(told) == 4 and all(line["grad_norm"] > 0 and line["mismatch"] < 0.1 for line in told)


def test_a_judge_is_a_component_of_its_own(dataset, tmp_path, audible, server):
    server.reply = lambda prompt: str(len(prompt) % 3)
    told = []
    judged = {"judge__url": server.url, "judge__model": "m", "axes": "pause,turn_taking,interruption", "steps": 2}
    run_align(dataset.out, tmp_path / "run", on_step=told.append, **judged)
    for line in told:
        assert line["judge_failures"] == {}
        for axis, each in line["axes"].items():
            assert list(each["reward"]) == (["timing"] if axis == "pause" else ["timing", "judge"])
            assert axis == "pause" or 0 <= each["reward"]["judge"] <= 2
    marks = (tmp_path / "run" / "judge.jsonl").read_text().splitlines()
    assert len(marks) == sum(server.asked.values()) == len(set(server.prompts))
    dialogue = server.prompts[0].rpartition("nothing else.")[2]
    assert len(dialogue.partition("User:")[2].split()) > 5 and "Agent:" in dialogue


def test_a_judge_that_has_nothing_to_read_is_refused(dataset, tmp_path, server):
    def without_words(path):
        table = pq.read_table(path)
        i = table.schema.get_field_index("words")
        nothing = pa.nulls(len(table), table.schema.field("words").type)
        pq.write_table(table.set_column(i, table.schema.field("words"), nothing), path)

    mute = rewritten(dataset, tmp_path / "mute", without_words)
    with pytest.raises(UsageError, match="The judge reads words"):
        run_align(mute, tmp_path / "run", judge__url=server.url, judge__model="m")


def test_a_dead_judge_leaves_the_timing(dataset, tmp_path, audible):
    told = []
    dead = {"judge__url": "http://127.0.0.1:9/v1", "judge__model": "m", "judge__retries": 0}
    run_align(dataset.out, tmp_path / "run", on_step=told.append, axes="turn_taking", steps=1, **dead)
    (line,) = told
    assert line["judge_failures"] == {"unreachable": 12}  # of this step, without those of the evaluation
    assert line["grad_norm"] > 0
    assert line["axes"]["turn_taking"]["reward"]["judge"] is None


def test_too_little_memory_is_told_with_what_helps(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 1 << 20)
    with pytest.raises(TrainingError, match=r"GiB more than there is.*What helps most: .*--set"):
        run_align(dataset.out, tmp_path / "run")

    def out_of_memory(self, *arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.undo()
    monkeypatch.setattr(Moshi, "sample", out_of_memory)
    with pytest.raises(TrainingError, match=r"Out of memory .*What helps most: .*--set"):
        run_align(dataset.out, tmp_path / "run")


def test_memory_is_what_always_stays_and_the_largest_stage():
    gib = {"weights": 10, "keys and values": 30, "sampling: codec": 2, "scoring: codec": 2, "scoring: audio": 3}
    parts = {name: n << 30 for name, n in (gib | {"updating: activations": 4}).items()}
    assert memory.peak(parts) == (10 + 30 + 5) << 30
    assert memory.advice(parts).startswith("What helps most: keys and values takes 30.0 GiB: --set sampling.rows")


def test_presets():
    assert AlignSettings.preset_names() == ["paper", "nano", "paper-literal", "single-gpu"]
    assert AlignSettings.preset("paper") == AlignSettings() == align_settings()
    assert AlignSettings.preset("single-gpu").model.lora_rank == 32
    assert AlignSettings.preset("paper").rewards == RewardSettings()
    literal = AlignSettings.preset("paper-literal")
    assert literal.rewards == LITERAL and literal == AlignSettings(rewards=LITERAL)


def test_rewards_measure_as_the_dataset_did_unless_told_otherwise(dataset, tmp_path, capsys):
    """The dataset's settings come after the preset's, and before those of a file and of --set."""
    names = {"timeline.max_pause_s": "0.5", "vad.threshold": "0.4", "backchannel.max_backchannel_s": "0.8"}
    easy = SegmentSettings().changed(EASY)
    own = easy.changed(names)
    found = align_settings("single-gpu", dataset=own)
    taken = found.rewards.timeline.max_pause_s, found.vad.threshold, found.rewards.max_backchannel_s
    assert taken == (0.5, 0.4, 0.8)
    assert differences(found, own) == [] == differences(align_settings("nano", dataset=easy), easy)
    (tmp_path / "mine.yaml").write_text("rewards: {timeline: {max_pause_s: 0.7}}")
    changed = align_settings("paper", read_yaml(tmp_path / "mine.yaml") | {"vad.threshold": "0.5"}, own)
    assert differences(changed, own) == [
        "vad.threshold is 0.5, in the dataset 0.4",
        "rewards.timeline.max_pause_s is 0.7, in the dataset 0.5",
    ]
    read = own.changed({"vad.backend": "transcript"})
    assert differences(align_settings("paper", dataset=read), read) == [
        "vad.backend is silero, in the dataset transcript"
    ]

    assert Dataset(dataset.out).record.settings == easy
    other = shutil.copytree(dataset.out, tmp_path / "other")
    run = json.loads((dataset.out / "run.json").read_text())
    run["job"]["settings"]["timeline"]["max_pause_s"] = 0.5
    (other / "run.json").write_text(json.dumps(run))
    settings = [f"--set={name}={value}" for name, value in SMALL.items()]
    arguments = "align", other, tmp_path / "run", "--policy", "tiny", "--dry-run", *settings
    code, _, said = segkit(*arguments, capsys=capsys)
    assert code == 0 and "measure in another way" not in said
    code, _, said = segkit(*arguments, "--set=rewards.timeline.max_pause_s=1", capsys=capsys)
    assert code == 0 and "rewards.timeline.max_pause_s is 1.0, in the dataset 0.5" in said


def test_every_evaluation_has_the_same_segments_and_the_same_chance(dataset, tmp_path, audible):
    settings, folder = AlignSettings().changed(SMALL | {"evaluation.segments": 2}), RunFolder(tmp_path)
    stage = loop.set_up(Dataset(dataset.out), "tiny", settings, "cpu", folder)
    with Log(folder, 0) as log:
        found = [loop.evaluate(stage, settings, step, log, nobody) for step in (0, 7)]
        heard = {step: [each for each in folder.read_samples() if each.step == step] for step in (0, 7)}
        other = loop.evaluate(stage, settings.changed({"seed": 1}), 7, log, nobody)
    assert found[0] == found[1] != other
    assert {tuple(each) for each in found[0].values()} == {("reward", "diagnostics", "human")}
    answered = [[(each.axis, each.segment_id) for each in samples] for samples in heard.values()]
    assert len(answered[0]) == len(found[0]) and answered[0] == answered[1]
    assert {each.split for each in [*heard[0], *heard[7]]} == {"validation"}


def test_every_step_has_chance_of_its_own(dataset, tmp_path, audible, monkeypatch):
    rollout, drawn = loop.rollout, []
    assert rollout is evaluation.rollout

    def kept(policy, scenes, completions, chance, *more):
        drawn.append((completions, chance))
        return rollout(policy, scenes, completions, chance, *more)

    for module in (loop, evaluation):
        monkeypatch.setattr(module, "rollout", kept)
    run_align(dataset.out, tmp_path / "run", steps=2, evaluation__every=1)
    evaluations, steps = ([chance for n, chance in drawn if n == size] for size in (1, 4))
    assert len(evaluations) == 3 and len(set(evaluations)) == 1
    assert len(steps) == 2 and len({*steps, *evaluations}) == 3


def test_a_run_that_learnt_nothing_says_so(dataset, tmp_path, capsys):
    """The small Moshi's own codec is noise, in which nobody hears speech: all completions are alike."""
    settings = [f"--set={name}={value}" for name, value in (SMALL | {"steps": 1, "evaluation.segments": 0}).items()]
    code, printed, _ = segkit("align", dataset.out, tmp_path / "run", "--policy", "tiny", *settings, capsys=capsys)
    assert code == 0 and "Nothing was learnt" in printed


def test_weights_that_nobody_trained_are_noticed_before_the_first_update(dataset, tmp_path, audible, monkeypatch):
    set_up = loop.set_up

    def with_noise(*arguments):
        stage = set_up(*arguments)
        torch.nn.init.normal_(stage.policy.adapters()[0].lora_B.weight)
        return stage

    monkeypatch.setattr(loop, "set_up", with_noise)
    with pytest.raises(TrainingError, match=r"KL divergence is not 0.*an adapter that was never loaded"):
        run_align(dataset.out, tmp_path / "run")


def test_a_device_is_named_with_its_number(monkeypatch):
    assert resolve("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert [resolve(name) for name in ("auto", "cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:1", "cuda:0", "cpu"]
    for name in ("cuda:2", "cuda:", "cuda:x", "mps", ""):
        with pytest.raises(UsageError, match=r"Expected auto, cpu, cuda:0, cuda:1"):
            resolve(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve("auto") == "cpu"


def test_a_file_of_ones_own_changes_the_preset(tmp_path):
    (tmp_path / "mine.yaml").write_text("axes: [pause, backchannel]\noptimiser: {lr: 1e-6}\njudge:\n  url:\n")
    found = align_settings("single-gpu", read_yaml(tmp_path / "mine.yaml") | {"steps": "7"})
    assert (found.axes, found.optimiser.lr, found.judge.url, found.steps) == (("pause", "backchannel"), 1e-6, "", 7)
    assert found.model.lora_rank == 32 and found.optimiser.warmup_steps == 5
    for text, expected in (
        ("- 1", "does not hold settings"),
        ("a: [", "cannot be read"),
        ("lr: 1", "Unknown setting 'lr'"),
    ):
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(UsageError, match=expected):
            align_settings("paper", read_yaml(tmp_path / "mine.yaml"))


USAGE = {
    ("DATASET",): "Missing argument 'run_dir'",
    ("nowhere", "RUN"): "Expected a folder that `segkit extract` wrote",
    ("DATASET", "RUN", "--policy", "nowhere"): "no such folder",
    ("DATASET", "RUN", "--preset", "papre"): 'Did you mean "paper"',
    ("DATASET", "RUN", "--set", "lr=1"): "Unknown setting 'lr'",
    ("DATASET", "RUN", "--set", "steps"): "Expected NAME=VALUE",
    ("DATASET", "RUN", "--set", "steps=many"): "Expected a whole number, 1 or more",
    ("DATASET", "RUN", "--set", "minibatch=3"): "a divisor of completions",
    ("DATASET", "RUN", "--set", "evaluation.every=0"): "1 or more",
    ("DATASET", "RUN", "--set", "axes=paws"): "Did you mean 'pause'?",
    ("DATASET", "RUN", "--set", "axes="): "at least one axis",
    ("DATASET", "RUN", "--set", "completions=1"): "2 or more",
    ("DATASET", "RUN", "--set", "judge.url=http://localhost:1/v1"): "Expected judge.model",
    ("DATASET", "RUN", "--set", "model.export=lora"): "lora_rank",
    ("DATASET", "RUN", "--set", "rewards.barge_in=never"): "no-response",
    ("DATASET", "RUN", "--set", "sampling.text_temperature=0"): "more than 0",
    ("DATASET", "RUN", "--asr", "parakeet"): "whisperx",
    ("DATASET", "RUN", "--config", "nowhere.yaml"): "cannot be read",
    ("DATASET", "RUN", "--device", "cuda:99"): "cannot be used here",
    ("DATASET", "RUN", "--device", "gpu"): "cannot be used here",
    ("DATASET", "RUN", "--asr", "whisperx"): "Expected nothing without a judge",
    ("DATASET", "FULL"): "is not empty and is not the folder of a run",
}


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_wrong_usage_exits_with_2_and_says_what_was_expected(arguments, dataset, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    places = {"DATASET": dataset.out, "RUN": tmp_path / "run", "FULL": tmp_path / "full"}
    given = [places.get(argument, argument) for argument in arguments]
    policy = [] if "--policy" in arguments else ["--policy", "tiny"]
    code, _, said = segkit("align", *given, *policy, capsys=capsys)
    assert code == 2 and USAGE[arguments] in said and "Traceback" not in said
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_without_the_extra_it_says_which(monkeypatch, capsys):
    monkeypatch.setattr(api, "find_spec", lambda package: None)
    code, _, said = segkit("align", "segments", "run", capsys=capsys)
    assert code == 2 and 'pip install "segkit[train]"' in said


def test_a_dry_run_writes_nothing(dataset, tmp_path, capsys):
    settings = [f"--set={name}={value}" for name, value in SMALL.items()]
    code, printed, _ = segkit(
        "align", dataset.out, tmp_path / "run", "--policy", "tiny", "--dry-run", *settings, capsys=capsys
    )
    assert code == 0 and not (tmp_path / "run").exists()
    for expected in ("4 steps of 3 groups of 4 completions", "peak", "One group:", "advantage", "people"):
        assert expected in printed
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed  # everything fits 80 columns
