"""The small random Moshi: sampling and training see the same model, and everything is on one clock."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from moshi.models import LMGen
from moshi.utils import compile
from moshi.utils.compile import no_compile
from support import assert_streaming_is_teacher_forcing, disturb, sample, teacher_forced

from segkit.alignment.objective import token_log_probs
from segkit.errors import UsageError
from segkit.models import streaming
from segkit.models.checkpoints import find_checkpoint
from segkit.models.devices import resolve
from segkit.models.open import find_model
from segkit.models.protocols import Completions
from segkit.models.streaming import Generator, Sampler, can_compile, chance, draw
from segkit.models.tiny import write_tiny_moshi
from segkit.models.training import Moshi
from segkit.rollouts.rollout import rollout
from segkit.rollouts.scenes import Scene
from segkit.settings import ModelSettings, OptimiserSettings, SamplingSettings
from segkit.tasks import nobody
from segkit.train.optimiser import MasterAdamW

FRAME = 1920
MODELS = {"lora": ModelSettings(lora_rank=4), "all weights": ModelSettings()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_moshi(tmp_path_factory.mktemp("tiny"))


def load(tiny, model=MODELS["lora"], device="cpu"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Moshi(find_checkpoint(str(tiny), tiny), model, SamplingSettings(), device)


@pytest.fixture(scope="module")
def policy(tiny):
    return load(tiny)


def noise(frames, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(frames * FRAME).astype(np.float32)


def scene(frames, start_frame, seed=0):
    return Scene({"axis": "pause", "id": str(seed)}, noise(frames, seed), start_frame, frames, 0.0)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_streaming_and_teacher_forced_text_logits_are_the_same(tiny, model):
    policy = load(tiny, model)
    disturb(policy)
    user = policy.encode(torch.from_numpy(np.stack([noise(250, seed) for seed in range(4)])))
    assert_streaming_is_teacher_forcing(policy, user, (250, 200, 121, 1))


@pytest.mark.parametrize("opening_s, frames", [(0, 0), (0.5, 7), (3, 38)])
def test_before_a_conversation_comes_silence_in_whole_frames(tiny, opening_s, frames):
    speaker = find_model(str(tiny)).speaker(ModelSettings(), SamplingSettings(opening_s=opening_s), "cpu")
    assert len(speaker.prologue.heard) == frames * FRAME and not speaker.prologue.heard.any()


@pytest.mark.parametrize("rows", [1, 4, 64])
def test_segments_of_different_lengths_in_one_pass_are_what_they_are_alone(policy, rows):
    """Also where a completion starts in the row in which another one has ended."""
    scenes = [scene(60, 38, seed=1), scene(131, 100, seed=2), scene(90, 88, seed=3)]
    groups = rollout(policy, scenes, completions=3, chance=(0,), rows=rows, hook=nobody)
    for each, group in zip(scenes, groups, strict=True):
        assert group.text.shape == (3, each.frames) and group.audio.shape == (3, 8, each.frames)
        assert torch.equal(group.user[0], policy.encode(torch.from_numpy(each.audio[None]))[0])
        log_probs = token_log_probs(teacher_forced(policy, group), group.text, 0.7)
        assert (log_probs - group.log_probs).abs().max() <= 1e-4
        assert len({tuple(row.tolist()) for row in group.text}) == 3  # completions of a group differ


@pytest.mark.gpu
@pytest.mark.parametrize("dtype, largest", [("float32", 1e-3), ("bfloat16", 0.5)])
def test_cuda_graphs_replay_what_is_trained_on(tiny, dtype, largest):
    """Also in a second pass of the same shape, whose weights are others, and after a pass of another shape."""
    policy = load(tiny, ModelSettings(lora_rank=4, dtype=dtype), resolve("cuda"))
    scenes = [scene(60, 38, seed=1), scene(131, 100, seed=2), scene(90, 88, seed=3)]
    for turn, staged in enumerate((scenes, scenes, scenes[:1], scenes)):
        disturb(policy, by=0.02)
        groups = rollout(policy, staged, completions=3, chance=(turn,), rows=4, hook=nobody)
        for group in groups:
            off = (token_log_probs(teacher_forced(policy, group), group.text, 0.7) - group.log_probs).abs()
            assert off.max() <= largest and off.mean() <= largest / 10


def test_bfloat16_samples_what_it_trains_on(tiny):
    policy = load(tiny, ModelSettings(lora_rank=4, dtype="bfloat16"))
    disturb(policy)
    (group,) = rollout(policy, [scene(60, 38)], completions=3, chance=(0,), rows=3, hook=nobody)
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


def test_moshi_itself_is_on_the_same_clock(policy):
    """A plain loop over `LMGen`, fed as moshi's own inference does and made to say the same, returns the same."""
    user = policy.encode(torch.from_numpy(noise(30)[None]))
    said, seen = sample(policy, user)
    delays, logits, steps = policy.lm.delays[1:9], [], iter(range(31))

    def say(tokens):
        step = next(steps)
        tokens[:] = said.text[:, step] if step < 30 else 3
        for k, delay in enumerate(delays):
            if 0 <= step - delay < 30:
                audio[:, k, 0] = said.audio[:, k, step - delay]

    audio = torch.zeros(1, 8, 1, dtype=torch.long)
    generator = LMGen(policy.lm, on_text_hook=say, on_text_logits_hook=lambda x: logits.append(x[:, 0, 0].clone()))
    with no_compile(), generator.streaming(1), torch.no_grad():
        assert generator.step(user[:, :, :1], audio) is None
        returned = torch.cat([generator.step(user[:, :, i : i + 1], audio) for i in range(30)], 2)
    assert torch.equal(returned[:, 1:], said.audio) and torch.equal(returned[:, 0], said.text)
    torch.testing.assert_close(torch.stack(logits, 1), seen[:, :31], atol=1e-5, rtol=0)


def test_audio_tokens_are_those_that_their_numbers_draw_from_the_depth_transformer(policy):
    """Moshi's own pass for training gives the distribution of every audio token."""
    user = policy.encode(torch.from_numpy(np.stack([noise(30, 1), noise(30, 2)])))
    said, _ = sample(policy, user)
    with torch.no_grad(), policy.updating():
        logits = policy.lm(torch.cat([said.text[:, None], said.audio, said.user], 1)).logits  # (B, K, T, V)
    for b in range(2):
        numbers = chance(b, 32, 9)
        for k, delay in enumerate(policy.lm.delays[1:9]):
            frames = range(30 - delay)  # the text of the frame in which a late stream says it has to be known
            drawn = draw(logits[b, k, : 30 - delay], 0.8, 250, torch.stack([numbers[t + delay, 1 + k] for t in frames]))
            assert torch.equal(drawn, said.audio[b, k, : 30 - delay])


def test_text_is_drawn_at_its_temperature(policy):
    """From all of the distribution that the log-probabilities are of, by the first number of its frame."""
    said, _ = sample(policy, policy.encode(torch.from_numpy(np.stack([noise(200, 1), noise(200, 2)]))))
    logits = teacher_forced(policy, said)
    drawn = [draw(logits[b], 0.7, 0, chance(b, 200, 9)[:, 0]) for b in range(2)]
    assert torch.equal(torch.stack(drawn), said.text)
    assert not torch.equal(draw(logits[0], 1.0, 0, chance(0, 200, 9)[:, 0]), said.text[0])


@pytest.mark.parametrize("top_k", [0, 3])
def test_tokens_are_drawn_with_their_probabilities(top_k):
    logits = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0, 2.5])
    numbers = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    drawn = draw(logits.expand(20_000, -1), 0.7, top_k, numbers)
    expected = (logits / 0.7).softmax(-1)
    if top_k:
        expected = torch.where(logits >= logits.sort().values[-top_k], expected, 0.0)
        expected /= expected.sum()
    assert (torch.bincount(drawn, minlength=6) / 20_000 - expected).abs().max() <= 1e-4
    edge = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert draw(torch.tensor([[-1e4, 0.0, -1e4]] * 2), 0.7, top_k, edge).tolist() == [1, 1]


def test_a_completion_is_the_same_alone_and_in_any_company(policy):
    """In any order, in any row, after any other, and in a group of any size; another seed, step or number is not."""
    scenes = [scene(60, 38, seed=1), scene(131, 100, seed=2), scene(90, 88, seed=3), scene(60, 38, seed=1)]
    scenes[3] = dataclasses.replace(scenes[3], repeat=1)

    def said(chosen, completions=3, chance=(0, 7), rows=5):
        groups = rollout(policy, [scenes[i] for i in chosen], completions, chance, rows, nobody)
        return {
            i: [(g.text, g.audio) for g in map(group.__getitem__, thirds)]
            for i, group in zip(chosen, groups, strict=True)
        }

    thirds = [slice(n, n + 1) for n in range(3)]
    together = said([0, 1, 2, 3])
    for others in (said([2, 3, 1, 0], rows=2), said([1]), said([0, 1, 2, 3], rows=64), said([3], completions=5)):
        for i, group in others.items():
            for one, two in zip(together[i], group, strict=True):
                assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    ways = [together[0], together[3], said([0], chance=(0, 8))[0], said([0], chance=(1, 7))[0]]
    assert len({tuple(text.flatten().tolist()) for group in ways for text, _ in group}) == 12


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_what_is_kept_between_passes_is_not_heard(tiny, device):
    """A pass after others of the same and of another shape, and after an update, is that of a new sampler."""
    policy = load(tiny, ModelSettings(lora_rank=4, dtype="float32"), resolve(device))
    scenes = [scene(60, 38, seed=1), scene(131, 100, seed=2)]
    turns = [scenes[:1], scenes[:1], scenes, scenes[:1]]
    for turn, staged in enumerate(turns):
        disturb(policy, by=0.02)
        (kept, *_) = rollout(policy, staged, 3, (turn,), 3, nobody)
        assert not policy.lm.is_streaming
        policy.sampler = Sampler(policy.lm, policy.sampling) if turn == 2 else policy.sampler
        fresh = load(tiny, ModelSettings(lora_rank=4, dtype="float32"), resolve(device))
        for name, weight in fresh.parameters().items():
            weight.data.copy_(policy.parameters()[name])
        (new, *_) = rollout(fresh, staged, 3, (turn,), 3, nobody)
        assert torch.equal(kept.text, new.text) and torch.equal(kept.audio, new.audio)
        off = token_log_probs(teacher_forced(policy, kept), kept.text, 0.7) - kept.log_probs
        assert off.abs().max() <= (1e-4 if device == "cpu" else 1e-3)


def test_a_pass_that_failed_is_in_nobodys_way(tiny, monkeypatch):
    """Out of memory, for example: fewer rows are tried next."""
    policy, users = load(tiny), list(torch.zeros(2, 8, 20, dtype=torch.long))
    before = policy.sample(users, [5, 6], 2, nobody)
    for where in ("streaming_forever", "step"):
        with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
            patch.setattr(Generator, where, lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError()))
            policy.sample(users, [5, 6], 1 if where == "streaming_forever" else 2, nobody)
        assert not policy.lm.is_streaming
        after = policy.sample(users, [5, 6], 1, nobody)
        assert all(torch.equal(one.text, two.text) for one, two in zip(before, after, strict=True))


def test_without_a_compiler_sampling_goes_on_and_says_so(monkeypatch):
    def broken(function):
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.\nmore")

    monkeypatch.delenv("NO_TORCH_COMPILE", raising=False)
    monkeypatch.setattr(torch, "compile", broken)
    can_compile.cache_clear()
    with pytest.warns(UserWarning, match=r"Failed to find C compiler.*apt-get install gcc"):
        assert not can_compile("cpu")
    can_compile.cache_clear()
    monkeypatch.setenv("NO_TORCH_COMPILE", "1")
    assert not can_compile("cpu")  # and no warning
    can_compile.cache_clear()
    gpu = torch.device("cuda:0")
    for works, eager in ((False, True), (True, False)):
        monkeypatch.setattr(streaming, "can_compile", lambda device, works=works: works)
        with streaming.compiled_if_possible(gpu):
            assert compile._compile_disabled is eager


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
    names = {name.rpartition(".lora_")[0] for name in load(tiny).parameters()}
    parts = "self_attn.in_projs.0", "self_attn.out_projs.0", "gating.linear_in", "gating.linear_out"
    assert names == {f"transformer.layers.{i}.{part}" for i in range(2) for part in parts}
    whole = set(load(tiny, MODELS["all weights"]).parameters())
    assert whole and not any(name.startswith(("depformer", "linears")) for name in whole)


def test_activations_computed_again_give_the_same_gradient(tiny):
    gradients = []
    for checkpointing in (False, True):
        policy = load(tiny, ModelSettings(lora_rank=4, checkpointing=checkpointing))
        disturb(policy)
        said, _ = sample(policy, policy.encode(torch.from_numpy(noise(20)[None])))
        with policy.updating():
            token_log_probs(policy.text_logits(said), said.text, 0.7).sum().backward()
        gradients.append([weight.grad for weight in policy.parameters().values()])
    for one, two in zip(*gradients, strict=True):
        assert one.any() and torch.equal(one, two)


def test_words_are_read_off_the_text(policy):
    pieces = {piece: policy.tokenizer.piece_to_id(piece) for piece in ("▁the", "▁t", "he", "in")}
    pad, end_pad = 3, 0
    text = [pad, end_pad, pieces["▁t"], pieces["in"], pad, pad, pieces["▁the"], end_pad, pieces["he"], pad]
    assert policy.words(torch.tensor(text)) == [(2, "tin"), (6, "thehe")]


def test_the_memory_that_can_be_counted_is_counted(tiny):
    policy = load(tiny, MODELS["all weights"])
    parts = policy.memory(rows=3, frames=50, completions=4, microbatch=1, scored_frames=20)
    copies = sum(p.numel() for name, p in policy.lm.named_parameters() if not name.startswith(("depformer", "linears")))
    once = sum(p.numel() for p in [*policy.lm.parameters(), *policy.codec.parameters()])
    assert parts["weights"] == 4 * (once + copies)
    optimiser = MasterAdamW(policy.parameters(), OptimiserSettings(), steps=1)
    sum(weight.sum() for weight in policy.parameters().values()).backward()
    gradients = sum(weight.grad.numel() for weight in policy.parameters().values())
    optimiser.step(0)
    moments = sum(t.numel() for name, t in optimiser.state().items() if ":exp_avg" in name)
    assert parts["gradients and optimiser"] == 4 * (gradients + moments)
    policy.sample(list(torch.zeros(3, 8, 50, dtype=torch.long)), range(3), 3, nobody)
    states = [state for name, state in policy.sampler._state.items() if name.endswith("self_attn")]
    caches = [state.kv_cache.cache for state in states if state.kv_cache is not None]
    assert len(caches) == 2 and caches[0].shape[3] % 8 == 0
    assert parts["keys and values"] == sum(c.numel() * c.element_size() for c in caches)
    assert policy.lm.transformer.layers[0].self_attn.context == 3000


@pytest.mark.parametrize(
    "model", [ModelSettings(lora_rank=4, export="lora"), ModelSettings(lora_rank=4), ModelSettings()]
)
def test_the_export_is_the_trained_policy(tiny, tmp_path, model):
    policy = load(tiny, model)
    disturb(policy)
    said, _ = sample(policy, policy.encode(torch.from_numpy(noise(20)[None])))
    commands = policy.export(tmp_path / "export")
    assert commands[0].startswith(f"(cd {tmp_path / 'export'} && python -m moshi.server --config-path config.json")
    again = load(tmp_path / "export")
    torch.testing.assert_close(teacher_forced(again, said), teacher_forced(policy, said), atol=1e-4, rtol=0)
    assert torch.equal(again.decode(said.audio), policy.decode(said.audio))


def test_moshi_runs_the_exported_adapter(tiny, tmp_path):
    import soundfile

    policy = load(tiny, ModelSettings(lora_rank=4, export="lora"))
    policy.export(tmp_path / "before")
    disturb(policy, by=0.5)
    policy.export(tmp_path / "after")
    soundfile.write(tmp_path / "in.wav", noise(25), 24000)
    heard = [run_inference(tmp_path, each) for each in ("before", "after")]
    assert len(heard[0]) == len(heard[1]) == 25 * FRAME
    assert not np.array_equal(*heard)  # moshi seeds its chance: only the adapter differs


def run_inference(folder, export):
    import soundfile

    command = [sys.executable, "-m", "moshi.run_inference", "--config", "config.json", "--device", "cpu"]
    environment = os.environ | {"NO_TORCH_COMPILE": "1"}
    arguments = ["--batch-size", "1", str(folder / "in.wav"), str(folder / "out.wav")]
    done = subprocess.run(command + arguments, cwd=folder / export, env=environment, capture_output=True, text=True)
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
    policy = load(tmp_path / "snapshot", ModelSettings(lora_rank=4, export=export))
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
        find_checkpoint("nobody/nothing", tmp_path)
