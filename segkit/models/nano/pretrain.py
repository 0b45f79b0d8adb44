"""Supervised training of nano, the small Moshi inside segkit: a dataset with words in, a checkpoint folder out.

    segkit extract synthetic conversations -o dataset --rate-hz 8000 --set corpus.hours=16 --set corpus.seed=100 \
        --set corpus.rate_hz=8000
    python -m segkit.models.nano.pretrain dataset segkit/models/nano

Every segment with its context is two lessons, as each of the speakers is the model once. A lesson is laid
out as Moshi's: 7 codebooks of the own voice, 7 of the other's (`segkit.models.codec2`), and the inner
monologue: the tokens of a word from the frame in which it begins, the end of padding in the frame before,
padding elsewhere.

Letters in the shapes: B lessons, T frames, K codebooks.
"""

import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import sentencepiece
import torch
import typer
from moshi.models import loaders
from moshi.models.lm import LMModel
from moshi.utils.compile import no_compile
from numpy.typing import NDArray
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from segkit.audio import decode_flac_at, sample_at
from segkit.dataset.dataset import Dataset
from segkit.dataset.rows import in_batches
from segkit.errors import SegkitError, UsageError
from segkit.models.codec2 import CODEBOOKS, CODEC2, Codec2

PAD, END_OF_PADDING = 3, 0
ROLES = "user", "agent"
LM: dict[str, Any] = {
    "dim": 192,
    "text_card": 512,
    "existing_text_padding_id": PAD,
    "n_q": 2 * CODEBOOKS,
    "dep_q": CODEBOOKS,
    "card": 256,
    "num_heads": 6,
    "num_layers": 4,
    "hidden_scale": 4.125,
    "causal": True,
    "layer_scale": None,
    "context": 125,
    "max_period": 10000,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "depformer_dim": 128,
    "depformer_dim_feedforward": 528,
    "depformer_num_heads": 4,
    "depformer_num_layers": 1,
    "depformer_layer_scale": None,
    "depformer_multi_linear": True,
    "depformer_context": CODEBOOKS,
    "depformer_max_period": 10000,
    "depformer_gating": "silu",
    "depformer_pos_emb": "none",
    "depformer_weights_per_step": True,
    "delays": [0] + 2 * [0, *(CODEBOOKS - 1) * [1]],
}
NAMES = {
    "model_type": "moshi",
    "codec": CODEC2,
    "mimi_name": None,
    "moshi_name": "model.safetensors",
    "tokenizer_name": "tokenizer.model",
}
WINDOW = 250  # frames: 20 s, twice what the model attends to
BATCH = 16
LEARNING_RATE = 2e-3
EVERY = 50  # steps between lines about the loss

Lesson = NDArray[np.int16]
"""Text, own codes and the other's codes, (1 + 2 K, T)."""


def train(lessons: list[Lesson], held_out: list[Lesson], steps: int, seed: int) -> Iterator[tuple[int, LMModel, str]]:
    """Train a fresh model; yields the step, the model, and a line about its loss, every `EVERY` steps."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    lm = loaders.get_moshi_lm(None, LM, dtype=torch.float32)
    optimiser = torch.optim.AdamW(lm.parameters(), betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps, pct_start=0.1, cycle_momentum=False)
    fixed = _batch(held_out, np.random.default_rng(0))
    for step in range(1, steps + 1):
        text, audio = _losses(lm, _batch(lessons, rng))
        optimiser.zero_grad()
        (text + audio.mean()).backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % EVERY == 0 or step == steps:
            with torch.no_grad():
                text_held_out, audio_held_out = _losses(lm, fixed)
            yield (
                step,
                lm,
                f"text {text:.3f}, audio {audio.mean():.3f}; held out: text {text_held_out:.3f}, audio "
                + " ".join(f"{each:.2f}" for each in audio_held_out),
            )


def _losses(lm: LMModel, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropies of the text, (), and of each own codebook, (K,), in nats per frame."""
    with no_compile(), torch.autocast("cpu", torch.bfloat16):
        out = lm(codes)
    text = cross_entropy(out.text_logits[:, 0].float().flatten(0, 1), codes[:, 0].flatten())
    own = codes[:, 1 : 1 + CODEBOOKS]
    each = cross_entropy(out.logits[out.mask].float(), own[out.mask], reduction="none")
    sums = torch.zeros_like(out.mask, dtype=torch.float32).masked_scatter(out.mask, each).sum((0, 2))
    return text, sums / out.mask.sum((0, 2))


def _batch(lessons: list[Lesson], rng: np.random.Generator) -> Tensor:
    """Windows of some lessons, (B, 1 + 2 K, WINDOW)."""
    windows = []
    for i in rng.integers(len(lessons), size=BATCH):
        start = rng.integers(lessons[i].shape[1] - WINDOW + 1)
        windows.append(lessons[i][:, start : start + WINDOW])
    return torch.from_numpy(np.stack(windows).astype(np.int64))


def read(dataset: Path, split: str) -> Iterator[list[dict[str, Any]]]:
    """The rows of a split, of all axes, some at a time."""
    for path in Dataset(dataset).folder.shards(split=split):
        yield from in_batches(path, ["user", "agent", "words", "context_s"])


def lessons_of(row: dict[str, Any], tokenizer: bytes) -> list[Lesson]:
    """Two lessons, or none where there are no words or too little audio; in each, one speaker is the model."""
    if row["words"] is None:
        return []
    codec, pieces = Codec2(), sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    codes, text = {}, {}
    for speaker in ROLES:
        samples = decode_flac_at(row[speaker]["bytes"], codec.sample_rate)
        frames = len(samples) // codec.frame_size
        if frames < WINDOW:
            return []
        codes[speaker] = codec.encode(torch.from_numpy(samples[None, None, : frames * codec.frame_size]))[0].numpy()
        words = [word for word in row["words"] if word["speaker"] == speaker]
        starts = [sample_at(row["context_s"] + word["start_s"], codec.sample_rate) for word in words]
        begins = [max(start, 0) // codec.frame_size for start in starts]
        text[speaker] = monologue(zip(begins, pieces.encode([word["text"] for word in words]), strict=True), frames)
    pairs = ROLES, ROLES[::-1]
    return [np.concatenate([text[own][None], codes[own], codes[other]]).astype(np.int16) for own, other in pairs]


def monologue(words: Iterable[tuple[int, list[int]]], frames: int) -> NDArray[np.int64]:
    """The text stream, (frames,): each word's tokens from its frame on, or from where the word before ends.

    >>> monologue([(2, [7, 8]), (3, [9])], 6).tolist()
    [3, 0, 7, 8, 9, 3]
    """
    text = np.full(frames, PAD)
    free = 0
    for begin, tokens in words:
        begin = max(begin, free)
        if 0 < begin <= frames and text[begin - 1] == PAD:
            text[begin - 1] = END_OF_PADDING
        tokens = tokens[: max(frames - begin, 0)]
        text[begin : begin + len(tokens)] = tokens
        free = begin + len(tokens)
    return text


def learn_tokenizer(texts: Sequence[str], pieces: int) -> bytes:
    """A SentencePiece model of at most so many pieces; ids as Moshi's: 0 end of padding and unknown, 3 padding.

    Raises:
        UsageError: there are no words.
    """
    if not texts:
        raise UsageError("The dataset has no words. Expected one that was extracted with a transcript.")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=pieces,
        model_type="bpe",
        pad_id=PAD,
        character_coverage=1.0,
        hard_vocab_limit=False,  # of few words there are few pieces
        minloglevel=2,
    )
    return model.getvalue()


def write(folder: Path, lm: LMModel, tokenizer: bytes) -> None:
    """The checkpoint, its weights in 16 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: w.to(torch.bfloat16) for name, w in lm.state_dict().items()}, folder / "model.safetensors")
    (folder / "tokenizer.model").write_bytes(tokenizer)
    (folder / "config.json").write_text(json.dumps(LM | NAMES, indent=2) + "\n")


def pretrain(
    dataset: Annotated[Path, typer.Argument(help="A folder that `segkit extract` wrote, with words.")],
    folder: Annotated[Path, typer.Argument(help="The checkpoint to write.")],
    steps: Annotated[int, typer.Option(min=20)] = 900,
    seed: int = 0,
) -> None:
    """Train nano on a dataset with words."""
    rows = (row for rows in read(dataset, "train") for row in rows)
    texts = [word["text"] for row in rows for word in row["words"] or []]
    tokenizer = learn_tokenizer(texts, LM["text_card"])
    lessons: dict[str, list[Lesson]] = {"train": [], "validation": []}
    with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for split, found in lessons.items():
            for some in track(read(dataset, split), f"encoding {split}", total=None):
                for lesson in pool.map(partial(lessons_of, tokenizer=tokenizer), some, chunksize=8):
                    found += lesson
            if not found:
                raise UsageError(
                    f"{str(dataset)!r} has nothing to learn from in its {split} split. Expected segments with words, "
                    f"of {WINDOW * Codec2.frame_size / Codec2.sample_rate:g} s or more with their context."
                )
    for step, lm, line in train(lessons["train"], lessons["validation"], steps, seed):
        typer.echo(f"step {step}: {line}")
        write(folder, lm, tokenizer)


if __name__ == "__main__":
    try:
        typer.run(pretrain)
    except SegkitError as error:
        sys.exit(f"Error: {error}")
