"""Settings: one kind for all commands, checked where they are given, and the same on disk as they always were."""

import json
import math
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from support import segkit

from segkit import corpora
from segkit.cli.settings import page
from segkit.corpora.stereo import StereoOptions
from segkit.corpora.synthetic import SyntheticOptions
from segkit.errors import UsageError
from segkit.extraction.job import Job
from segkit.schemas import Axis
from segkit.settings import (
    LITERAL,
    AlignSettings,
    AsrSettings,
    ExtractionSettings,
    SegmentSettings,
    VadSettings,
    as_json,
    fingerprint,
)
from segkit.settings.base import flat, read_yaml
from segkit.settings.text import as_yaml
from segkit.settings.training import align_settings

KINDS = [ExtractionSettings, AlignSettings, *(corpora.get(name).Options for name in corpora.names())]
SIGNED = {"turn_taking.max_gap_s", "turn_taking.min_gap_s", "seed"}
"""Numbers that may have any value."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__module__.rpartition(".")[2])
def test_every_setting_says_what_it_is_where_it_is_from_and_what_it_can_be(kind):
    for each in kind.fields():
        assert each.field.description and each.extra["source"], each.name
        number = each.expected.startswith(("a number", "a whole number"))
        assert not number or "," in each.expected or each.name in SIGNED, f"{each.name} has no range"
        assert isinstance(each.field.default, bool) == (each.expected == "true or false")


def test_the_reference_in_docs_is_made_from_them():
    docs = Path(__file__).parents[1] / "docs" / "settings.md"
    assert docs.read_text(encoding="utf-8") == page(), "run: segkit settings --markdown > docs/settings.md"


@pytest.mark.parametrize("of", ["extract", "align", *(n for n in corpora.names() if corpora.get(n).Options.names())])
def test_what_is_printed_can_be_given_as_a_file(of, tmp_path, capsys):
    assert segkit("settings", of)[0] == 0
    (tmp_path / "own.yaml").write_text(capsys.readouterr().out)
    values = read_yaml(tmp_path / "own.yaml")
    if of == "align":
        assert AlignSettings().changed(values) == AlignSettings() and values.keys() == {*AlignSettings.names()}
    elif of == "extract":
        assert ExtractionSettings().changed(values) == ExtractionSettings()
        assert values.keys() == {*ExtractionSettings.names()}
    else:
        job = Job.asked(of, tmp_path, tmp_path / "out", values)
        assert job.options == corpora.get(of).Options() and len(values) == len(job.options.names())


@pytest.mark.parametrize(
    ("kind", "preset"), [(kind, name) for kind in (ExtractionSettings, AlignSettings) for name in kind.preset_names()]
)
def test_presets_are_printed_whole(kind, preset):
    given = kind.preset(preset)
    assert kind().changed(flat(yaml.safe_load(as_yaml(given)))) == given
    assert (given == kind()) == (preset == "paper")


def test_the_presets():
    assert ExtractionSettings.preset_names() == ["paper", "in-person", "paper-literal"]
    assert AlignSettings.preset_names() == ["paper", "nano", "paper-literal", "single-gpu"]
    assert AlignSettings.preset("paper-literal") == AlignSettings(rewards=LITERAL)
    literal = ExtractionSettings.preset("paper-literal")
    assert (literal.timeline.min_pause_s, literal.turn_taking.min_gap_s, literal.backchannel.inside) == (
        0,
        -math.inf,
        0,
    )
    with pytest.raises(UsageError, match=r"Unknown preset 'papr'. Did you mean \"paper\"\?"):
        AlignSettings.preset("papr")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("vad.threshold", "2", r"'vad\.threshold' got '2'\. Expected a number, 0\.01 to 1\."),
        ("pause.tau_min_s", "-4", r"'pause\.tau_min_s' got '-4'\. Expected a number, 0 or more \(seconds\)\."),
        ("pause.tau_min_s", "nan", r"'pause\.tau_min_s' got 'nan'\. Expected not NaN|Expected a number, 0 or more"),
        ("turn_taking.max_gap_s", "nan", r"'turn_taking\.max_gap_s' got 'nan'"),
        ("pause.tau_min_s", "long", r"'pause\.tau_min_s' got 'long'\. Expected a number, 0 or more \(seconds\)\."),
        ("backchannel.inside", "perhaps", r"'backchannel\.inside' got 'perhaps'\. Expected true or false\."),
        ("vad.backend", "silro", r"'vad\.backend' got 'silro'\. Expected silero, .* Did you mean 'silero'\?"),
        ("axes", "pauses", r"'axes' got 'pauses'\. Expected .* Did you mean 'pause'\?"),
        ("axes", "", r"'axes' got ''\. Expected at least one axis"),
        ("splits", "0.9,0.2,0", r"'splits' got '0\.9,0\.2,0'\. Expected three shares .* add up to 1"),
        ("splits", "0.9,0.1", r"'splits' got '0\.9,0\.1'\. Expected"),
        ("per_axis", "0", r"'per_axis' got '0'\. Expected a whole number, 1 or more\."),
        ("context_s", "inf", r"'context_s' got 'inf'\. Expected a number, 0 or more, finite \(seconds\)\."),
        ("rate_hz", "4000", r"'rate_hz' got '4000'\. Expected a whole number, 8000 to 192000 \(Hz\), or null\."),
        ("vad.model", "x", r"'vad\.model' got 'x'\. Expected none, unless vad\.backend is pyannote\."),
        ("asr.model", "kaldi", r"'asr\.model' got 'kaldi'\. Expected whisperx, or whisperx:MODEL\."),
        ("pause.tau_mins", "3", r"Unknown setting 'pause\.tau_mins'\. Did you mean 'pause\.tau_min_s'\?"),
        ("hours", "3", r"Unknown setting 'hours'\. Did you mean 'corpus\.hours'\?"),
        ("corpus.hour", "3", r"Unknown setting 'corpus\.hour'\. Did you mean 'corpus\.hours'\?"),
        ("corpus.minutes", "0.1", r"'corpus\.minutes' got '0\.1'\. Expected a number, 0\.5 to 120\."),
        ("corpus.speakers", "3", r"'corpus\.speakers' got '3'\. Expected a whole number, 2 or more, a multiple of 2\."),
        ("vad", "silero", r"Unknown setting 'vad'\."),
    ],
)
def test_a_wrong_setting_is_explained_once(name, value, message, tmp_path, capsys):
    arguments = "extract", "synthetic", tmp_path / "made", "-o", tmp_path / "out", "--dry-run"
    code, _, said = segkit(*arguments, "--set", f"{name}={value}", capsys=capsys)
    said = " ".join(said.split())
    assert code == 2 and len(said) < 300
    with pytest.raises(UsageError, match=message):
        Job.asked("synthetic", None, tmp_path / "out", {name: value})
    assert "Error: " in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rewards.max_backchannel_s", -1, r"'rewards\.max_backchannel_s' got -1\. Expected a number, 0 or more"),
        ("minibatch", 3, r"'minibatch' got 3\. Expected a divisor of completions \(16\)"),
        ("completions", 1, r"'completions' got 1\. Expected a whole number, 2 or more"),
        ("model.export", "lora", r"'model\.export' got 'lora'\. Expected merged, as model\.lora_rank is 0"),
        ("asr", "whisperx", r"'asr' got 'whisperx'\. Expected nothing without a judge"),
        ("lr", 1e-5, r"Unknown setting 'lr'\. Did you mean 'optimiser\.lr'\?"),
        ("judge.timeout_s", 0, r"'judge\.timeout_s' got 0\. Expected a number, more than 0"),
        ("objective.clip", 1, r"'objective\.clip' got 1\. Expected a number, more than 0 and less than 1"),
    ],
)
def test_a_wrong_setting_of_training(name, value, message):
    with pytest.raises(UsageError, match=message):
        align_settings("paper", {name: value})


def test_settings_made_in_python_are_checked_too():
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        VadSettings(threshold=2)
    with pytest.raises(ValidationError, match="frozen"):
        VadSettings().threshold = 0.3  # type: ignore[misc]


def test_text_numbers_and_nested_values_mean_the_same():
    texts = {"pause.tau_min_s": "3", "axes": "interruption, pause", "rate_hz": "native", "limit": "7"}
    plain = {"pause": {"tau_min_s": 3.0}, "axes": ["pause", Axis.INTERRUPTION, "pause"], "rate_hz": None, "limit": 7}
    settings = ExtractionSettings().changed(texts)
    assert settings == ExtractionSettings().changed(plain)
    assert settings.axes == (Axis.PAUSE, Axis.INTERRUPTION) and settings.rate_hz is None and settings.limit == 7


def test_a_flag_is_the_setting_of_its_name(tmp_path, capsys):
    """A file comes first, then flags, then --set."""
    (tmp_path / "own.yaml").write_text("seed: 1\nper_axis: 11\nrate_hz: 8000\ncorpus:\n  hours: 0.25\n")
    arguments = ["extract", "synthetic", tmp_path / "made", "-o", tmp_path / "out", "--dry-run", "--json"]
    arguments += ["--config", tmp_path / "own.yaml"]

    def job(*more):
        code, printed, _ = segkit(*arguments, *more, capsys=capsys)
        assert code == 0
        return json.loads(printed)["job"]

    assert {"seed": 1, "per_axis": 11, "rate_hz": 8000}.items() <= job().items() and job()["options"]["hours"] == 0.25
    assert job("--seed", 2, "--rate-hz", "native") == job("--set", "seed=2", "--set", "rate_hz=native")
    assert job("--seed", 2, "--set", "seed=3")["seed"] == 3 and job("--seed", 2)["per_axis"] == 11
    assert job("--vad", "webrtc")["settings"] == job("--set", "vad.backend=webrtc")["settings"]
    assert job("--set", "corpus.seed=5")["seed"] == 1 and job("--set", "corpus.seed=5")["options"]["seed"] == 5


def test_a_file_that_holds_no_settings(tmp_path):
    for text in ("- a\n- list", "a: [", "\0"):
        (tmp_path / "own.yaml").write_text(text)
        with pytest.raises(UsageError, match=r"own\.yaml"):
            read_yaml(tmp_path / "own.yaml")
    with pytest.raises(UsageError, match=r"other\.yaml"):
        read_yaml(tmp_path / "other.yaml")


def test_what_is_on_disk_keeps_its_name():
    """Hashes of before there were models: in rows, in names of annotations, and in folders of synthetic recordings."""
    assert fingerprint(SegmentSettings()) == "5037529de32b3079"
    assert fingerprint(ExtractionSettings.preset("paper-literal").of_segments) == "3f4242ce8b958b9d"
    assert fingerprint("stereo", StereoOptions(), SegmentSettings()) == "a8283ef2c617715d"
    heard = SegmentSettings(asr=AsrSettings(model="whisperx"))
    assert fingerprint("synthetic", SyntheticOptions(first_speaker=200), heard) == "5109b8ea0cc84a12"
    assert Job("stereo", Path(), Path("out")).settings_hash == "a8283ef2c617715d"


def test_what_is_left_out_of_an_identity_is_at_its_default():
    assert "asr" not in as_json(SegmentSettings()) and "model" not in as_json(VadSettings())
    assert as_json(SegmentSettings(asr=AsrSettings(replace=True)))["asr"]["replace"] is True
    literal = ExtractionSettings.preset("paper-literal")
    assert SegmentSettings.read(json.loads(json.dumps(as_json(literal.of_segments)))) == literal.of_segments


def test_what_may_change_when_a_run_is_resumed():
    resumable = {each.name for each in AlignSettings.fields() if each.extra["resumable"]}
    judge = {f"judge.{name}" for name in ("url", "timeout_s", "retries", "concurrency")}
    speed = {"sampling.rows", "optimiser.microbatch", "model.checkpointing", "model.export"}
    assert resumable == judge | speed | {name for name in AlignSettings.names() if name.startswith("evaluation.")}
