"""`segkit report`: one page that needs nothing else, shows every axis, and escapes what it did not write."""

import base64
import io
import itertools
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import rows, write_wav

from segkit.audio import decode_flac_at
from segkit.errors import SegkitError, UsageError
from segkit.report import clip, training
from segkit.report.page import write_report
from segkit.report.stats import statistics
from segkit.schemas import Axis

AXES = [str(axis) for axis in Axis]
REWARDS = {"pause": -0.5, "turn_taking": -3.0, "backchannel": 0.25, "interruption": -1.0}


class Page(HTMLParser):
    """The elements of a page as (tag, attributes), and its text outside of styles and scripts."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.found, self.text, self.open = [], "", []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data

    def all(self, tag, name=None):
        """The attributes of the elements of a tag, and of a class."""
        return [a for t, a in self.found if t == tag and (name is None or name in a.get("class", "").split())]


@pytest.fixture(scope="module")
def page(dataset, tmp_path_factory):
    output = tmp_path_factory.mktemp("page") / "new" / "report.html"
    write_report(dataset.out, output, per_axis=4)
    return Page(output)


@pytest.fixture
def changed(dataset, tmp_path):
    """Reports on a copy of the dataset whose rows were changed by a function."""

    def report(change):
        out = tmp_path / "changed"
        shutil.copytree(dataset.out, out)
        for path in (out / "data").rglob("*.parquet"):
            table = pq.read_table(path)
            pq.write_table(pa.Table.from_pylist([row | change(row) for row in table.to_pylist()], table.schema), path)
        write_report(out, tmp_path / "changed.html", per_axis=3)
        return Page(tmp_path / "changed.html")

    return report


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
            name = f"validation-{axis}-aa" if axis == "pause" else f"train-{axis}-a{step}"
            write_wav(folder / "samples" / f"step-{step:06d}" / f"{name}-reward-0.{step}0.wav", noise, 8000)
    return folder


def _facts(step):
    return {
        axis: {"reward": {"timing": reward / (1 + step)}, "diagnostics": {"delay_s": 0.0}}
        for axis, reward in REWARDS.items()
    }


def _needs_nothing_else(page):
    assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(https?:)?//", page.source)
    assert not re.search(r"url\(|@import|https?://", "".join(re.findall(r"(?s)<(?:style|script)>.*?</", page.source)))
    links = [a[name] for _, a in page.found for name in ("src", "href") if name in a]
    assert all(link.startswith(("data:", "#")) for link in links)
    targets = {a.get("id") for _, a in page.found}
    assert {link[1:] for link in links if link.startswith("#")} <= targets


def test_a_page_needs_nothing_else_and_is_small(page):
    _needs_nothing_else(page)
    players = page.all("audio")
    assert len(page.source) < 20e6 * len(players) / 40


def test_it_plays_as_many_segments_as_it_shows_of_every_axis(page, dataset):
    shown = page.all("article", "clip")
    assert len(page.all("audio")) == len(shown) == len(page.all("div", "playhead"))
    kept = {one.axis: one.segments for one in statistics(dataset.out)}
    assert {axis: sum(a["data-axis"] == axis for a in shown) for axis in AXES} == {a: min(4, kept[a]) for a in AXES}
    assert [a["data-filter"] for a in page.all("button") if "data-filter" in a] == ["", *AXES]
    ids = [a["id"] for _, a in page.found if "id" in a]
    assert len(ids) == len(set(ids)) and {a["id"][5:] for a in shown} <= set(rows(dataset)["id"].to_pylist())
    assert all(a.get("aria-label") for a in shown + page.all("button", "play"))


def test_it_is_the_same_every_time(page, dataset, tmp_path):
    write_report(dataset.out, tmp_path / "again.html", per_axis=4)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page.source


def test_what_is_heard_is_what_is_drawn(page, dataset):
    """User left and agent right, from the shown context on, without the delay of MP3."""
    table = {row["id"]: row for row in rows(dataset).to_pylist()}
    for article, picture, audio in zip(
        page.all("article", "clip"), page.all("div", "picture"), page.all("audio"), strict=True
    ):
        row = table[article["id"][5:]]
        data = base64.b64decode(audio["src"].removeprefix("data:audio/mpeg;base64,"))
        heard, rate_hz = soundfile.read(io.BytesIO(data))
        context_s = min(row["context_s"], 10)
        assert float(picture["data-start"]) == -context_s
        assert len(heard) / rate_hz == pytest.approx(float(picture["data-length"]), abs=2e-4)
        for ear, role in enumerate(("user", "agent")):
            whole = decode_flac_at(row[role]["bytes"], rate_hz)
            there = whole[round((row["context_s"] - context_s) * rate_hz) :][: len(heard)]
            likeness = np.corrcoef(there, heard[: len(there), ear])[0, 1]
            assert likeness > 0.8 or np.abs(there).max() < 0.02


def test_the_bars_of_a_histogram_add_up(page, dataset):
    stats = {one.axis: one for one in statistics(dataset.out)}
    figures = re.findall(r'(?s)<figure class="histogram">.*?</figure>', page.source)
    counts = [(int(re.search(r": (\d+) values", f)[1]), re.findall(r'data-count="(\d+)"', f)) for f in figures]
    assert counts and all(total == sum(map(int, bars)) for total, bars in counts)
    expected = [lengths.count for axis in AXES for lengths in stats[axis].lengths.values()]
    assert sum(total for total, _ in counts) >= sum(expected)
    assert page.source.count("<figcaption>SNR of the user") == page.source.count("<figcaption>crosstalk") == len(AXES)


def test_every_reason_is_there(page, dataset):
    dropped = json.loads(dataset.run_file.read_text())["segments"]
    for reason in {reason for counts in dropped.values() for reason in counts["dropped"]}:
        assert reason in page.text


def test_what_segkit_did_not_write_is_escaped(changed):
    evil = '<script>alert("1")</script>'

    def change(row):
        word = {"speaker": "user", "text": evil, "start_s": 0.1, "end_s": 0.2, "confidence": None}
        return {"words": [word], "recording_id": f"{evil}'\"&"}

    page = changed(change)
    assert len(page.all("script")) == 1 and evil not in page.source
    assert evil in page.text and {a["title"] for a in page.all("span", "word")} == {evil}


def test_annotations_have_lanes_and_no_player(changed):
    page = changed(lambda row: {"user": None, "agent": None, "user_snr_db": None, "agent_snr_db": None})
    assert page.all("article", "clip") and page.all("i", "speech") and page.all("span", "event")
    assert (
        "left" not in page.text and not page.all("audio") and not page.all("polygon") and not page.all("button", "play")
    )


def test_a_long_segment_is_cut(dataset):
    row = next(row for row in rows(dataset).to_pylist() if row["axis"] == "pause")
    long = clip.of_segment(row | {"duration_s": 100.0})
    assert long.length_s == min(row["context_s"], 10) + 50 and long.facts["shown"] == "first 50 s"
    assert clip.of_segment(row | {"context_s": 0.0, "user": None}).context == 0


def test_the_longest_segments_fit():
    """Forty of them stay under 20 MB, with something to spare for words and outlines."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 60 * clip.SOUND_HZ)).astype(np.float32)
    assert len(clip._mp3(noise)) + 2 * len(clip._outline(noise[0])) < 0.9 * 20e6 / 40


def test_words_keep_out_of_each_other():
    said = [{"start_s": 0.1 * i, "text": "wonderful" if i % 5 else "i"} for i in range(80)]
    placed = list(clip._words(said, 0.0, 9.0))
    assert len(placed) == 80
    for row in range(clip.WORD_ROWS):
        spans = [span for span in placed if span.row == row]
        assert all(a.left + a.width <= b.left + 0.02 for a, b in itertools.pairwise(spans))


def test_a_run_shows_all_axes(run, tmp_path):
    write_report(run, tmp_path / "run.html")
    page = Page(tmp_path / "run.html")
    _needs_nothing_else(page)
    for axis in AXES:
        assert axis.replace("_", " ") in page.text
    assert "a run & more" in page.text and "3 of 30" in page.text
    labels = [a["aria-label"] for a in page.all("svg") if a.get("role") == "img"]
    assert len(labels) == 4 * 2 + 2
    assert "reward: timing. train: -0.25 at step 1, -0.125 at step 3; validation: -0.5 at step 0, -0.125" in labels[0]
    assert any(label.startswith("kl.") for label in labels) and any(label.startswith("zero std.") for label in labels)
    assert len(page.all("audio")) == len(page.all("article", "clip")) == 8
    assert re.search(r"-3\.00</td><td>-0\.75</td><td class=\"better\">\+2\.25", page.source)


def test_samples_are_of_one_segment_where_there_are_two(run):
    found = training.read(run).samples
    assert [one.step for one in found["pause"]] == [2, 3] and {one.segment_id for one in found["pause"]} == {"aa"}
    assert [(one.step, one.reward) for one in found["interruption"]] == [(2, -0.2), (3, -0.3)]


def test_a_run_of_a_single_line_has_a_page(run, tmp_path):
    first = (run / "metrics.jsonl").read_text().splitlines()[0]
    (run / "metrics.jsonl").write_text(first + "\n")
    shutil.rmtree(run / "samples")
    write_report(run, tmp_path / "run.html")
    page = Page(tmp_path / "run.html")
    assert len(page.all("circle")) == 8 and not page.all("table") and not page.all("audio")


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.0, 0.0), (3e-7, 3e-7), (-12.0, -11.9), (1e-9, 5e3)])
def test_charts_of_any_numbers(values):
    chart = training.Chart("a", "", [training.Series("train", list(enumerate(values)))])
    assert 2 <= len(chart.ticks) <= 8
    places = [float(n) for point in chart.line(chart.series[0]).split() for n in point.split(",")]
    assert all(0 <= place <= training.WIDTH for place in places)
    assert len({label for _, label in chart.ticks}) == len(chart.ticks)


def test_what_is_neither_is_said(dataset, run, tmp_path):
    page = tmp_path / "page.html"
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "moshi"}')
    for folder in (model, tmp_path / "nothing"):
        with pytest.raises(UsageError, match=r"is no dataset folder .* and no training run .* Expected a folder that"):
            write_report(folder, page)
    with pytest.raises(UsageError, match="Expected at least 1"):
        write_report(dataset.out, page, per_axis=0)
    with pytest.raises(UsageError, match="a file to write"):
        write_report(dataset.out, tmp_path)
    (run / "metrics.jsonl").unlink()
    with pytest.raises(UsageError, match="no metrics yet"):
        write_report(run, page)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "run.json").write_text('{"job": {}, "status": "running"}')
    with pytest.raises(UsageError, match="not come to its end"):
        write_report(unfinished, page)
    (unfinished / "run.json").write_text(dataset.run_file.read_text())
    with pytest.raises(SegkitError, match="holds no segments"):
        write_report(unfinished, page)
    assert not page.exists()
