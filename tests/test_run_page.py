"""`segkit report` of a training run: curves, the change on the validation split, and samples to hear."""

import json
import re
import shutil

import numpy as np
import pytest
from support import AXES, Page, needs_nothing_else, write_wav

from segkit.errors import SegkitWarning, UsageError
from segkit.reporting import training
from segkit.reporting.page import write_report
from segkit.runs import Run, RunFolder, Sample

REWARDS = {"pause": -0.5, "turn_taking": -3.0, "backchannel": 0.25, "interruption": -1.0}


@pytest.fixture
def run(tmp_path):
    """The folder of a run as `segkit align` leaves it: an evaluation, three steps, samples of the last two.

    Backchannels are not drawn in step 2, and the process was killed while it wrote a line.
    """
    folder = tmp_path / "a run & more"
    folder.mkdir()
    settings = {"steps": 30, "groups": 2, "completions": 4, "optimiser": {"lr": 2e-4}, "objective": {"beta": 0.01}}
    identity = {"policy": "nano", "dataset": "0123", "dtype": "torch.float32", "config": settings}
    (folder / "config.json").write_text(json.dumps(identity))
    lines = [{"step": 0, "validation": _facts(0)}]
    for step in (1, 2, 3):
        drawn = {axis: facts for axis, facts in _facts(step).items() if (axis, step) != ("backchannel", 2)}
        lines.append({"step": step, "axes": drawn, "zero_std": step / 4, "kl": 0.01 * step, "judge_failures": {}})
    lines[-1]["validation"] = _facts(3)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 4, "ax')
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (16_000, 2))
    for step in (2, 3):
        for axis in AXES:
            split, segment_id = ("validation", "aa") if axis == "pause" else ("train", f"a{step}")
            _sample(folder, step, split, axis, segment_id, -step / 10, noise)
    return folder


def _sample(folder, step, split, axis, segment_id, reward, samples):
    """A sample and its line in the index; returns the file."""
    layout = RunFolder(folder)
    path = write_wav(layout.sample(step, split, axis), samples, 8000)
    layout.write_sample(Sample(path.relative_to(folder).as_posix(), step, split, axis, segment_id, reward))
    return path


def _facts(step):
    return {
        axis: {
            "reward": {"timing": reward / (1 + step)},
            "diagnostics": {"delay_s": 0.0},
            "human": {"reward": {"timing": -0.03125}, "diagnostics": {"delay_s": None}},
        }
        for axis, reward in REWARDS.items()
    }


def test_a_run_shows_all_axes(run, tmp_path):
    write_report(run, tmp_path / "run.html")
    page = Page(tmp_path / "run.html")
    needs_nothing_else(page)
    for axis in AXES:
        assert axis.replace("_", " ") in page.text
    assert "a run & more" in page.text and "3 of 30" in page.text
    labels = [a["aria-label"] for a in page.all("svg") if a.get("role") == "img"]
    assert len(labels) == 4 * 2 + 2
    assert "reward: timing. train: -0.25 at step 1, -0.125 at step 3; validation: -0.5 at step 0, -0.125" in labels[0]
    assert labels[0].endswith("recorded agents: -0.0312 at step 0, -0.0312 at step 3")
    assert {"KL divergence.", "zero std."} <= {label[: label.index(".") + 1] for label in labels}
    assert len(page.all("audio")) == len(page.all("article", "clip")) == 8
    assert re.search(r"-3\.00</td><td>-0\.75</td><td class=\"better\">\+2\.25</td><td>-0\.03</td>", page.source)


def test_a_run_of_a_single_line_has_a_page(run, tmp_path):
    first = (run / "metrics.jsonl").read_text().splitlines()[0]
    (run / "metrics.jsonl").write_text(first + "\n")
    shutil.rmtree(run / "samples")
    write_report(run, tmp_path / "run.html")
    page = Page(tmp_path / "run.html")
    assert (
        len(page.all("circle")) == 12
        and [a["class"] for a in page.all("circle")] == ["main", "people", "main"] * 4
        and not page.all("table")
        and not page.all("audio")
    )


def test_curves_are_what_the_log_says(run, tmp_path):
    """The first chart: the reward of pauses from step 0 to 3, from -0.5 to -0.125; people get -0.03125."""
    write_report(run, tmp_path / "run.html")
    lines = Page(tmp_path / "run.html").all("polyline")[:3]
    logged = {step: -0.5 / (1 + step) for step in range(4)}
    people = dict.fromkeys((0, 3), -0.03125)
    for line, steps, of in zip(lines, ((1, 2, 3), (0, 3), (0, 3)), (logged, logged, people), strict=True):
        points = [tuple(map(float, point.split(","))) for point in line["points"].split()]
        places = [(42 + 252 * step / 3, 100 - 94 * (of[step] + 0.5) / 0.46875) for step in steps]
        assert np.array(points) == pytest.approx(np.array(places), abs=0.06)
    assert [line["class"] for line in lines] == ["faint", "main", "people"]
    overall = Page(tmp_path / "run.html").all("polyline")[-2:]
    assert [line["class"] for line in overall] == ["main", "main"]
    assert all(line["points"].startswith("126.0,") for line in overall)  # from step 1 on the same scale, 0 to 3


def test_what_was_none_before_is_in_the_table(run, tmp_path):
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(text.replace('"delay_s": 0.0', '"delay_s": null', 1))
    write_report(run, tmp_path / "run.html")
    table = re.findall(
        r"delay \(s\)</td><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>", Page(tmp_path / "run.html").source
    )
    assert table == [("\N{EN DASH}", "0.00", "\N{EN DASH}"), *[("0.00", "0.00", "+0.00")] * 3]


def test_a_damaged_run_has_the_same_page(run, tmp_path):
    write_report(run, tmp_path / "run.html")
    log = run / "metrics.jsonl"
    log.write_bytes(b'5\n[]\n{"kl": 1}\n' + log.read_bytes() + b'\n{"a": "\xe2\x82')
    nothing = np.zeros((0, 2))
    _sample(run, 3, "validation", "backchannel", "b", 0.0, nothing).write_bytes(b"RIFF")
    _sample(run, 4, "train", "pause", "aa", 0.0, nothing)
    _sample(run, 5, "train", "pause", "aa", 0.0, nothing).unlink()
    index = run / "samples.jsonl"
    index.write_bytes(b'5\n[]\n{"kl": 1}\n' + index.read_bytes() + b'{"file": "samples/step-0')
    write_report(run, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == (tmp_path / "run.html").read_text()


def test_samples_are_of_one_segment_where_there_are_two(run):
    found = training.read(Run(run)).samples
    assert [one.step for one in found["pause"]] == [2, 3] and {one.segment_id for one in found["pause"]} == {"aa"}
    assert [(one.step, one.reward) for one in found["interruption"]] == [(2, -0.2), (3, -0.3)]


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.0, 0.0), (3e-7, 3e-7), (-12.0, -11.9), (1e-9, 5e3)])
def test_charts_of_any_numbers(values):
    chart = training.Chart("a", "", [training.Series("train", list(enumerate(values)))], (0, 1))
    assert 2 <= len(chart.ticks) <= 8
    places = [float(n) for point in chart.line(chart.series[0]).split() for n in point.split(",")]
    assert all(0 <= place <= training.WIDTH for place in places)
    assert len({label for _, label in chart.ticks}) == len(chart.ticks)


def test_a_run_without_a_step_is_said(run, tmp_path):
    (run / "metrics.jsonl").unlink()
    with pytest.raises(UsageError, match="no metrics yet"):
        write_report(run, tmp_path / "page.html")


def test_samples_that_an_earlier_version_did_not_list_are_not_lost_in_silence(run, tmp_path):
    (run / "samples.jsonl").unlink()
    with pytest.warns(SegkitWarning, match="the page shows none"):
        write_report(run, tmp_path / "page.html")
    assert not Page(tmp_path / "page.html").all("audio")
