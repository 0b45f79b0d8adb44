"""How a model is loaded, and how it speaks."""

from typing import Literal

from segkit.settings.base import Settings, setting


class ModelSettings(Settings):
    """What of the model is trained, and in which precision."""

    dtype: Literal["auto", "bfloat16", "float32"] = setting(
        "auto", "precision of the weights; auto: bfloat16 on a GPU, float32 on a CPU"
    )
    lora_rank: int = setting(
        0,
        "0: all weights are trained, with a frozen copy as the reference; else the rank of an adapter",
        "paper 4.3",
        ge=0,
    )
    lora_scaling: float = setting(2.0, "of the adapter", "moshi-finetune", gt=0)
    checkpointing: bool = setting(
        True, "compute activations again in the backward pass: less memory, a third more time", resumable=True
    )
    export: Literal["merged", "lora"] = setting(
        "merged", "what a run exports; merged: whole weights; lora: the adapter alone", resumable=True
    )


class SamplingSettings(Settings):
    """How completions are sampled."""

    text_temperature: float = setting(
        0.7, "of the text tokens, the ones that are trained; greedy completions would all be the same", "paper A", gt=0
    )
    audio_temperature: float = setting(0.8, "of the audio tokens", "paper A", gt=0)
    audio_top_k: int = setting(250, "likeliest audio tokens to choose from; 0: all of them", "paper A", ge=0)
    opening_s: float = setting(
        3.0, "silence in front, in which Moshi says its opening phrase", "paper 4.3", ge=0, lt=600
    )
    rows: int = setting(
        64, "completions per streaming pass; more are faster and take more memory", resumable=True, ge=1
    )
