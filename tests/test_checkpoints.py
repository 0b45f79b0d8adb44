"""Checkpoints with adapters: what is loaded is what the files hold, never adapters of random numbers."""

import json
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from moshi.models import loaders
from moshi.modules.lora import replace_all_linear_with_lora
from moshi.utils.compile import no_compile
from safetensors.torch import load_file, save_file

from segkit.errors import UsageError
from segkit.models import checkpoints
from segkit.models.checkpoints import find_checkpoint
from segkit.models.export import export
from segkit.models.tiny import LM, write_tiny_moshi
from segkit.settings import ModelSettings

RANK, SCALING = 3, 1.5  # not moshi's defaults
LORA = {"lora": True, "lora_rank": RANK, "lora_scaling": SCALING}


def configure(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def write_adapter(path, **more):
    """An adapter that changes every linear layer, as moshi-finetune writes it."""
    lm = loaders.get_moshi_lm(None, LM, dtype=torch.float32)
    replace_all_linear_with_lora(lm, RANK, SCALING)
    random = torch.Generator().manual_seed(1)
    shapes = {name: tensor.shape for name, tensor in lm.state_dict().items() if ".lora_" in name}
    tensors = {name: 0.1 * torch.randn(shape, generator=random) for name, shape in shapes.items()}
    save_file(tensors | more, path)


def merged_by_hand(folder, scaling=SCALING):
    """W + scaling B A, of the two files of the folder."""
    weights, adapter = load_file(folder / "model.safetensors"), load_file(folder / "lora.safetensors")
    for name in [name for name in adapter if name.endswith(".lora_A.weight")]:
        b, a = adapter[name.replace("lora_A", "lora_B")], adapter[name]
        weights[name.replace(".lora_A", "")] += scaling * b @ a
    return weights


@pytest.fixture
def beside(tmp_path):
    """moshi-finetune's config.json and lora.safetensors, in the folder of the model that was adapted."""
    folder = write_tiny_moshi(tmp_path / "policy")
    configure(folder, **LORA)
    write_adapter(folder / "lora.safetensors")
    return folder


@pytest.fixture
def merged(beside):
    """The same config.json, with an adapter merged into the weights."""
    save_file(merged_by_hand(beside), beside / "model.safetensors")
    (beside / "lora.safetensors").unlink()
    return beside


@pytest.fixture
def hub(monkeypatch):
    """The Hub has one repository: the files in the folder `hub.folder`."""
    hub = SimpleNamespace(folder=None, missing=EntryNotFoundError)

    def download(hub_id, name, revision=None):
        if not (hub.folder / name).exists():
            raise hub.missing(f"no {name}")
        return str(hub.folder / name)

    monkeypatch.setattr(checkpoints, "hf_hub_download", download)
    monkeypatch.setattr(loaders, "hf_hub_download", download)
    return hub


def load(folder):
    return find_checkpoint(str(folder), folder).lm("cpu", torch.float32)


@torch.no_grad()
def text_logits(lm):
    """Teacher-forced, of fixed tokens."""
    codes = torch.randint(0, LM["card"], (2, LM["n_q"] + 1, 20), generator=torch.Generator().manual_seed(2))
    with no_compile():
        return lm.forward_text(codes)[1]


def assert_is(lm, weights):
    """All of the model's weights, and what it computes."""
    expected = loaders.get_moshi_lm(None, LM, dtype=torch.float32)
    expected.load_state_dict(weights)
    assert lm.state_dict().keys() == weights.keys()
    for name, tensor in lm.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], atol=1e-5, rtol=0, msg=name)
    torch.testing.assert_close(text_logits(lm), text_logits(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", [None, "adapter.safetensors"])
def test_an_adapter_is_loaded_whether_the_config_names_it_or_it_lies_beside(beside, name):
    by_hand, base = merged_by_hand(beside), load_file(beside / "model.safetensors")
    changed = [key for key in base if (by_hand[key] - base[key]).abs().max() > 0.02]
    assert len(changed) == len(load_file(beside / "lora.safetensors")) / 2  # the test would see a layer left out
    if name:
        (beside / "lora.safetensors").rename(beside / name)
        configure(beside, lora_name=name)
    assert find_checkpoint(str(beside), beside).info.lora_weights == beside / (name or "lora.safetensors")
    lm = load(beside)
    assert_is(lm, by_hand)
    plain = loaders.get_moshi_lm(beside / "model.safetensors", LM, dtype=torch.float32)
    assert (text_logits(lm) - text_logits(plain)).abs().max() > 0.1


def test_the_named_adapter_goes_before_the_one_beside(hub, beside, tmp_path):
    by_hand, tensors = merged_by_hand(beside), load_file(beside / "lora.safetensors")
    save_file(tensors, beside / "named.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, beside / "lora.safetensors")
    configure(beside, lora_name="named.safetensors")
    assert_is(load(beside), by_hand)
    hub.folder = beside
    assert_is(find_checkpoint("someone/moshi", tmp_path).lm("cpu", torch.float32), by_hand)


def test_an_adapter_beside_is_left_alone_where_the_config_does_not_say_lora(hub, beside, tmp_path):
    configure(beside, lora=False)
    assert_is(load(beside), load_file(beside / "model.safetensors"))
    hub.folder = beside
    lm = find_checkpoint("someone/moshi", tmp_path).lm("cpu", torch.float32)
    assert_is(lm, load_file(beside / "model.safetensors"))


def test_embeddings_that_were_trained_along_come_with_the_adapter(beside):
    """moshi-finetune's `lora.ft_embed`."""
    embedding = torch.ones(LM["text_card"] + 1, LM["dim"])
    write_adapter(beside / "lora.safetensors", **{"text_emb.weight": embedding})
    assert_is(load(beside), merged_by_hand(beside) | {"text_emb.weight": embedding})


def test_merged_weights_are_the_model_though_the_config_says_lora(merged):
    assert find_checkpoint(str(merged), merged).info.lora_weights is None
    assert_is(load(merged), load_file(merged / "model.safetensors"))


@pytest.mark.parametrize("model", [ModelSettings(), ModelSettings(lora_rank=2, export="lora")], ids=["merged", "lora"])
def test_the_export_of_merged_weights_loads(merged, tmp_path, model):
    checkpoint = find_checkpoint(str(merged), merged)
    lm = checkpoint.lm("cpu", torch.float32)
    if model.lora_rank:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            replace_all_linear_with_lora(lm.transformer, model.lora_rank, model.lora_scaling)
    export(checkpoint, lm, model, tmp_path / "export")
    torch.testing.assert_close(text_logits(load(tmp_path / "export")), text_logits(lm), atol=1e-4, rtol=0)


def test_the_export_of_an_adapted_model_loads(beside, tmp_path):
    checkpoint = find_checkpoint(str(beside), beside)
    export(checkpoint, checkpoint.lm("cpu", torch.float32), ModelSettings(), tmp_path / "export")
    assert_is(load(tmp_path / "export"), merged_by_hand(beside))


def lacks_tensors(folder):
    tensors = load_file(folder / "lora.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("transformer.layers.1.")}
    save_file(kept, folder / "lora.safetensors")


def has_adapters_in_the_weights(folder):
    files = [load_file(folder / name) for name in ("model.safetensors", "lora.safetensors")]
    save_file(files[0] | files[1], folder / "model.safetensors")
    (folder / "lora.safetensors").unlink()


LAYER_0 = "transformer.layers.0.gating.linear_in.lora_A.weight"
BROKEN = {
    "lacks tensors": (
        lacks_tensors,
        r"lora.safetensors' is not the adapter .*: 8 tensors .* transformer.layers.1.gating.linear_in.lora_A.weight: "
        r"found none, expected \[3, 64\]",
    ),
    "has nothing": (lambda folder: save_file({}, folder / "lora.safetensors"), "114 tensors are missing"),
    "has others": (
        lambda folder: write_adapter(folder / "lora.safetensors", **{"a.lora_A.weight": torch.zeros(3, 4)}),
        r"1 tensors .* a.lora_A.weight: found \[3, 4\], expected none",
    ),
    "other rank": (lambda folder: configure(folder, lora_rank=8), r"found \[3, 32\], expected \[8, 32\]"),
    "no rank": (lambda folder: configure(folder, lora_rank=None), r"found \[3, 32\], expected \[128, 32\]"),
    "no adapter": (lambda folder: (folder / "lora.safetensors").write_bytes(b"nothing"), "cannot be loaded"),
    "not there": (lambda folder: configure(folder, lora_name="gone.safetensors"), r"lacks .*gone.* \(lora_name\)"),
    "in the weights": (has_adapters_in_the_weights, r"model.safetensors' holds adapters.*lora_name"),
    "named but off": (
        lambda folder: configure(folder, lora=False, lora_name="lora.safetensors"),
        'names an adapter without "lora": true',
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_adapter_that_is_not_that_of_the_config_is_refused(beside, case):
    spoil, expected = BROKEN[case]
    spoil(beside)
    with pytest.raises(UsageError, match=expected):
        load(beside)


@pytest.mark.parametrize("named", [True, False])
def test_whole_weights_under_moshi_finetunes_name_are_pointed_out(tmp_path, named):
    folder = write_tiny_moshi(tmp_path / "policy")
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    configure(folder, lora=False, moshi_name="model.safetensors" if named else None)
    origin = "moshi_name" if named else "the default of moshi_name"
    with pytest.raises(UsageError, match=rf"model.safetensors \({origin}\).* set moshi_name .*: consolidated.safetens"):
        load(folder)
    configure(folder, moshi_name="consolidated.safetensors")
    assert_is(load(folder), load_file(folder / "consolidated.safetensors"))


def test_an_adapter_alone_tells_all_that_is_missing(beside, tmp_path):
    """What moshi-finetune leaves in consolidated/ with `save_adapters`, of a base without a config."""
    (tmp_path / "alone").mkdir()
    (beside / "lora.safetensors").rename(tmp_path / "alone" / "lora.safetensors")
    (tmp_path / "alone" / "config.json").write_text(json.dumps(LM | LORA))
    with pytest.raises(UsageError) as told:
        load(tmp_path / "alone")
    for key, (name, default) in checkpoints.FILES.items():
        assert (f"{default} (the default of {name})" in str(told.value)) == (default is not None), key
    assert "set mimi_name, moshi_name, tokenizer_name to" in str(told.value)
    assert str(told.value).endswith("not in use: none.")  # the adapter is


def test_an_adapter_beside_is_loaded_from_the_hub_too(hub, beside, tmp_path):
    hub.folder = beside
    assert_is(find_checkpoint("someone/moshi", tmp_path).lm("cpu", torch.float32), merged_by_hand(beside))


def test_merged_weights_on_the_hub_are_the_model(hub, merged, tmp_path):
    hub.folder = merged
    lm = find_checkpoint("someone/moshi", tmp_path).lm("cpu", torch.float32)
    assert_is(lm, load_file(merged / "model.safetensors"))
    hub.missing = LocalEntryNotFoundError  # offline: whether there is an adapter cannot be known
    with pytest.raises(UsageError, match=r"nothing from the Hub \(no lora.safetensors\)"):
        find_checkpoint("someone/moshi", tmp_path)


@pytest.mark.shared_data
def test_what_moshi_finetune_writes(shared):
    faults = shared / "faults" / "12-moshi-finetune"
    assert_is(load(faults / "mf_beside"), merged_by_hand(faults / "mf_beside", scaling=2.0))
    assert_is(load(faults / "mf_merged"), load_file(faults / "mf_merged" / "model.safetensors"))
    with pytest.raises(UsageError, match=r"set moshi_name .* not in use: consolidated.safetensors"):
        load(faults / "mf_full")
