"""What one update does; tests/test_update_oracle.py computes two of them a second time."""

import numpy as np
import pytest
import torch

from segkit.alignment.objective import token_log_probs
from segkit.train.checkpoints import open_checkpoint
from segkit.train.config import load
from segkit.train.moshi import MoshiPolicy
from segkit.train.optimiser import MasterAdamW
from segkit.train.rollout import rollout
from segkit.train.scenes import Scene
from segkit.train.scoring import Scored
from segkit.train.update import update


def one_group(policy, advantages, frames=40, start=25):
    """A group of two completions of noise, with given advantages."""
    audio = 0.1 * np.random.default_rng(0).standard_normal(frames * 1920).astype(np.float32)
    scene = Scene({"axis": "pause", "id": "0"}, audio, start, frames, 0.0)
    (group,) = rollout(policy, [scene], 2, (0,), 2, lambda *_: None)
    scored = Scored({"timing": np.array(advantages)}, np.array(advantages), {})
    return scene, group, scored


@pytest.mark.parametrize("rank", [0, 4])
def test_an_update_raises_the_better_completion_and_lowers_the_worse(tmp_path, rank):
    overrides = {
        "completions": "2",
        "minibatch": "2",
        "groups": "1",
        "optimiser.lr": "1e-3",
        "model.lora_rank": str(rank),
    }
    config = load("paper", overrides=overrides)
    policy = MoshiPolicy(open_checkpoint("tiny", tmp_path), config.model, config.sampling, "cpu")
    scene, group, scored = one_group(policy, [1.0, -1.0])

    def log_probs():
        with torch.no_grad(), policy.updating():
            return token_log_probs(policy.text_logits(group), group.text, 0.7)[:, scene.start_frame :].sum(1)

    before = log_probs()
    optimiser = MasterAdamW(policy.trainable(), config.optimiser, steps=10)
    facts = update(policy, optimiser, [scene], [group], [scored], config, 0, lambda *_: None)
    moved = log_probs() - before
    assert moved[0] > 0 > moved[1]
    assert facts["grad_norm"] > 0


@pytest.mark.parametrize("minibatch", [1, 2])
def test_how_many_completions_pass_at_once_changes_nothing(tmp_path, minibatch):
    """Padding and shares: groups of different lengths, one gradient whatever the microbatch."""
    results = []
    for microbatch in (1, 3, 4):
        changes = {
            "completions": "2",
            "minibatch": str(minibatch),
            "groups": "2",
            "optimiser.microbatch": str(microbatch),
        }
        config = load("paper", overrides=changes | {"optimiser.lr": "1e-4", "objective.beta": "0.1"})
        policy = MoshiPolicy(open_checkpoint("tiny", tmp_path), config.model, config.sampling, "cpu")
        staged = [one_group(policy, [1.0, -1.0]), one_group(policy, [-1.0, 1.0], frames=23, start=3)]
        optimiser = MasterAdamW(policy.trainable(), config.optimiser, steps=10)
        facts = update(policy, optimiser, *zip(*staged, strict=True), config, 0, lambda *_: None)
        results.append((facts, policy.lm.text_linear.weight.detach().clone()))
    for facts, weight in results[1:]:
        for name in ("loss", "kl", "clipped", "grad_norm"):
            assert facts[name] == pytest.approx(results[0][0][name], rel=1e-3, abs=1e-6)
        assert (weight - results[0][1]).abs().max() < 1e-5  # of updates of 1e-4


def test_a_group_without_a_better_one_changes_nothing_but_by_weight_decay(tmp_path):
    config = load("paper", overrides={"completions": "2", "groups": "1", "optimiser.weight_decay": "0"})
    policy = MoshiPolicy(open_checkpoint("tiny", tmp_path), config.model, config.sampling, "cpu")
    before = {name: weight.detach().clone() for name, weight in policy.trainable().items()}
    optimiser = MasterAdamW(policy.trainable(), config.optimiser, steps=10)
    facts = update(policy, optimiser, *zip(one_group(policy, [0.0, 0.0]), strict=True), config, 0, lambda *_: None)
    assert facts["grad_norm"] == 0 and facts["loss"] == 0
    assert all(torch.equal(weight, before[name]) for name, weight in policy.trainable().items())
