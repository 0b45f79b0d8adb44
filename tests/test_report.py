"""Statistics, pictures and the command line around them."""

import json
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from support import rows, segkit

from segkit.dataset.dataset import Dataset
from segkit.dataset.statistics import Distribution
from segkit.schemas import Axis


def test_statistics_count_what_is_there(small):
    table = rows(small).to_pylist()
    found = {s.axis: s for s in Dataset(small.out).statistics()}
    assert list(found) == [str(axis) for axis in Axis]
    for axis, s in found.items():
        of_axis = [row for row in table if row["axis"] == axis]
        assert s.segments == len(of_axis) == sum(s.splits.values())
        assert s.hours == pytest.approx(sum(row["duration_s"] for row in of_axis) / 3600, abs=1e-4)
        lengths = s.lengths["segments"]
        assert lengths.count == sum(lengths.histogram) == len(of_axis)
        assert lengths.median == pytest.approx(np.median([row["duration_s"] for row in of_axis]), abs=1e-3)
    own = {
        ("turn_taking", "gaps"): [row["gap_s"] for row in table if row["axis"] == "turn_taking"],
        ("pause", "pauses"): [b - a for row in table if row["axis"] == "pause" for a, b in row["pauses"]],
        ("backchannel", "backchannels"): [
            b - a for row in table if row["axis"] == "backchannel" for a, b in row["backchannels"]
        ],
    }
    for (axis, name), values_s in own.items():
        lengths = found[axis].lengths[name]
        assert (lengths.count, lengths.median) == (len(values_s), pytest.approx(np.median(values_s), abs=1e-3))
    assert "gaps" not in found["pause"].lengths and found["interruption"].lengths["gaps"].p10 < 0


def test_a_histogram_is_drawn_to_scale():
    assert str(Distribution.of([0.0, 0.0, 0.0, 0.0, 1.2])) == "0.00 █          ▂ 1.10"
    assert str(Distribution.of([0.5])).startswith("0.50 █")


def test_stats_command(small, capsys):
    code, printed, _ = segkit("stats", small.out, "--json", capsys=capsys)
    assert code == 0
    assert {s["axis"] for s in json.loads(printed)} == set(Axis)
    code, printed, _ = segkit("stats", small.out, capsys=capsys)
    assert code == 0 and "turn_taking" in printed and "synthetic: segments" in printed


@pytest.mark.parametrize("axis", Axis)
def test_inspect_draws_every_axis(small, tmp_path, capsys, axis):
    png = tmp_path / "new" / "a.png"
    code, printed, _ = segkit("inspect", small.out, axis, "--png", png, capsys=capsys)
    assert code == 0 and str(axis) in printed
    picture = matplotlib.image.imread(png)
    assert picture.shape[0] > 500 and picture.shape[1] > 1000
    for colour in ("#2563a8", "#c2571a", "#b3123f"):  # user, agent, event
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        assert (np.abs(picture[..., :3] - rgb).max(axis=2) < 0.02).sum() > 50


def test_inspect_by_the_beginning_of_an_id(small, tmp_path, capsys):
    name = rows(small)["id"][3].as_py()
    code, printed, _ = segkit("inspect", small.out, name[:12], "--png", tmp_path / "a.png", capsys=capsys)
    assert code == 0 and name in printed
    code, _, said = segkit("inspect", small.out, "", "--png", tmp_path / "a.png", capsys=capsys)
    assert code == 2 and "Expected an axis or an id" in said


def test_corpora_and_doctor(capsys):
    code, printed, _ = segkit("corpora", capsys=capsys)
    assert code == 0 and "stereo" in printed and "synthetic" in printed
    code, printed, _ = segkit("corpora", "pairs", capsys=capsys)
    assert code == 0 and "--set corpus.NAME=VALUE" in printed and "\noffsets: 0,0\n" in printed
    assert "17_agent.wav" in printed and "if that of the recordings allows it" in printed
    code, printed, _ = segkit("doctor", "--json", capsys=capsys)
    found = json.loads(printed)
    assert code == 0 and found["core"]["torch"] and found["decoders"]["flac"]
    assert "synthetic" in found["extras"] and isinstance(found["conflicts"], list)
    code, printed, _ = segkit("doctor", capsys=capsys)
    assert code == 0 and "silero-vad" in printed


def test_dry_run_writes_nothing(made, tmp_path, capsys):
    arguments = ["extract", "synthetic", made[0], "-o", tmp_path / "out", "--dry-run"]
    code, printed, _ = segkit(*arguments, "--set", "corpus.hours=0.2", capsys=capsys)
    assert code == 0 and "Nothing was written" in printed.replace("\n", " ")
    code, printed, _ = segkit(*arguments, "--json", capsys=capsys)
    assert code == 0 and json.loads(printed)["to_annotate"] > 0
    assert not (tmp_path / "out").exists()


def test_extract_prints_json_only(recordings, tmp_path, capsys):
    arguments = ["extract", "stereo", recordings[0].parent, "-o", tmp_path / "out", "--limit", 1, "--workers", 1]
    code, printed, said = segkit(*arguments, "--json", capsys=capsys)
    assert code == 0 and not said
    assert json.loads(printed) == json.loads((tmp_path / "out" / "run.json").read_text())


def test_help_imports_nothing_heavy():
    """What makes `segkit --help` answer at once: no torch, datasets, numpy, matplotlib behind it."""
    script = (
        "import sys; import segkit.cli; "
        "print([m for m in ('torch', 'datasets', 'numpy', 'matplotlib', 'pyarrow', 'pandas') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"
