"""Checkpoints with adapters: what is loaded is what the files hold, never adapters of random numbers."""

import json
import random
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from moshi.models import loaders
from moshi.modules.lora import replace_all_linear_with_lora
from moshi.utils.compile import no_compile
from safetensors.torch import load_file, save_file

from segkit.errors import SegkitWarning, UsageError
from segkit.models import files
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
    """The Hub has one repository: the files in the folder `hub.folder`; `hub.asked` are those that were asked for."""
    hub = SimpleNamespace(folder=None, missing=EntryNotFoundError, asked=[])

    def download(hub_id, name, revision=None):
        hub.asked.append(f"{hub_id}/{name}")
        if not (hub.folder / name).exists():
            raise hub.missing(f"no {name}")
        return str(hub.folder / name)

    monkeypatch.setattr(files, "hf_hub_download", download)
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


TAKEN_FOR_WHOLE = pytest.mark.filterwarnings("ignore:.*taken for whole weights:segkit.SegkitWarning")


def test_merged_weights_are_the_model_though_the_config_says_lora(merged):
    """Nothing in the file tells them from weights whose adapter was forgotten, so what is assumed is said."""
    with pytest.warns(SegkitWarning, match=r"no lora.safetensors .* model.safetensors is taken for whole weights"):
        checkpoint = find_checkpoint(str(merged), merged)
    assert checkpoint.info.lora_weights is None
    assert_is(checkpoint.lm("cpu", torch.float32), load_file(merged / "model.safetensors"))
    configure(merged, lora=False)
    load(merged)  # no warning, which would be an error here


@TAKEN_FOR_WHOLE
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
    "no number": (lambda folder: configure(folder, lora_rank="three"), "cannot be loaded"),
    "in the weights": (has_adapters_in_the_weights, r"model.safetensors' holds adapters.*lora_name"),
    "named but off": (
        lambda folder: configure(folder, lora=False, lora_name="lora.safetensors"),
        'names an adapter without "lora": true',
    ),
}


@TAKEN_FOR_WHOLE
@pytest.mark.parametrize("case", BROKEN)
def test_an_adapter_that_is_not_that_of_the_config_is_refused(beside, case):
    spoil, expected = BROKEN[case]
    spoil(beside)
    with pytest.raises(UsageError, match=expected):
        load(beside)


@pytest.fixture
def consolidated(beside, tmp_path):
    """A run of moshi-finetune: what it leaves of an adapter, and the model that it began with, on the Hub."""
    folder = tmp_path / "run" / "checkpoints" / "checkpoint_000100" / "consolidated"
    folder.mkdir(parents=True)
    (beside / "lora.safetensors").rename(folder / "lora.safetensors")
    shutil.copyfile(beside / "config.json", folder / "config.json")
    configure(beside, lora=None)
    args = {"lora": {"enable": True}, "moshi_paths": {"hf_repo_id": "someone/moshi", "moshi_path": None}}
    (tmp_path / "run" / "args.yaml").write_text(json.dumps(args))  # JSON is YAML
    return folder


def by_hand(base, folder):
    """The adapter of a run of moshi-finetune, merged into its base."""
    shutil.copyfile(folder / "lora.safetensors", base / "lora.safetensors")
    return merged_by_hand(base)


@pytest.mark.parametrize("named_by", ["checkpoint", "consolidated"])
@pytest.mark.parametrize("names", [True, False])
def test_what_moshi_finetune_leaves_of_an_adapter_is_loaded_onto_its_base(
    hub, beside, consolidated, named_by, names, monkeypatch
):
    """The names in its config.json, or the defaults, are those of the repository that `args.yaml` names."""
    hub.folder = beside
    if not names:
        configure(consolidated, **{key: None for key, _ in files.FILES.values()} | {"model_type": None})
        for argument, path in (("mimi_weights", "mimi.safetensors"), ("tokenizer", "tokenizer.model")):
            (beside / path).rename(beside / files.FILES[argument][1])
        monkeypatch.setattr(loaders, "_mimi_config", json.loads((beside / "mimi.json").read_text()))
    policy = consolidated.parent if named_by == "checkpoint" else consolidated
    lm = load(policy)
    assert_is(lm, by_hand(beside, consolidated))
    assert {"/".join(path.split("/")[:2]) for path in hub.asked} == {"someone/moshi"}


def test_the_files_that_moshi_finetune_was_given_go_before_those_of_the_repository(hub, beside, consolidated, tmp_path):
    hub.folder = tmp_path / "empty"
    paths = {"moshi_path": str(beside / "model.safetensors"), "mimi_path": str(beside / "mimi.safetensors")}
    paths |= {"tokenizer_path": "hf://other/words/tokenizer.model", "hf_repo_id": None}
    (tmp_path / "run" / "args.yaml").write_text(json.dumps({"moshi_paths": paths}))
    configure(consolidated, mimi_config_name=None)
    with pytest.raises(UsageError, match=r"lacks hf://other/words/tokenizer.model \(tokenizer_name\)\. "):
        load(consolidated)
    hub.folder = beside
    assert_is(load(consolidated), by_hand(beside, consolidated))


def test_an_adapter_of_moshi_finetune_away_from_its_run_asks_for_the_base(hub, beside, consolidated, tmp_path):
    moved = consolidated.rename(tmp_path / "consolidated")
    configure(moved, tokenizer_name=None)
    with pytest.raises(UsageError) as told:
        load(moved)
    assert "set mimi_config_name, mimi_name, moshi_name, tokenizer_name to" in str(told.value)
    assert '"tokenizer_name": "hf://kyutai/moshiko-pytorch-bf16/tokenizer_spm_32k_3.model"' in str(told.value)
    names = {
        key: f"hf://someone/moshi/{name}"
        for key, name in json.loads((beside / "config.json").read_text()).items()
        if key.endswith("_name")
    }
    configure(moved, **names)
    hub.folder = beside
    assert_is(load(moved), by_hand(beside, moved))


@pytest.mark.parametrize("lora", [True, False], ids=["an adapter merged", "all weights"])
def test_what_moshi_finetune_leaves_of_whole_weights_is_loaded(hub, beside, consolidated, lora):
    trained = by_hand(beside, consolidated)
    (consolidated / "lora.safetensors").unlink()
    save_file(trained, consolidated / "consolidated.safetensors")
    configure(consolidated, lora=lora)
    hub.folder = beside
    with pytest.warns(
        SegkitWarning,
        match=r"consolidated.safetensors is taken .* set in its config.json moshi_name to \"consolidated.saf",
    ):
        lm = load(consolidated.parent)
    assert_is(lm, trained)
    assert "someone/moshi/model.safetensors" not in hub.asked
    configure(consolidated, lora=False, moshi_name="consolidated.safetensors")
    assert_is(load(consolidated), trained)


@TAKEN_FOR_WHOLE
def test_the_base_alone_is_not_what_moshi_finetune_trained(hub, beside, consolidated):
    (consolidated / "lora.safetensors").unlink()
    hub.folder = beside
    with pytest.raises(UsageError, match=r"lacks .*consolidated/model.safetensors \(moshi_name\)\. "):
        load(consolidated)


@pytest.mark.parametrize("other", ["model.safetensors", "lora.safetensors"])
def test_whole_weights_beside_other_weights_are_refused(beside, other):
    shutil.copyfile(beside / "model.safetensors", beside / "consolidated.safetensors")
    for name in {"model.safetensors", "lora.safetensors"} - {other}:
        (beside / name).unlink()
    with pytest.raises(UsageError, match=rf"holds consolidated.safetensors, .* asks for {other}\. Expected one model"):
        load(beside)


def test_whole_weights_on_the_hub_are_loaded(hub, beside, tmp_path):
    (beside / "lora.safetensors").unlink()
    trained = load_file(beside / "model.safetensors")
    (beside / "model.safetensors").rename(beside / "consolidated.safetensors")
    hub.folder = beside
    with pytest.warns(SegkitWarning, match=r"'someone/moshi' has no model.safetensors"):
        lm = find_checkpoint("someone/moshi", tmp_path).lm("cpu", torch.float32)
    assert_is(lm, trained)


def test_an_adapter_alone_tells_all_that_is_missing(beside, tmp_path):
    """What moshi-finetune leaves in consolidated/ with `save_adapters`, of a base without a config."""
    (tmp_path / "alone").mkdir()
    (beside / "lora.safetensors").rename(tmp_path / "alone" / "lora.safetensors")
    (tmp_path / "alone" / "config.json").write_text(json.dumps(LM | LORA))
    with pytest.raises(UsageError) as told:
        load(tmp_path / "alone")
    for key, (name, default) in files.FILES.items():
        assert (f"{default} (the default of {name})" in str(told.value)) == (default is not None), key
    assert "set mimi_name, moshi_name, tokenizer_name to" in str(told.value)
    assert str(told.value).endswith("not in use: none.")  # the adapter is
    assert '"mimi_name": "hf://kyutai/moshiko-pytorch-bf16/tokenizer-e351c8d8' in str(told.value)


def test_an_adapter_beside_is_loaded_from_the_hub_too(hub, beside, tmp_path):
    hub.folder = beside
    assert_is(find_checkpoint("someone/moshi", tmp_path).lm("cpu", torch.float32), merged_by_hand(beside))


@TAKEN_FOR_WHOLE
def test_merged_weights_on_the_hub_are_the_model(hub, merged, tmp_path):
    hub.folder = merged
    lm = find_checkpoint("someone/moshi", tmp_path).lm("cpu", torch.float32)
    assert_is(lm, load_file(merged / "model.safetensors"))
    hub.missing = LocalEntryNotFoundError  # offline: whether there is an adapter cannot be known
    with pytest.raises(UsageError, match=r"nothing from the Hub \(no lora.safetensors\)"):
        find_checkpoint("someone/moshi", tmp_path)


@pytest.mark.parametrize("policy", ["folder", "tiny"])
@pytest.mark.parametrize("model", [ModelSettings(), ModelSettings(lora_rank=2, export="lora")], ids=["merged", "lora"])
def test_a_run_that_was_moved_loads(tmp_path, model, policy):
    """By segkit, and by the printed command; only the base of an adapter may lie outside of the run."""
    run = tmp_path / "a run"
    found = find_checkpoint("tiny", run) if policy == "tiny" else find_checkpoint(str(write_tiny_moshi(tmp_path / "x")))
    lm = found.lm("cpu", torch.float32)
    commands = export(found, lm, model, run / "export")
    if policy == "folder" and model.export == "merged":
        shutil.rmtree(tmp_path / "x")
    config = json.loads((run / "export" / "config.json").read_text())
    inside = {key for key, name in config.items() if key.endswith("_name") and not name.startswith("file:///")}
    outside = {"moshi_name"} if policy == "folder" and model.export == "lora" else set()
    assert {key for key, name in config.items() if key.endswith("_name")} - inside == outside
    moved = run.rename(tmp_path / "elsewhere")
    again = load(moved / "export")
    assert_is(again, load_file(found.info.moshi_weights) if found.info.moshi_weights.exists() else lm.state_dict())
    soundfile.write(tmp_path / "in.wav", np.zeros(24000), 24000)
    command = commands[1].replace(f"'{run}", f"'{moved}").replace("INPUT", str(tmp_path / "in"))
    command = command.replace("OUTPUT", str(tmp_path / "out")).replace("python", f"NO_TORCH_COMPILE=1 {sys.executable}")
    if (policy, model.export) == ("tiny", "lora"):
        command = command.replace(".wav)", ".wav --device cpu --batch-size 1)")
        subprocess.run(command, shell=True, check=True, capture_output=True)
        assert soundfile.info(tmp_path / "out.wav").frames


def test_an_adapter_on_a_model_of_the_hub_names_it_there(hub, tmp_path):
    hub.folder = write_tiny_moshi(tmp_path / "policy")
    checkpoint = find_checkpoint("someone/moshi", tmp_path)
    lm = checkpoint.lm("cpu", torch.float32)
    export(checkpoint, lm, ModelSettings(lora_rank=2, export="lora"), tmp_path / "export")
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    assert config["moshi_name"] == "hf://someone/moshi/model.safetensors"
    assert_is(load(tmp_path / "export"), load_file(hub.folder / "model.safetensors"))


ODD = [
    None,
    True,
    0,
    -1,
    1.5,
    10**12,
    1e999,
    "",
    "x",
    "hf://",
    "hf://a",
    "../config.json",
    "\0",
    [],
    [[]],
    ["x"],
    {},
    {"a": 1},
]


@pytest.mark.filterwarnings("ignore::segkit.SegkitWarning")
@pytest.mark.parametrize("place", ["folder", "hub"])
def test_no_config_ends_in_a_traceback(hub, tmp_path, place):
    """Each key of the config with each odd value, lost keys, several of both, and files that are no config."""
    folder = write_tiny_moshi(tmp_path / "policy")
    hub.folder = folder
    whole = json.loads((folder / "config.json").read_text()) | LORA | {"lora_name": None, "codec": "mimi"}
    chance = random.Random(0)
    changed = [whole | {key: value} for key in [*whole, "quantize", "conditioners", "tts_config"] for value in ODD]
    changed += [{key: value for key, value in whole.items() if key != lost} for lost in whole]
    changed += [whole | {chance.choice(list(whole)): chance.choice(ODD) for _ in range(3)} for _ in range(100)]
    texts = [json.dumps(each) for each in changed]
    texts += ["", "{", "null", "3", "[]", '"x"', "\ufeff{}", "[" * 100_000, "NaN", '{"n_q": NaN}', '{"a": 1', "{}"]
    texts = texts if place == "hub" else chance.sample(texts, 300)  # loading takes its time
    outcomes = {"loaded": 0, "told": 0}
    for text in texts:
        (folder / "config.json").write_text(text, encoding="utf-8")
        try:
            checkpoint = find_checkpoint(str(folder) if place == "folder" else "someone/moshi", tmp_path)
            assert checkpoint.rate_hz == 24000
            if place == "folder":
                checkpoint.lm("cpu", torch.float32)
            outcomes["loaded"] += 1
        except UsageError as told:
            assert re.search("Expected|cannot be loaded|In its config.json|not give", str(told)), text
            outcomes["told"] += 1
    assert min(outcomes.values()) > 40, outcomes


@pytest.mark.parametrize("text", ["", "[]", '{"sample_rate": "x"}', '{"sample_rate": null}', "{"])
def test_no_config_of_mimi_ends_in_a_traceback(tmp_path, text):
    folder = write_tiny_moshi(tmp_path / "policy")
    (folder / "mimi.json").write_text(text)
    with pytest.raises(UsageError, match=r"mimi\.json: "):
        load(folder)


@pytest.mark.shared_data
def test_what_moshi_finetune_writes(shared):
    faults = shared / "faults" / "12-moshi-finetune"
    assert_is(load(faults / "mf_beside"), merged_by_hand(faults / "mf_beside", scaling=2.0))
    with pytest.warns(SegkitWarning, match=r"model.safetensors is taken for whole weights"):
        assert_is(load(faults / "mf_merged"), load_file(faults / "mf_merged" / "model.safetensors"))
    with pytest.warns(
        SegkitWarning,
        match=r"has no model.safetensors, .* set in its config.json moshi_name to \"consolidated.safetensors",
    ):
        assert_is(load(faults / "mf_full"), load_file(faults / "mf_full" / "consolidated.safetensors"))
