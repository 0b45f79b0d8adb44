"""What one update does; tests/test_update_oracle.py computes two of them a second time."""

import numpy as np
import pytest
import torch

from segkit.alignment.objective import token_log_probs
from segkit.models.open import find_model
from segkit.rollouts.rollout import rollout
from segkit.rollouts.scenes import Scene
from segkit.settings import AlignSettings
from segkit.tasks import nobody
from segkit.train.optimiser import MasterAdamW
from segkit.train.update import update


def one_group(policy, advantages, frames=40, start=25):
    """A group of two completions of noise, with given advantages."""
    audio = 0.1 * np.random.default_rng(0).standard_normal(frames * 1920).astype(np.float32)
    scene = Scene({"axis": "pause", "id": "0"}, audio, start, frames, 0.0)
    (group,) = rollout(policy, [scene], 2, (0,), 2, nobody)
    return scene, group, np.array(advantages)


@pytest.mark.parametrize("rank", [0, 4])
def test_an_update_raises_the_better_completion_and_lowers_the_worse(tmp_path, rank):
    changes = {"completions": 2, "minibatch": 2, "groups": 1, "optimiser.lr": 1e-3, "model.lora_rank": rank}
    settings = AlignSettings().changed(changes)
    policy = find_model("tiny", tmp_path).trainable(settings.model, settings.sampling, "cpu")
    scene, group, advantages = one_group(policy, [1.0, -1.0])

    def log_probs():
        with torch.no_grad(), policy.updating():
            return token_log_probs(policy.text_logits(group), group.text, 0.7)[:, scene.start_frame :].sum(1)

    before = log_probs()
    optimiser = MasterAdamW(policy.parameters(), settings.optimiser, steps=10)
    facts = update(policy, optimiser, [scene], [group], [advantages], settings, 0, nobody)
    moved = log_probs() - before
    assert moved[0] > 0 > moved[1]
    assert facts["grad_norm"] > 0


@pytest.mark.parametrize("minibatch", [1, 2])
def test_how_many_completions_pass_at_once_changes_nothing(tmp_path, minibatch):
    """Padding and shares: groups of different lengths, one gradient whatever the microbatch."""
    results = []
    for microbatch in (1, 3, 4):
        changes = {"completions": 2, "minibatch": minibatch, "groups": 2, "optimiser.microbatch": microbatch}
        settings = AlignSettings().changed(changes | {"optimiser.lr": 1e-4, "objective.beta": 0.1})
        policy = find_model("tiny", tmp_path).trainable(settings.model, settings.sampling, "cpu")
        staged = [one_group(policy, [1.0, -1.0]), one_group(policy, [-1.0, 1.0], frames=23, start=3)]
        optimiser = MasterAdamW(policy.parameters(), settings.optimiser, steps=10)
        facts = update(policy, optimiser, *zip(*staged, strict=True), settings, 0, nobody)
        results.append((facts, policy.lm.text_linear.weight.detach().clone()))
    for facts, weight in results[1:]:
        for name in ("loss", "kl", "clipped", "grad_norm"):
            assert facts[name] == pytest.approx(results[0][0][name], rel=1e-3, abs=1e-6)
        assert (weight - results[0][1]).abs().max() < 1e-5  # of updates of 1e-4


def test_a_group_without_a_better_one_changes_nothing_but_by_weight_decay(tmp_path):
    settings = AlignSettings().changed({"completions": 2, "groups": 1, "optimiser.weight_decay": 0})
    policy = find_model("tiny", tmp_path).trainable(settings.model, settings.sampling, "cpu")
    before = {name: weight.detach().clone() for name, weight in policy.parameters().items()}
    optimiser = MasterAdamW(policy.parameters(), settings.optimiser, steps=10)
    facts = update(policy, optimiser, *zip(one_group(policy, [0.0, 0.0]), strict=True), settings, 0, nobody)
    assert facts["grad_norm"] == 0 and facts["loss"] == 0
    assert all(torch.equal(weight, before[name]) for name, weight in policy.parameters().items())
