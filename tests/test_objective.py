"""The GRPO objective and the advantages against formulas written down a second time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segkit.alignment.advantages import decoupled, standardise
from segkit.alignment.objective import grpo, token_log_probs

TEMPERATURE, CLIP, BETA = 0.7, 0.2, 0.01


def plain_grpo(logits, reference_logits, tokens, old_log_probs, advantages, scored):
    """Section 4 of the method, frame by frame, in double precision."""
    losses = []
    for b in range(len(logits)):
        frames = []
        for t in np.flatnonzero(scored[b]):
            pi, ref = (np.exp(x[b, t] / TEMPERATURE) for x in (logits, reference_logits))
            pi, ref = pi / pi.sum(), ref / ref.sum()
            rho = pi[tokens[b, t]] / np.exp(old_log_probs[b, t])
            clipped = np.clip(rho, 1 - CLIP, 1 + CLIP)
            kl = np.sum(pi * np.log(pi / ref))
            frames.append(-min(rho * advantages[b], clipped * advantages[b]) + BETA * kl)
        losses.append(np.mean(frames))
    return np.mean(losses)


def case(seed, spread=1.0, rows=3, frames=7, vocabulary=6):
    """Random logits, tokens sampled under slightly different ones, and masks with context and padding."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, frames, vocabulary))
    reference = logits + spread * rng.normal(size=logits.shape)
    tokens = rng.integers(vocabulary, size=(rows, frames))
    before = logits + 0.2 * spread * rng.normal(size=logits.shape)
    old = token_log_probs(torch.tensor(before), torch.tensor(tokens), TEMPERATURE).double().numpy()
    scored = np.zeros((rows, frames), bool)
    for row in scored:
        start = rng.integers(frames - 1)
        row[start : rng.integers(start + 1, frames + 1)] = True
    return logits, reference, tokens, old, rng.normal(size=rows), scored


def loss_of(logits, reference, tokens, old, advantages, scored, beta=BETA):
    floats = (torch.as_tensor(x).float() for x in (logits, reference, old, advantages))
    logits, reference, old, advantages = floats
    return grpo(logits, reference, torch.tensor(tokens), old, advantages, torch.tensor(scored), TEMPERATURE, CLIP, beta)


@pytest.mark.parametrize("seed", range(20))
def test_the_loss_is_the_formula(seed):
    given_ = case(seed)
    assert loss_of(*given_).loss.item() == pytest.approx(plain_grpo(*given_), abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_its_gradient_is_that_of_finite_differences_and_zero_outside_the_segment(seed):
    logits, *rest = case(seed)
    leaf = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    loss_of(leaf, *rest).loss.backward()
    gradient = leaf.grad.double().numpy()
    expected = np.zeros_like(logits)
    for index in np.ndindex(logits.shape):
        up, down = logits.copy(), logits.copy()
        up[index] += 1e-6
        down[index] -= 1e-6
        expected[index] = (plain_grpo(up, *rest) - plain_grpo(down, *rest)) / 2e-6
    np.testing.assert_allclose(gradient, expected, atol=2e-6)
    assert not gradient[~rest[-1]].any()


def test_equal_rewards_and_an_unchanged_policy_give_a_gradient_of_exactly_zero():
    logits, _, tokens, old, _, scored = case(0)
    leaf = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    advantages = standardise(np.full(len(logits), -0.37))
    loss = loss_of(leaf, leaf.detach(), tokens, old, advantages, scored)
    loss.loss.backward()
    assert not leaf.grad.any()
    assert float(loss.kl) == 0.0


@pytest.mark.parametrize("advantage", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("nats", [-1000.0, -100.0, 100.0, 1000.0])
def test_any_ratio_gives_numbers(advantage, nats):
    """And a gradient where there is one: the likelier a bad token has become, the harder it is held back."""
    logits, _, tokens, _, _, scored = case(3)
    same = token_log_probs(torch.tensor(logits), torch.tensor(tokens), TEMPERATURE)
    leaf = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    loss = loss_of(leaf, leaf.detach(), tokens, same - nats, np.full(len(logits), advantage), scored, beta=0.0)
    loss.loss.backward()
    assert torch.isfinite(loss.loss) and torch.isfinite(leaf.grad).all() and torch.isfinite(loss.ratio_off)
    pushed = bool(leaf.grad.abs().max() > 1.0)
    assert pushed == (advantage < 0 < nats)
    assert advantage or (loss.loss.item() == 0 and not leaf.grad.any())


def test_what_is_not_scored_may_be_anything():
    logits, reference, tokens, old, advantages, scored = case(1)
    clean = loss_of(logits, reference, tokens, old, advantages, scored).loss
    logits[~scored], reference[~scored], old[~scored] = np.nan, np.inf, -np.inf
    leaf = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    loss = loss_of(leaf, reference, tokens, old, advantages, scored).loss
    loss.backward()
    assert loss.item() == pytest.approx(clean.item())
    assert torch.isfinite(leaf.grad[torch.tensor(scored)]).all()


def test_what_to_watch():
    logits, _, tokens, _, _, scored = case(2)
    same = token_log_probs(torch.tensor(logits), torch.tensor(tokens), TEMPERATURE)
    first = loss_of(logits, logits, tokens, same, np.array([1.0, -1.0, 0.5]), scored)
    assert float(first.ratio_off) <= 1e-5 and float(first.clipped) == 0 and float(first.kl) == 0
    likelier = loss_of(logits, logits, tokens, same - 1.0, np.array([1.0, 1.0, 1.0]), scored)
    assert float(likelier.clipped) == pytest.approx(1.0)  # rho is e, the advantage is positive
    held_back = loss_of(logits, logits, tokens, same - 1.0, np.array([-1.0, -1.0, -1.0]), scored)
    assert float(held_back.clipped) == 0.0


def test_log_probs_are_at_the_temperature_of_sampling():
    logits, tokens = torch.tensor([[[0.0, 0.7 * np.log(3.0)]]]), torch.tensor([[1]])
    assert token_log_probs(logits, tokens, 0.7).exp().item() == pytest.approx(0.75)


group = arrays(np.float64, st.integers(2, 16), elements=st.floats(-50, 50, width=32))


@settings(deadline=None)
@given(group, st.floats(-10, 10), st.floats(0.1, 10))
def test_advantages_ignore_offset_and_scale(rewards, offset, scale):
    advantages = standardise(rewards)
    assert advantages.sum() == pytest.approx(0, abs=1e-6)
    if rewards.std() > 1e-3:
        assert advantages.std() == pytest.approx(1)
        np.testing.assert_allclose(standardise(offset + scale * rewards), advantages, atol=1e-6)
        assert (np.diff(advantages[np.argsort(rewards)]) >= 0).all()


@given(st.floats(-1e6, 1e6), st.integers(2, 32))
def test_equal_rewards_have_no_advantage(value, size):
    assert not standardise(np.full(size, value)).any()


def test_components_weigh_the_same_and_a_missing_score_leaves_its_component_out():
    timing, judge = np.array([-9.0, -1.0, -1.0, -9.0]), np.array([2.0, 2.0, 1.0, 1.0])
    assert decoupled([timing, judge]).tolist() == [0, 2, 0, -2]
    assert decoupled([timing, np.array([2.0, np.nan, 1.0, 1.0])]).tolist() == [-1, 1, 1, -1]
    assert decoupled([np.ones(4), judge]).tolist() == [1, 1, -1, -1]
