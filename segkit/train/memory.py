"""Will it fit? An estimate before anything runs, and advice when it did not."""

import resource
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from segkit.errors import TrainingError
from segkit.models.protocols import Trainable
from segkit.segmenters.silero import GPU_FRAMES
from segkit.settings import AlignSettings

GIB = 1 << 30


def estimate(policy: Trainable, longest_s: float, settings: AlignSettings) -> dict[str, int]:
    """Bytes by purpose, for a step of the longest segments with the longest context."""
    per_s = policy.rate_hz / policy.frame_samples
    frames = round((settings.context.max_s + longest_s) * per_s + len(policy.prologue.heard) / policy.frame_samples) + 2
    on_gpu, everything = policy.device.type == "cuda", settings.groups * settings.completions
    rows = settings.sampling.rows if on_gpu else min(settings.sampling.rows, everything)
    scored = settings.completions if on_gpu else everything  # decoded audio goes to the CPU, group by group
    parts = policy.memory(rows, frames, scored, settings.optimiser.microbatch, round(longest_s * per_s))
    return parts | {"scoring: speech detection": GPU_FRAMES * 14_000 if on_gpu else 0}


def peak(parts: dict[str, int]) -> int:
    """Bytes at the worst moment: sampling, scoring and updating, by which a part may begin, do not happen at once."""
    by_stage = Counter[str]()
    for name, size in parts.items():
        stage, colon, _ = name.partition(":")
        by_stage[stage if colon else ""] += size
    return by_stage.pop("", 0) + max(by_stage.values(), default=0)


def check(policy: Trainable, longest_s: float, settings: AlignSettings) -> None:
    """Compare the estimate with what is there.

    Raises:
        TrainingError: it will not fit; says how much is missing, and what helps.
    """
    parts = estimate(policy, longest_s, settings)
    missing = peak(parts) - parts["weights"] - available(policy.device)  # the weights are loaded already
    if missing > 0:
        raise TrainingError(
            f"Training needs about {peak(parts) / GIB:.1f} GiB, {missing / GIB:.1f} GiB more than there is. "
            f"{advice(parts)}"
        )


def advice(parts: dict[str, int]) -> str:
    """The settings that lower the largest parts, largest first."""
    help_for = {
        "keys and values": "--set sampling.rows (fewer completions at once)",
        "gradients and optimiser": "--set model.lora_rank=32 (train an adapter only)",
        "scoring: codec and audio": "--set completions, max_segment_s, context.max_s",
        "updating: activations": "--set model.checkpointing=true, optimiser.microbatch=1, max_segment_s",
        "updating: text logits": "--set optimiser.microbatch=1 or max_segment_s",
    }
    largest = sorted((name for name in parts if name in help_for), key=lambda name: -parts[name])[:2]
    return "What helps most: " + "; ".join(
        f"{name} takes {parts[name] / GIB:.1f} GiB: {help_for[name]}" for name in largest
    )


def available(device: torch.device) -> int:
    """Free bytes of the device, or of this machine."""
    return int(torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available)


def peak_gib(device: torch.device) -> float:
    """The most that was in use so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes / (1 << 20) if sys.platform != "darwin" else kibibytes / GIB


@contextmanager
def explained(policy: Trainable, longest_s: float, settings: AlignSettings) -> Iterator[None]:
    """Make an out-of-memory error within say what helps."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        parts = estimate(policy, longest_s, settings)
        raise TrainingError(f"Out of memory ({str(error).split('. ')[0]}). {advice(parts)}") from None
