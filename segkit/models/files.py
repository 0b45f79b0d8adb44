"""Which files a checkpoint of Moshi is made of: what its config.json names, and what moshi-finetune leaves unnamed.

moshi-finetune leaves a folder `checkpoints/checkpoint_000100/consolidated` with `lora.safetensors`, an adapter, or
`consolidated.safetensors`, whole weights with any adapter merged into them. Its config.json is that of the model it
began with and names neither; what else is needed is in the files of that model, which the run's `args.yaml` names.
"""

import json
import warnings
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import yaml
from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from moshi.models import loaders
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segkit.errors import SegkitWarning, UsageError, one_line

MOSHI = "kyutai/moshiko-pytorch-bf16"
FILES = {  # argument of CheckpointInfo: (name in config.json, name where the config has none)
    "moshi_weights": ("moshi_name", loaders.MOSHI_NAME),
    "mimi_weights": ("mimi_name", loaders.MIMI_NAME),
    "tokenizer": ("tokenizer_name", loaders.TEXT_TOKENIZER_NAME),
    "mimi_config_path": ("mimi_config_name", None),
    "lora_weights": ("lora_name", None),
}
ADAPTER, WHOLE = "lora.safetensors", "consolidated.safetensors"  # moshi-finetune's names

Place: TypeAlias = Path | str
"""Where the files of a checkpoint are: a folder, or an id on the Hub."""

Count = Annotated[int, Field(ge=0, lt=1000)]  # moshi makes so many modules, one after the other
Size = Annotated[int, Field(gt=0, lt=2**31)]


class Config(BaseModel):
    """What is used of a config.json; moshi checks the rest when it loads."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    moshi_name: str | None = None
    mimi_name: str | None = None
    tokenizer_name: str | None = None
    mimi_config_name: str | None = None
    lora_name: str | None = None
    lora: bool | None = None
    codec: str = "mimi"
    n_q: Count | None = None
    dep_q: Count | None = None
    num_layers: Count | None = None
    depformer_num_layers: Count | None = None
    dim: Size | None = None
    card: Size | None = None
    text_card: Size | None = None
    delays: Annotated[list[Count], Field(min_length=1)] | None = None
    existing_text_padding_id: Count = 3
    num_heads: Size = 1
    depformer_num_heads: Size = 1
    context: Size | None = None
    depformer_context: Size | None = None
    max_period: Annotated[float, Field(gt=0, lt=2**31)] = 10_000
    depformer_max_period: Annotated[float, Field(gt=0, lt=2**31)] = 10_000


class MimiConfig(BaseModel):
    """What is used of Mimi's own config."""

    sample_rate: Size


class _Origin(BaseModel):
    """The model that a run of moshi-finetune began with."""

    hf_repo_id: str | None = MOSHI
    moshi_path: str | None = None
    mimi_path: str | None = None
    tokenizer_path: str | None = None


class _FinetuneArgs(BaseModel):
    """What is used of its args.yaml."""

    moshi_paths: _Origin = _Origin()


Parsed = TypeVar("Parsed", bound=BaseModel)


def names_of(place: Place, config: Config) -> dict[str, str]:
    """The names of the files that make up the model, by argument of CheckpointInfo."""
    names = {argument: name for argument, (key, default) in FILES.items() if (name := getattr(config, key) or default)}
    if config.codec != "mimi":
        del names["mimi_weights"]
    if config.lora and not config.lora_name and file_of(place, ADAPTER):
        names["lora_weights"] = ADAPTER
    weights = names["moshi_weights"]
    # On the Hub, weights that are there by their name are enough: other files would have to be asked for.
    if weights != WHOLE and (isinstance(place, Path) or not file_of(place, weights)) and file_of(place, WHOLE):
        asked = [name for name in (weights, names.get("lora_weights")) if name]
        if others := [name for name in asked if _remote(name) or file_of(place, name)]:
            raise UsageError(
                f"{str(place)!r} holds {WHOLE}, whole weights of moshi-finetune, but its config.json asks for "
                f"{' and '.join(others)}. Expected one model: remove {WHOLE}, or set moshi_name to it and "
                "lora to false in config.json."
            )
        _assume(f"{str(place)!r} has no {weights}, and {WHOLE} is taken instead", f'moshi_name to "{WHOLE}"')
        names["moshi_weights"] = WHOLE
    elif config.lora and "lora_weights" not in names and (_remote(weights) or file_of(place, weights)):
        _assume(
            f'{str(place)!r} says "lora": true, but has no {ADAPTER} and no lora_name: {weights} is taken for whole '
            "weights, with the adapter merged into them",
            "lora to false; if the adapter is missing, set lora_name",
        )
    origin = _origin(place, names)
    return {
        argument: name if _remote(name) or file_of(place, name) else origin.get(argument, name)
        for argument, name in names.items()
    }


def _origin(place: Place, names: dict[str, str]) -> dict[str, str]:
    """The names of the files of the model that moshi-finetune began with, where its run still lies around `place`."""
    if not isinstance(place, Path) or place.resolve().name != "consolidated":
        return {}
    args = place.resolve().parents[2] / "args.yaml"  # RUN/checkpoints/checkpoint_000100/consolidated
    if not args.is_file():
        return {}
    model = parsed(_FinetuneArgs, place, args).moshi_paths
    origin = {argument: f"hf://{model.hf_repo_id}/{name}" for argument, name in names.items() if model.hf_repo_id}
    paths = {"moshi_weights": model.moshi_path, "mimi_weights": model.mimi_path, "tokenizer": model.tokenizer_path}
    origin |= {
        argument: path if _remote(path) else f"file://{Path(path).absolute()}"
        for argument, path in paths.items()
        if path
    }
    if "lora_weights" not in names:
        origin.pop("moshi_weights", None)  # these are not what was trained
    return origin


def _assume(what: str, to_do: str) -> None:
    warnings.warn(f"{what}. If that is right, set in its config.json {to_do}.", SegkitWarning, stacklevel=5)


def _remote(name: str) -> bool:
    return name.startswith("hf://")


def file_of(place: Place, name: str) -> Path | None:
    """The file of a name in a config.json, or None if there is none: hf://OWNER/NAME/FILE, file://PATH, or a path."""
    if _remote(name):
        owner, hub_id, file = [*name.removeprefix("hf://").split("/", 2), "", ""][:3]
        return _on_hub(f"{owner}/{hub_id}", file)
    path = name.removeprefix("file://")
    if not isinstance(place, Path):
        return _on_hub(place, path)
    return found if (found := place / path).is_file() else None


def _on_hub(hub_id: str, name: str) -> Path | None:
    """A file, or None if there is none: a Moshi 7B from before there were configs, or a model without an adapter."""
    try:
        return Path(hf_hub_download(hub_id, name))
    except LocalEntryNotFoundError:  # offline; that there is none may be known from before
        if try_to_load_from_cache(hub_id, name) is _CACHED_NO_EXIST:
            return None
        raise
    except EntryNotFoundError:
        return None


def parsed(model: type[Parsed], place: Place, path: Path) -> Parsed:
    """What a file of JSON or YAML says, as far as it is used.

    Raises:
        UsageError: it is not of the form.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return model.model_validate(yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        found = f"{where}: {first['msg']}, found {str(first['input'])[:60]!r}"
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        found = one_line(error)
    raise UsageError(f"{str(place)!r} is not a Moshi: {path.name}: {found}. Expected the files of a Moshi.")


def lacking(place: Place, config: Config, names: dict[str, str], missing: list[str]) -> str:
    """What to say of files that are not there."""
    keys = [FILES[argument][0] for argument in missing]
    lacks, examples = [], []
    for key, argument in zip(keys, missing, strict=True):
        name = names[argument]
        where = place / name.removeprefix("file://") if isinstance(place, Path) and not _remote(name) else name
        lacks.append(f"{where} ({'' if getattr(config, key) else 'the default of '}{key})")
        examples += [] if getattr(config, key) else [f'"{key}": "hf://{MOSHI}/{name}"']
    known = f", such as {', '.join(examples)} if that is the model it was made from" if examples else ""
    text = (
        f"{str(place)!r} lacks {', '.join(lacks)}. In its config.json, set {', '.join(sorted(keys))} to a file's name "
        f"in the folder, or to hf://OWNER/NAME/FILE for a file on the Hub{known}."
    )
    if not isinstance(place, Path):
        return text
    in_use = {place / name for name in names.values()}
    others = {path for path in place.iterdir() if path.suffix in (".safetensors", ".model")} - in_use
    return f"{text} Files in the folder that are not in use: {', '.join(sorted(p.name for p in others)) or 'none'}."
