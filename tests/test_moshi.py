"""The small random Moshi: sampling and training see the same model, and everything is on one clock."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from moshi.models import LMGen
from moshi.utils.compile import no_compile

from segkit.alignment.objective import token_log_probs
from segkit.errors import UsageError
from segkit.train import moshi
from segkit.train.checkpoints import open_checkpoint
from segkit.train.config import ModelConfig, OptimiserConfig, SamplingConfig
from segkit.train.moshi import MoshiPolicy
from segkit.train.optimiser import MasterAdamW
from segkit.train.policy import Completions
from segkit.train.rollout import rollout
from segkit.train.scenes import Scene
from segkit.train.tiny import write_tiny_moshi

FRAME = 1920
MODELS = {"lora": ModelConfig(lora_rank=4), "all weights": ModelConfig()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_moshi(tmp_path_factory.mktemp("tiny"))


def load(tiny, model=MODELS["lora"], device="cpu"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MoshiPolicy(open_checkpoint(str(tiny), tiny), model, SamplingConfig(), device)


@pytest.fixture(scope="module")
def policy(tiny):
    return load(tiny)


def noise(frames, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(frames * FRAME).astype(np.float32)


def scene(frames, start_frame, seed=0):
    return Scene({"axis": "pause", "id": str(seed)}, noise(frames, seed), start_frame, frames, 0.0)


def disturb(policy, by=0.05):
    """Weights somewhere else than at the beginning, where an adapter is nothing."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in policy.trainable().values():
            weight += by * torch.randn_like(weight)


def sample(policy, user, force=None):
    """Completions and the text logits that sampling saw, (B, steps, V); `force` may overwrite audio tokens."""
    logits, steps = [], iter(range(10_000))
    with pytest.MonkeyPatch.context() as patch:
        see, hear = moshi._Tape.on_logits, moshi._Tape.on_audio

        def on_audio(tape, tokens):
            if force:
                force(next(steps), tokens)
            hear(tape, tokens)

        patch.setattr(moshi._Tape, "on_logits", lambda tape, x: (logits.append(x[:, 0, 0].clone()), see(tape, x)))
        patch.setattr(moshi._Tape, "on_audio", on_audio)
        torch.manual_seed(0)
        said = policy.sample(list(user), len(user), lambda *_: None)
        return Completions.concatenate(said), torch.stack(logits, 1)


@torch.no_grad()
def teacher_forced(policy, completions):
    with policy.updating():
        return policy.text_logits(completions)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_streaming_and_teacher_forced_text_logits_are_the_same(tiny, model):
    policy = load(tiny, model)
    disturb(policy)
    user = policy.encode(torch.from_numpy(np.stack([noise(250, seed) for seed in range(4)])))
    assert_streaming_is_teacher_forcing(policy, user, (250, 200, 121, 1))


def assert_streaming_is_teacher_forcing(policy, user, lengths):
    """In all text logits, to 1e-4: of the beginnings of completions, a row for each length, the first one whole."""
    completions, streamed = sample(policy, user)
    for row, length in enumerate(lengths):
        whole = completions[row : row + 1]
        parts = whole.user, whole.text, whole.audio, whole.log_probs
        begun = Completions(*(part[..., :length] for part in parts))
        assert (teacher_forced(policy, begun)[0] - streamed[row, :length]).abs().max() <= 1e-4
    late = Completions(user.roll(1, 2), completions.text, completions.audio, completions.log_probs)
    assert (
        teacher_forced(policy, late) - streamed[:, : lengths[0]]
    ).abs().max() > 0.1  # a slip of one frame would show


@pytest.mark.parametrize("rows", [1, 4, 64])
def test_segments_of_different_lengths_in_one_pass_are_what_they_are_alone(policy, rows):
    """Also where a completion starts in the row in which another one has ended."""
    scenes = [scene(60, 38, seed=1), scene(131, 100, seed=2), scene(90, 88, seed=3)]
    torch.manual_seed(0)
    groups = rollout(policy, scenes, completions=3, rows=rows, hook=lambda *_: None)
    for each, group in zip(scenes, groups, strict=True):
        assert group.text.shape == (3, each.frames) and group.audio.shape == (3, 8, each.frames)
        assert torch.equal(group.user[0], policy.encode(torch.from_numpy(each.audio[None]))[0])
        log_probs = token_log_probs(teacher_forced(policy, group), group.text, 0.7)
        assert (log_probs - group.log_probs).abs().max() <= 1e-4
        assert len({tuple(row.tolist()) for row in group.text}) == 3  # completions of a group differ


@pytest.mark.gpu
@pytest.mark.parametrize("dtype, largest", [("float32", 1e-3), ("bfloat16", 0.5)])
def test_cuda_graphs_replay_what_is_trained_on(tiny, dtype, largest):
    policy = load(tiny, ModelConfig(lora_rank=4, dtype=dtype), "cuda")
    disturb(policy)
    scenes = [scene(60, 38, seed=1), scene(131, 100, seed=2), scene(90, 88, seed=3)]
    groups = rollout(policy, scenes, completions=3, rows=4, hook=lambda *_: None)
    for group in groups:
        off = (token_log_probs(teacher_forced(policy, group), group.text, 0.7) - group.log_probs).abs()
        assert off.max() <= largest and off.mean() <= largest / 10


def test_bfloat16_samples_what_it_trains_on(tiny):
    policy = load(tiny, ModelConfig(lora_rank=4, dtype="bfloat16"))
    disturb(policy)
    (group,) = rollout(policy, [scene(60, 38)], completions=3, rows=3, hook=lambda *_: None)
    off = (token_log_probs(teacher_forced(policy, group), group.text, 0.7) - group.log_probs).abs()
    assert off.mean() < 0.05


def test_what_the_user_says_in_a_frame_is_heard_in_the_next(policy):
    frame = 31
    quiet, loud = noise(60), noise(60)
    loud[frame * FRAME :][:400] *= 10  # a burst of 17 ms
    codes = policy.encode(torch.from_numpy(np.stack([quiet, loud])))
    changed = codes[0] != codes[1]
    assert changed[0].nonzero()[0, 0] == changed.any(0).nonzero()[0, 0] == frame
    said, _ = sample(policy, codes[:1])
    twice = [Completions(each[None], said.text, said.audio, said.log_probs) for each in codes]
    before, after = (teacher_forced(policy, each)[0] for each in twice)
    assert (before != after).any(1).nonzero()[0, 0] == frame + 1


def test_a_token_said_in_a_frame_is_audible_in_that_frame(policy):
    """What the depth transformer is made to say at the delays of its streams comes out undelayed."""
    wanted = policy.encode(torch.from_numpy(noise(50, seed=5)[None]))
    delays = policy.lm.delays[1:9]

    def force(step, tokens):
        for k, delay in enumerate(delays):
            if 0 <= step - delay < 50:
                tokens[:, k] = wanted[:, k, step - delay]

    said, _ = sample(policy, policy.encode(torch.from_numpy(noise(50)[None])), force)
    assert torch.equal(said.audio, wanted)
    other = wanted.clone()
    other[:, :, 20] = (other[:, :, 20] + 7) % 64
    one, two = policy.decode(wanted)[0], policy.decode(other)[0]
    first = (one != two).nonzero()[0, 0]
    assert len(one) == 50 * FRAME and 20 * FRAME <= first < 21 * FRAME


def test_a_whole_file_is_coded_as_frame_by_frame(policy):
    audio = torch.from_numpy(noise(40)[None])
    with policy.codec.streaming(1), torch.no_grad():
        streamed = torch.cat([policy.codec.encode(part[:, None]) for part in audio.split(FRAME, 1)], 2)
    assert torch.equal(policy.encode(audio), streamed[:, :8])
    with policy.codec.streaming(1), torch.no_grad():
        decoded = torch.cat([policy.codec.decode(streamed[:, :, i : i + 1]) for i in range(40)], 2)
    torch.testing.assert_close(policy.decode(streamed)[0], decoded[0, 0], atol=1e-5, rtol=0)


def test_moshi_itself_samples_the_same(policy):
    """The first completion is what a plain loop over `LMGen`, fed as moshi's own inference does, returns."""
    user = policy.encode(torch.from_numpy(noise(30)[None]))
    said, _ = sample(policy, user)
    generator = LMGen(policy.lm, temp=0.8, top_k=250, temp_text=0.7, top_k_text=0)
    torch.manual_seed(0)
    with no_compile(), generator.streaming(1), torch.no_grad():
        assert generator.step(user[:, :, :1]) is None
        returned = torch.cat([generator.step(user[:, :, i : i + 1]) for i in range(30)], 2)
    assert torch.equal(returned[:, 1:], said.audio)
    assert torch.equal(returned[:, 0], said.text)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_reference_is_the_policy_before_training(tiny, model):
    policy = load(tiny, model)
    said, before = sample(policy, policy.encode(torch.from_numpy(noise(20)[None])))
    with policy.reference():
        assert torch.equal(teacher_forced(policy, said), teacher_forced(load(tiny, model), said))
    disturb(policy)
    assert not torch.allclose(teacher_forced(policy, said), before[:, :20], atol=0.1)
    with policy.reference():
        torch.testing.assert_close(teacher_forced(policy, said), before[:, :20], atol=1e-4, rtol=0)


def test_adapters_are_on_every_projection_of_the_temporal_transformer_and_nowhere_else(tiny):
    names = {name.rpartition(".lora_")[0] for name in load(tiny).trainable()}
    parts = "self_attn.in_projs.0", "self_attn.out_projs.0", "gating.linear_in", "gating.linear_out"
    assert names == {f"transformer.layers.{i}.{part}" for i in range(2) for part in parts}
    whole = set(load(tiny, MODELS["all weights"]).trainable())
    assert whole and not any(name.startswith(("depformer", "linears")) for name in whole)


def test_activations_computed_again_give_the_same_gradient(tiny):
    gradients = []
    for checkpointing in (False, True):
        policy = load(tiny, ModelConfig(lora_rank=4, checkpointing=checkpointing))
        disturb(policy)
        said, _ = sample(policy, policy.encode(torch.from_numpy(noise(20)[None])))
        with policy.updating():
            token_log_probs(policy.text_logits(said), said.text, 0.7).sum().backward()
        gradients.append([weight.grad for weight in policy.trainable().values()])
    for one, two in zip(*gradients, strict=True):
        assert one.any() and torch.equal(one, two)


def test_words_are_read_off_the_text(policy):
    pieces = {piece: policy.tokenizer.piece_to_id(piece) for piece in ("▁the", "▁t", "he", "in")}
    pad, end_pad = 3, 0
    text = [pad, end_pad, pieces["▁t"], pieces["in"], pad, pad, pieces["▁the"], end_pad, pieces["he"], pad]
    assert policy.words(torch.tensor(text)) == [(2, "tin"), (6, "thehe")]


def test_the_memory_that_can_be_counted_is_counted(tiny):
    policy = load(tiny, MODELS["all weights"])
    parts = policy.memory(rows=3, frames=50, microbatch=1, scored_frames=20)
    copies = sum(p.numel() for name, p in policy.lm.named_parameters() if not name.startswith(("depformer", "linears")))
    once = sum(p.numel() for p in [*policy.lm.parameters(), *policy.codec.parameters()])
    assert parts["weights"] == 4 * (once + copies)
    optimiser = MasterAdamW(policy.trainable(), OptimiserConfig(), steps=1)
    sum(weight.sum() for weight in policy.trainable().values()).backward()
    gradients = sum(weight.grad.numel() for weight in policy.trainable().values())
    optimiser.step(0)
    moments = sum(t.numel() for name, t in optimiser.state().items() if ":exp_avg" in name)
    assert parts["gradients and optimiser"] == 4 * (gradients + moments)
    with moshi._attention_over(policy.lm.transformer, 52), policy.lm.streaming(3):
        caches = [layer.self_attn._streaming_state.kv_cache.cache for layer in policy.lm.transformer.layers]
        assert parts["sampling: keys and values"] == sum(c.numel() * c.element_size() for c in caches)
    assert policy.lm.transformer.layers[0].self_attn.context == 3000


@pytest.mark.parametrize("model", [ModelConfig(lora_rank=4, export="lora"), ModelConfig(lora_rank=4), ModelConfig()])
def test_the_export_is_the_trained_policy(tiny, tmp_path, model):
    policy = load(tiny, model)
    disturb(policy)
    said, _ = sample(policy, policy.encode(torch.from_numpy(noise(20)[None])))
    commands = policy.export(tmp_path / "export")
    assert commands[0].startswith("python -m moshi.server --config-path")
    again = load(tmp_path / "export")
    torch.testing.assert_close(teacher_forced(again, said), teacher_forced(policy, said), atol=1e-4, rtol=0)
    assert torch.equal(again.decode(said.audio), policy.decode(said.audio))


def test_moshi_runs_the_exported_adapter(tiny, tmp_path):
    import soundfile

    policy = load(tiny, ModelConfig(lora_rank=4, export="lora"))
    policy.export(tmp_path / "before")
    disturb(policy, by=0.5)
    policy.export(tmp_path / "after")
    soundfile.write(tmp_path / "in.wav", noise(25), 24000)
    heard = [run_inference(tmp_path, f"{each}/config.json") for each in ("before", "after")]
    assert len(heard[0]) == len(heard[1]) == 25 * FRAME
    assert not np.array_equal(*heard)  # moshi seeds its chance: only the adapter differs


def run_inference(folder, config):
    import soundfile

    command = [sys.executable, "-m", "moshi.run_inference", "--config", config, "--device", "cpu"]
    environment = os.environ | {"NO_TORCH_COMPILE": "1"}
    arguments = ["--batch-size", "1", "in.wav", "out.wav"]
    done = subprocess.run(command + arguments, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return soundfile.read(folder / "out.wav")[0]


@pytest.mark.parametrize("export", ["lora", "merged"])
def test_the_export_of_a_checkpoint_from_the_hub_loads(tiny, tmp_path, export):
    """In the Hub's cache, files are links to blobs without a suffix."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for i, path in enumerate(tiny.glob("*.*")):
        blob = tmp_path / "blobs" / f"{i}"
        blob.write_bytes(path.read_bytes())
        (tmp_path / "snapshot" / path.name).symlink_to(blob)
    policy = load(tmp_path / "snapshot", ModelConfig(lora_rank=4, export=export))
    policy.export(tmp_path / "export")
    load(tmp_path / "export")


def break_config(folder, **changes):
    import json

    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


BROKEN = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "not json": (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
    "another model": (lambda folder: (folder / "config.json").write_text('{"architectures": ["Bert"]}'), "lacks"),
    "no delays": (lambda folder: break_config(folder, delays=None), "no delays"),
    "hibiki": (lambda folder: break_config(folder, model_type="hibiki"), "of the type 'hibiki'"),
    "only listens": (lambda folder: break_config(folder, dep_q=0), "does not listen and speak"),
    "late text": (lambda folder: break_config(folder, delays=[2] + [0] * 16), "text stream is delayed"),
    "other codec": (lambda folder: break_config(folder, codec="encodec"), "its codec is 'encodec'"),
    "other sizes": (lambda folder: break_config(folder, dim=32), "cannot be loaded"),
    "unknown option": (lambda folder: break_config(folder, heads=3), "cannot be loaded"),
    "missing file": (lambda folder: (folder / "mimi.safetensors").unlink(), "lacks"),
    "base is gone": (lambda folder: break_config(folder, moshi_name="file:///gone/model.safetensors"), "lacks /gone"),
    "no weights": (lambda folder: (folder / "model.safetensors").write_bytes(b"nothing"), "cannot be loaded"),
    "pickle": (
        lambda folder: (
            (folder / "model.safetensors").rename(folder / "model.pt"),
            break_config(folder, moshi_name="model.pt"),
        ),
        "not safetensors",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_moshi_is_told(tmp_path, case):
    spoil, expected = BROKEN[case]
    folder = write_tiny_moshi(tmp_path / "policy")
    spoil(folder)
    with pytest.raises(UsageError, match=expected):
        load(folder)


def test_a_policy_that_cannot_be_had_is_told(tmp_path):
    with pytest.raises(UsageError, match="no such folder, and nothing from the Hub"):
        open_checkpoint("nobody/nothing", tmp_path)
