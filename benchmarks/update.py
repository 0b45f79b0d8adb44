"""Updating: log-probabilities and gradients by one teacher-forced pass, against stepping through the tokens.

    python benchmarks/update.py                      # the small random Moshi on a CPU
    python benchmarks/update.py --moshi              # random weights of Moshi's size in bfloat16 on a GPU

The text log-probabilities of a group are found three ways, without gradients: step by step with a batch of
one, step by step with the whole group, and by the teacher-forced pass that training uses. Below that, whole
updates (old and reference log-probabilities, forward, backward, AdamW) with one and with more completions
per pass, with and without computing activations again. Each is measured in a process of its own.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from moshi.utils.compile import no_compile
from rollout import RECIPE, RandomMoshi

from segkit import AlignSettings, open_model
from segkit.alignment.objective import token_log_probs
from segkit.models.devices import resolve
from segkit.models.protocols import Completions
from segkit.models.streaming import attention_over
from segkit.models.training import Moshi
from segkit.rollouts.scenes import Scene
from segkit.tasks import nobody
from segkit.train.optimiser import MasterAdamW
from segkit.train.update import update

G = 16
FRAMES = 300
START = 100


def make(moshi: bool, **changes: object) -> tuple[Moshi, AlignSettings]:
    """A policy with an adapter, and settings for one group."""
    values = {"groups": 1, "completions": G, "minibatch": G, "model.lora_rank": 32}
    settings = AlignSettings().changed(values | {name.replace("__", "."): value for name, value in changes.items()})
    if moshi:
        random = RandomMoshi("random", None)  # type: ignore[arg-type]
        return Moshi(random, settings.model, settings.sampling, resolve("cuda")), settings
    torch.set_num_threads(1)
    policy = open_model("tiny", training=True, model=settings.model, sampling=settings.sampling, device="cpu")
    assert isinstance(policy, Moshi)
    return policy, settings


def group(policy: Moshi, frames: int) -> Completions:
    """Completions of random tokens, with the log-probabilities that the policy gives them."""
    lm, shape = policy.lm, (G, 8, frames)
    audio = [torch.randint(0, lm.card, shape, device=policy.device) for _ in range(2)]
    text = torch.randint(0, lm.text_card, (G, frames), device=policy.device)
    random = Completions(audio[0], text, audio[1], torch.zeros(G, frames, device=policy.device))
    with torch.no_grad(), policy.updating():
        rows = [random[i : i + 1] for i in range(G)]
        known = torch.cat([token_log_probs(policy.text_logits(row), row.text, 0.7) for row in rows])
    return Completions(audio[0], text, audio[1], known)


@torch.no_grad()
def stepwise(policy: Moshi, said: Completions, rows: int) -> None:
    """Log-probabilities by a streaming pass over tokens that are known, `rows` completions at once."""
    codes = torch.cat([said.text[:, None], said.audio, said.user], 1)
    with no_compile():
        for part in codes.split(rows):
            with attention_over(policy.lm.transformer, part.shape[2]), policy.lm.streaming(len(part)):
                for i in range(part.shape[2]):
                    _, logits = policy.lm.forward_text(part[:, :, i : i + 1])
                    token_log_probs(logits[:, 0], part[:, 0, i : i + 1], 0.7)


@torch.no_grad()
def teacher_forced(policy: Moshi, said: Completions) -> None:
    """Log-probabilities as training finds them, one completion at a time."""
    with policy.updating():
        for i in range(G):
            token_log_probs(policy.text_logits(said[i : i + 1]), said.text[i : i + 1], 0.7)


def whole_update(policy: Moshi, optimiser: MasterAdamW, settings: AlignSettings, said: Completions) -> None:
    """All that a step does after sampling and scoring."""
    frames = said.text.shape[1]
    scene = Scene({"axis": "pause"}, np.zeros(0, np.float32), START, frames, 0.0)
    update(policy, optimiser, [scene], [said], [np.linspace(-1, 1, G)], settings, 0, nobody)


def ways(moshi: bool) -> dict[str, Callable[[], Callable[[], None]]]:
    """What is measured: each makes its policy, then returns what is timed."""

    def probabilities(run: Callable[[Moshi, Completions], None]) -> Callable[[], None]:
        policy, _ = make(moshi)
        said = group(policy, FRAMES)
        return lambda: run(policy, said)

    def updates(microbatch: int, checkpointing: bool) -> Callable[[], None]:
        policy, settings = make(moshi, optimiser__microbatch=microbatch, model__checkpointing=checkpointing)
        said, optimiser = group(policy, FRAMES), MasterAdamW(policy.parameters(), settings.optimiser, steps=10)
        return lambda: whole_update(policy, optimiser, settings, said)

    return {
        "log-probs, G stepwise passes, batch 1": lambda: probabilities(lambda p, s: stepwise(p, s, 1)),
        "log-probs, one stepwise pass, batch G": lambda: probabilities(lambda p, s: stepwise(p, s, G)),
        "log-probs, segkit: teacher-forced": lambda: probabilities(teacher_forced),
        "update, microbatch 1, checkpointing": lambda: updates(1, True),
        "update, microbatch 1": lambda: updates(1, False),
        "update, microbatch 4, checkpointing": lambda: updates(4, True),
        "update, microbatch 16, checkpointing": lambda: updates(16, True),
    }


def measure(name: str, moshi: bool) -> tuple[float, float]:
    """Frames per second, and the most memory in MiB beyond what was there before."""
    torch.manual_seed(0)
    run = ways(moshi)[name]()
    if moshi:
        run()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() / 1024 if moshi else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    run()
    if moshi:
        torch.cuda.synchronize()
    took_s = time.perf_counter() - start
    after = torch.cuda.max_memory_allocated() / 1024 if moshi else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return G * FRAMES / took_s, (after - before) / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moshi", action="store_true", help="Moshi's size, on a GPU")
    moshi = parser.parse_args().moshi
    where = torch.cuda.get_device_name() if moshi else "1 thread"
    print(
        f"G = {G} completions of {FRAMES} frames, {FRAMES - START} of the segment, {where}, torch {torch.__version__}"
    )
    print(f"\n{'':40}{'frames/s':>10}{'ratio':>8}{'memory, MiB':>14}" + f"{'recipe, h':>11}" * moshi)
    first = 0.0
    for name in ways(moshi):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rate, grown = pool.apply(measure, (name, moshi))
        first = first or rate
        hours = f"{RECIPE * FRAMES / rate / 3600:11.1f}" if moshi else ""
        print(f"{name:40}{rate:10.0f}{rate / first:8.1f}{grown:14.0f}{hours}")


if __name__ == "__main__":
    main()
