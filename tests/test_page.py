"""`segkit report` of a dataset: a page that needs nothing else, shows every axis, escapes what it did not write."""

import base64
import io
import itertools
import json
import math
import os
import re
import shutil
from collections import Counter
from functools import partial

import numpy as np
import pytest
import soundfile
from support import AXES, Page, needs_nothing_else, report_on_changed, rows

from segkit.audio import decode_flac_at
from segkit.dataset.dataset import Dataset
from segkit.dataset.record import Record
from segkit.errors import SegkitError, UsageError
from segkit.reporting import clip
from segkit.reporting.page import in_turn, write_report

SILENT = {"user": None, "agent": None}
"""Changes of a row that take its audio away, where it does not matter: most of the time of a report is MP3."""


@pytest.fixture(scope="module")
def page(small, tmp_path_factory):
    output = tmp_path_factory.mktemp("page") / "new" / "report.html"
    write_report(small.out, output, per_axis=2)
    return Page(output)


@pytest.fixture
def changed(small, tmp_path):
    """Reports on a copy of the dataset whose rows were changed by a function."""
    return partial(report_on_changed, small, tmp_path)


def test_a_page_needs_nothing_else_and_is_small(page):
    needs_nothing_else(page)
    players = page.all("audio")
    assert len(page.source) < 20e6 * len(players) / 40


def test_it_plays_as_many_segments_as_it_shows_of_every_axis(page, small):
    shown = page.all("article", "clip")
    assert len(page.all("audio")) == len(shown) == len(page.all("div", "playhead"))
    kept = Counter(rows(small)["axis"].to_pylist())
    assert {axis: sum(a["data-axis"] == axis for a in shown) for axis in AXES} == {a: min(2, kept[a]) for a in AXES}
    assert [a["data-filter"] for a in page.all("button") if "data-filter" in a] == ["", *AXES]
    ids = [a["id"] for _, a in page.found if "id" in a]
    assert len(ids) == len(set(ids)) and {a["id"][5:] for a in shown} <= set(rows(small)["id"].to_pylist())
    assert all(a.get("aria-label") for a in shown + page.all("button", "play"))


def test_it_is_the_same_every_time(page, small, tmp_path):
    write_report(small.out, tmp_path / "again.html", per_axis=2)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page.source


def test_what_is_heard_is_what_is_drawn(page, small):
    """User left and agent right, from the shown context on, without the delay of MP3."""
    table = {row["id"]: row for row in rows(small).to_pylist()}
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


def test_the_bars_of_a_histogram_add_up(page, small):
    """Each is there, with as many values as there are."""
    table = rows(small).to_pylist()
    levels = {"SNR of the user": "user_snr_db", "SNR of the agent": "agent_snr_db", "crosstalk": "bleed_db"}
    expected = []
    for one in Dataset(small.out).statistics():
        expected += [(name, lengths.count) for name, lengths in one.lengths.items()]
        own = [row for row in table if row["axis"] == one.axis]
        expected += [
            (name, sum(row[column] is not None and math.isfinite(row[column]) for row in own))
            for name, column in levels.items()
        ]
    figures = re.findall(r'(?s)<figure class="histogram">.*?</figure>', page.source)
    found = [(re.search(r"<figcaption>(.*?) <", f)[1], int(re.search(r": (\d+) values", f)[1])) for f in figures]
    assert found == expected and [name for name, _ in found].count("segments") == len(AXES)
    assert [sum(map(int, re.findall(r'data-count="(\d+)"', f))) for f in figures] == [count for _, count in found]


def test_what_is_drawn_stands_at_its_time(changed):
    """Two seconds of context and eight of the segment: a second is a tenth of the width."""
    word = {"speaker": "user", "text": "so", "end_s": 9.0, "confidence": None}
    page = changed(
        lambda row: {
            **SILENT,
            **{"context_s": 2.0, "duration_s": 8.0},
            **{"user_activity": [[-1.0, 1.0], [3.0, 5.0]], "agent_activity": [[-9.0, -1.5], [7.0, 12.0]]},
            "words": [word | {"start_s": -3.0}, word | {"start_s": 0.5}, word | {"start_s": 4.0, "speaker": "agent"}],
            **{"pauses": [[5.0, 6.0]], "turn_end_s": 3.0, "gap_s": -0.5, "backchannels": [[2.0, 2.5]]},
            **{"interruption_start_s": 4.0, "interruption_end_s": 6.0},
        }
    )
    found = {}
    for tag, a in page.found:
        kind = [*a.get("class", "").split(), "", ""]
        if tag == "article":
            axis = a["data-axis"]
        elif kind[0] == "lane":
            role = kind[1]
        elif kind[0] in ("speech", "word", "event") and "style" in a:
            places = tuple(float(n) for n in re.findall(r"(?:left|[^-]width):([\d.]+)%", a["style"]))
            found.setdefault((kind[0], role, axis if kind[0] == "event" else ""), set()).add(places)
    assert found == {
        ("speech", "user", ""): {(10.0, 20.0), (50.0, 20.0)},
        ("speech", "agent", ""): {(0.0, 5.0), (90.0, 10.0)},
        ("word", "user", ""): {(25.0,)},
        ("word", "agent", ""): {(60.0,)},
        ("event", "user", "pause"): {(70.0, 10.0)},
        ("event", "user", "turn_taking"): {(45.0, 5.0)},
        ("event", "agent", "turn_taking"): {(45.0, 5.0)},
        ("event", "agent", "backchannel"): {(40.0, 5.0)},
        ("event", "user", "interruption"): {(60.0, 20.0)},
        ("event", "agent", "interruption"): {(60.0, 0.0)},
    }


def test_corpora_and_recordings_take_turns():
    table = [{"id": f"{i * 37 % 100:02}", "corpus": "big", "recording_id": f"r{i // 10}"} for i in range(100)]
    small = {"id": "zz", "corpus": "small", "recording_id": "s"}
    shown = in_turn([*table, small])
    assert small in shown[:2] and len(shown) == 101
    assert {row["recording_id"] for row in shown[:11]} == {"s", *(f"r{i}" for i in range(10))}
    assert shown == in_turn([small, *reversed(table)])


def test_corpora_can_be_told_apart(changed):
    page = changed(lambda row: SILENT | {"corpus": "small" if row["id"] < "4" else "big"})
    assert {a["data-corpus"] for a in page.all("article")} == {"big", "small"}
    assert re.search(r"Candidates of \w+, by the first", page.text) and "hours recorded" not in page.text
    assert len(page.all("option")) == 3 and page.text.count("crosstalk") > 2 * len(AXES)


def test_an_axis_without_segments_is_named(small, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(small.out, out)
    shutil.rmtree(out / "data" / "backchannel")
    run = json.loads((out / "run.json").read_text())
    run["segments"]["backchannel"]["kept"] = 0
    (out / "run.json").write_text(json.dumps(run))
    write_report(out, tmp_path / "page.html", per_axis=1)
    page = Page(tmp_path / "page.html")
    assert page.text.count("There is no segment of backchannel.") == 2
    kept = re.findall(r'<li class="kept">.*?</li>', page.source)
    assert [("<u" in bar) for bar in kept] == [axis != "backchannel" for axis in AXES]


def test_every_reason_is_there(page, small):
    dropped = json.loads(small.folder.record_file.read_text())["segments"]
    assert "Candidates, by the first" in page.text and "hours recorded" in page.text
    for reason in {reason for counts in dropped.values() for reason in counts["dropped"]}:
        assert reason in page.text


def test_what_segkit_did_not_write_is_escaped(changed):
    evil = '<script>alert("1")</script>'

    def change(row):
        word = {"speaker": "user", "text": evil, "start_s": 0.1, "end_s": 0.2, "confidence": None}
        void = [word | {"text": ""}, word | {"text": "a\0b\x1bc", "start_s": 3.0}, word | {"start_s": math.nan}]
        return {"words": [word, *void], "recording_id": f"{evil}'\"&"}

    page = changed(change, per_axis=1)
    assert len(page.all("script")) == 1 and evil not in page.source
    assert evil in page.text and {a["title"] for a in page.all("span", "word")} == {evil, "abc"}
    assert not re.search(r"[\0-\x08\x1b]", page.source)


def test_what_is_not_known_is_not_printed(changed):
    unknown = {"user_snr_db": math.nan, "agent_snr_db": math.inf, "bleed_db": -math.inf, "overlap_share": math.nan}
    page = changed(lambda row: unknown, per_axis=1)
    assert page.all("article") and not re.search(r"\bnan\b|\binf\b|SNR|crosstalk|both speak", page.text)


def test_a_missing_side_is_silent(small):
    row = next(row for row in rows(small).to_pylist() if row["axis"] == "pause")
    one = clip.of_segment(row | {"agent": None})
    heard, _ = soundfile.read(io.BytesIO(base64.b64decode(one.sound)))
    assert np.abs(heard[:, 0]).max() > 0.05 and np.abs(heard[:, 1]).max() < 1e-3
    assert one.lanes[0].wave and not one.lanes[1].wave and one.facts["audio"] == "user only"


@pytest.mark.parametrize("context_s", [0.0, 1.0])
def test_a_segment_of_no_length(small, context_s):
    row = next(row for row in rows(small).to_pylist() if row["axis"] == "pause")
    one = clip.of_segment(row | {"duration_s": 0.0, "context_s": context_s})
    assert one.sound and one.ticks and clip.outline(np.zeros(0, np.float32)) == ""


def test_what_cannot_be_read_is_named(changed, tmp_path):
    with pytest.raises(SegkitError, match=r"The audio of segment \w{16} cannot be decoded: Format not recognised\."):
        changed(lambda row: {"user": {"bytes": b"", "path": None}})
    damaged = max((tmp_path / "changed" / "data").rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:5000])
    with pytest.raises(SegkitError, match=rf"{damaged.name}.* cannot be read as Parquet"):
        write_report(tmp_path / "changed", tmp_path / "page.html")


def test_annotations_have_lanes_and_no_player(changed):
    page = changed(lambda row: SILENT | {"user_snr_db": None, "agent_snr_db": None})
    assert page.all("article", "clip") and page.all("i", "speech") and page.all("span", "event")
    assert (
        "left" not in page.text and not page.all("audio") and not page.all("polygon") and not page.all("button", "play")
    )


def test_a_long_segment_is_cut(small):
    row = next(row for row in rows(small).to_pylist() if row["axis"] == "pause")
    long = clip.of_segment(row | {"duration_s": 100.0})
    assert long.length_s == min(row["context_s"], 10) + 50 and long.facts["shown"] == "first 50 s"
    assert clip.of_segment(row | {"context_s": 0.0, "user": None}).context == 0


def test_the_longest_segments_fit():
    """Forty of them stay under 20 MB, with something to spare for words and outlines."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 60 * clip.SOUND_HZ)).astype(np.float32)
    assert len(clip.mp3(noise)) + 2 * len(clip.outline(noise[0])) < 0.9 * 20e6 / 40


def test_words_keep_out_of_each_other():
    said = [{"start_s": 0.1 * i, "text": "wonderful" if i % 5 else "i"} for i in range(80)]
    placed = list(clip.place_words(said, 0.0, 9.0))
    assert len(placed) == 80
    for row in range(clip.WORD_ROWS):
        spans = [span for span in placed if span.row == row]
        assert all(a.left + a.width <= b.left + 0.02 for a, b in itertools.pairwise(spans))


def test_a_word_at_the_edge_is_whole():
    said = [{"start_s": 9.0 - 0.02 * i, "text": "wonderful"} for i in range(4, 0, -1)]
    placed = list(clip.place_words(said, 0.0, 9.0))
    assert len(placed) == 4 and len({span.row for span in placed}) == 4
    for span in placed:
        assert span.left + span.width <= 100.01
        assert span.width / 100 * 9 * clip.PIXELS_PER_S >= 9 * clip.LETTER_PX


def test_labels_of_events_keep_out_of_each_other():
    placed = list(clip.place_marks([(a, a + 0.2, "0.20 s") for a in (1.0, 1.3, 1.6, 4.0)], 0.0, 9.0))
    assert [span.row for span in placed] == [0, 1, 2, 0]


def test_what_is_neither_is_said(small, tmp_path):
    page = tmp_path / "page.html"
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "moshi"}')
    for folder in (model, tmp_path / "nothing"):
        with pytest.raises(UsageError, match=r"is neither a dataset folder nor a training run. Expected a folder that"):
            write_report(folder, page)
    with pytest.raises(UsageError, match="Expected at least 1"):
        write_report(small.out, page, per_axis=0)
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UsageError, match="is a folder or a device"):
            write_report(small.out, place)
    for place in (model / "config.json" / "page.html", tmp_path / ("long" * 99) / "page.html"):
        with pytest.raises(UsageError, match="cannot be written"):
            write_report(small.out, place)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    Record.of(small.record).write(unfinished / "run.json")
    with pytest.raises(UsageError, match="a run that is not finished"):
        write_report(unfinished, page)
    (unfinished / "run.json").write_text('{"job": {}, "status": "complete"}')
    with pytest.raises(UsageError, match=r"run\.json' is damaged"):
        write_report(unfinished, page)
    (unfinished / "run.json").write_text(small.folder.record_file.read_text())
    with pytest.raises(SegkitError, match="has no segments"):
        write_report(unfinished, page)
    assert not page.exists()
