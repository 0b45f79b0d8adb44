"""Sampling: completions of many segments in one streaming pass, against one pass per segment, and per completion.

    python benchmarks/rollout.py                     # the small random Moshi on a CPU
    python benchmarks/rollout.py --moshi             # random weights of Moshi's size in bfloat16; a GPU, or 16 GiB

On the CPU, all three ways sample the same completions of segments of 5 to 30 s, each way in a process of
its own; the two others are plain loops over moshi's `LMGen`, which reserves keys and values for its whole
context of 3000 frames. Rates count frames of the segments, not of the padding.

At Moshi's size, milliseconds per streaming step are compared with the floor: reading all weights once, at the
bandwidth of a large copy measured in the same run; and the hours of the paper's 51,200 completions follow.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from moshi.models import LMGen, LMModel, loaders
from moshi.utils.compile import no_compile
from torch import Tensor

from segkit import ModelSettings, SamplingSettings, open_model
from segkit.models.checkpoints import MoshiCheckpoint
from segkit.models.devices import resolve
from segkit.models.moshi import MoshiSpeaker
from segkit.models.training import Moshi
from segkit.rollouts.rollout import rollout
from segkit.rollouts.scenes import Scene
from segkit.tasks import nobody

COMPLETIONS = 8
SEGMENTS = 16
ROWS = 32
RECIPE = 100 * 32 * 16


def scenes() -> list[Scene]:
    """Segments of 5 to 30 s of noise, with 3 s of opening."""
    rng = np.random.default_rng(0)
    lengths = np.linspace(5, 30, SEGMENTS) * 12.5
    frames = [38 + round(length) for length in lengths]
    noise = [0.1 * rng.standard_normal(n * 1920).astype(np.float32) for n in frames]
    return [Scene({"id": str(n)}, audio, 38, n, 0.0) for n, audio in zip(frames, noise, strict=True)]


def together(policy: MoshiSpeaker, staged: list[Scene]) -> None:
    """Segkit's way."""
    rollout(policy, staged, COMPLETIONS, (0,), ROWS, nobody)


def per_segment(policy: MoshiSpeaker, staged: list[Scene]) -> None:
    """One `LMGen` pass per segment, with its completions as the batch."""
    for scene in staged:
        plain(policy, policy.encode(torch.from_numpy(scene.audio)[None]).expand(COMPLETIONS, -1, -1))


def per_completion(policy: MoshiSpeaker, staged: list[Scene]) -> None:
    """One `LMGen` pass per completion."""
    for scene in staged:
        for _ in range(COMPLETIONS):
            plain(policy, policy.encode(torch.from_numpy(scene.audio)[None]))


def plain(policy: MoshiSpeaker, user: Tensor) -> None:
    """A loop over `LMGen` as in moshi's own inference."""
    generator = LMGen(policy.lm, temp=0.8, top_k=250, temp_text=0.7, top_k_text=0)
    with no_compile(), torch.no_grad(), generator.streaming(len(user)):
        generator.step(user[:, :, :1])
        for i in range(user.shape[2]):
            generator.step(user[:, :, i : i + 1])


WAYS: dict[str, Callable[[MoshiSpeaker, list[Scene]], None]] = {
    "G passes with batch 1": per_completion,
    "one LMGen pass per segment, batch G": per_segment,
    f"segkit: {ROWS} rows": together,
}


def measure(name: str) -> tuple[float, float]:
    """Frames per second, and the growth of this process in MiB."""
    torch.set_num_threads(1)
    policy = open_model("tiny", training=True, model=ModelSettings(lora_rank=4), device="cpu")
    assert isinstance(policy, MoshiSpeaker)
    staged = scenes()
    WAYS[name](policy, staged[:1])  # warms up
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    WAYS[name](policy, staged)
    took_s = time.perf_counter() - start
    frames = COMPLETIONS * sum(scene.frames for scene in staged)
    return frames / took_s, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


class RandomMoshi(MoshiCheckpoint):
    """Moshi's architecture with random weights."""

    def lm(self, device: str, dtype: torch.dtype) -> LMModel:
        """The language model of 7 B weights; one stretch of random numbers serves for all of them."""
        lm = loaders.get_moshi_lm(None, None, device="meta", dtype=dtype).to_empty(device=device)
        numbers = 0.02 * torch.randn(1 << 22, device=device)
        for weight in lm.parameters():
            for part in weight.data.view(-1).split(len(numbers)):
                part.copy_(numbers[: len(part)])
        return lm

    def codec(self, device: str) -> loaders.MimiModel:
        """Mimi."""
        return loaders.get_mimi(None, device=device)

    def tokenizer(self) -> None:  # type: ignore[override]
        """None is needed."""


def now(device: str) -> float:
    """Seconds, when the device has done all it was asked."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def copy_gib_per_s(device: str) -> float:
    """Bandwidth of a copy of 1 GiB, reading and writing."""
    source = torch.ones(1 << 30, dtype=torch.uint8, device=device)
    target = source.clone()
    start = now(device)
    for _ in range(10):
        target.copy_(source)
    return 10 * 2 / (now(device) - start)


def at_moshi_size(device: str, frames: int, seconds: float) -> None:
    """Milliseconds per step by the number of rows, against reading all weights once."""
    bandwidth = copy_gib_per_s(device)
    model = ModelSettings(dtype="bfloat16", lora_rank=32)
    policy = Moshi(RandomMoshi("random", None), model, SamplingSettings(), device)  # type: ignore[arg-type]
    gib = sum(p.numel() * p.element_size() for p in policy.lm.parameters()) / (1 << 30)
    floor_ms = 1000 * gib / bandwidth
    where = torch.cuda.get_device_name() if device != "cpu" else f"{torch.get_num_threads()} threads"
    print(f"{where}: {bandwidth:.0f} GiB/s, {gib:.1f} GiB of weights, so {floor_ms:.2f} ms per step at the least")
    print(f"\n{'rows':>6}{'ms per step':>13}{'/ floor':>9}{'frames/s':>11}{'recipe, h':>11}")
    for rows in (1, 16, 32, 64, 128, 256) if device != "cpu" else (1, 16):
        users = list(torch.randint(0, 2048, (rows, 8, frames), device=device))
        try:
            policy.sample(users, range(rows), rows, nobody)  # compiles, captures graphs, reserves memory
            start = now(device)
            policy.sample(users, range(rows), rows, nobody)
            step_ms = 1000 * (now(device) - start) / (frames + 1)
        except torch.OutOfMemoryError:
            print(f"{rows:6}  out of memory")
            break
        hours = RECIPE / rows * seconds * 12.5 * step_ms / 3.6e6
        print(f"{rows:6}{step_ms:13.2f}{step_ms / floor_ms:9.2f}{rows * 1000 / step_ms:11.1f}{hours:11.1f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moshi", action="store_true", help="Moshi's size")
    parser.add_argument("--seconds", type=float, default=30.0, help="mean length of the recipe's completions")
    arguments = parser.parse_args()
    if arguments.moshi:
        device = resolve("auto")
        frames = 24 if device == "cpu" else 375
        return at_moshi_size(device, frames, arguments.seconds)
    print(f"{SEGMENTS} segments of 5 to 30 s, G = {COMPLETIONS}, 1 thread, torch {torch.__version__}")
    print(f"\n{'':38}{'frames/s':>10}{'ratio':>8}{'memory, MiB':>14}")
    first = 0.0
    for name in WAYS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rate, grown = pool.apply(measure, (name,))
        first = first or rate
        print(f"{name:38}{rate:10.0f}{rate / first:8.1f}{grown:14.0f}")


if __name__ == "__main__":
    main()
