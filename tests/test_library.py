"""segkit as a library: what `import segkit` gives, and datasets, runs and models as objects."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from support import EASY, make_job, rows
from support import segkit as command

import segkit
from segkit.dataset.rows import Places, write_segments
from segkit.errors import SegkitError, SegkitWarning, UsageError
from segkit.extraction.run import run
from segkit.models.protocols import Speaker, Trainable
from segkit.schemas import Axis

NOT_CALLED = {"SegmentRow", "SegkitError", "SegkitWarning", "NothingUsableError", "TrainingError"}
HEAVY = ("torch", "pyarrow", "pandas", "pydantic", "numpy", "typer", "datasets", "moshi")


def test_nothing_heavy_is_imported_before_it_is_used():
    code = f"import sys, segkit; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_public_name_is_there_and_documented():
    assert {*segkit.__all__} < {*dir(segkit)} and sorted(segkit.__all__) == segkit.__all__
    for name in segkit.__all__:
        assert getattr(segkit, name).__doc__
    with pytest.raises(AttributeError, match="'extrakt'"):
        segkit.extrakt  # noqa: B018 - looking is the test
    script = (Path(__file__).with_name("typed_user.py")).read_text()
    assert all(f"segkit.{name}" in script for name in segkit.__all__ if name not in NOT_CALLED)


# --- datasets ---


@pytest.fixture(scope="module")
def opened(dataset):
    return segkit.open_dataset(dataset.out)


def test_a_dataset_is_what_its_files_hold(opened, dataset):
    table = rows(dataset)
    assert opened.axes == [axis for axis in Axis if axis in table["axis"].to_pylist()] and len(opened) == len(table)
    assert set(opened.splits) == set(table["split"].to_pylist()) and opened.has_audio
    assert opened.table()["id"].to_pylist() == table["id"].to_pylist()
    assert not {"user", "agent"} & {*opened.table().column_names}
    for axis in opened.axes:
        for split in opened.splits:
            chosen = [r["id"] for r in table.to_pylist() if (r["axis"], r["split"]) == (axis, split)]
            assert opened.table(axis, split)["id"].to_pylist() == chosen
    frame = opened.to_pandas("pause")
    assert isinstance(frame, pd.DataFrame) and set(frame.axis) == {"pause"}
    assert opened.annotations().num_rows == opened.record.recordings.used
    assert sum(one.segments for one in opened.statistics()) == len(opened)
    assert [(terms.corpus, terms.licence, n) for terms, n in opened.terms().items()] == [
        ("synthetic", "CC0-1.0", len(opened))
    ]


def test_a_segment_is_its_row_and_two_tracks(opened, dataset):
    for row in rows(dataset).to_pylist():
        segment = opened.segment(row["id"])
        assert dict(segment) == row
        for role in ("user", "agent"):
            samples, rate_hz = soundfile.read(io.BytesIO(row[role]["bytes"]), dtype="float32")
            assert np.array_equal(getattr(segment, role), samples) and segment.rate_hz == rate_hz
            assert np.array_equal(opened.audio(row["id"], role, rate_hz), samples)
        length_s = (len(segment.user) - segment.context_samples) / segment.rate_hz
        assert length_s == pytest.approx(row["duration_s"], abs=1e-9)
        assert row["id"] in repr(segment)
    assert [segment["id"] for segment in opened] == rows(dataset)["id"].to_pylist()
    assert opened.segment("backchannel")["axis"] == "backchannel"
    with pytest.raises(UsageError, match=r"0 segments have an id that begins with 'zz'\. Expected an axis or an id"):
        opened.segment("zz")


def test_a_dataset_says_what_it_is(opened):
    assert f"{len(opened)} segments of synthetic" in repr(opened) and "pause: " in repr(opened)
    assert opened._repr_html_().count("<tr>") == len(opened.axes)


def test_a_dataset_without_audio_says_so(made, tmp_path):
    run(job := make_job(made, tmp_path / "out", annotations_only=True, limit=2))
    opened = segkit.open_dataset(job.out)
    assert not opened.has_audio and "no audio" in repr(opened)
    with pytest.raises(SegkitError, match="has no audio of the user"):
        opened.segment(opened.axes[0]).user  # noqa: B018 - reading is the test


def test_what_is_no_dataset(tmp_path, dataset):
    with pytest.raises(UsageError, match=r"has no run\.json"):
        segkit.open_dataset(tmp_path)
    (tmp_path / "run.json").write_text('{"job": 1}')
    with pytest.raises(UsageError, match=r"run\.json' is damaged"):
        segkit.open_dataset(tmp_path)
    shutil.copytree(dataset.out, tmp_path / "running")
    record = dataset.folder.record().model_copy(update={"status": "running"})
    record.write(tmp_path / "running" / "run.json")
    with pytest.raises(UsageError, match="not finished"):
        segkit.open_dataset(tmp_path / "running")


def test_one_clip_costs_one_small_row_group(dataset):
    for path in dataset.folder.shards():
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        assert sum(g.num_rows for g in groups) == metadata.num_rows
        for group in groups:
            columns = [group.column(i) for i in range(group.num_columns)]
            sizes = [c.total_compressed_size for c in columns if c.path_in_schema in ("user.bytes", "agent.bytes")]
            assert len(sizes) == 2 and (group.num_rows == 1 or max(sizes) <= 2 << 20)


def test_a_segment_is_found_in_its_row_group_and_no_other_is_read(dataset, tmp_path, monkeypatch):
    """In files of several row groups, of one row and of many."""
    whole = rows(dataset).to_pylist()
    monkeypatch.setattr("segkit.dataset.rows.ROW_GROUP_BYTES", 3 * len(whole[0]["user"]["bytes"]))
    halves = tmp_path / "a.parquet", tmp_path / "b.parquet"
    for path, part in zip(halves, (whole[::2], whole[1::2]), strict=True):
        write_segments(path, iter(part))
    assert all(pq.read_metadata(path).num_row_groups > 3 for path in halves)
    places, read = Places(halves), []
    plain = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda *a, **k: read.append(a[1]) or plain(*a, **k))
    assert [places.row(row["id"]) for row in whole] == whole and len(read) == len(whole)
    assert list(places) == [row["id"] for row in whole[::2] + whole[1::2]]
    assert places.row(whole[3]["id"], ["user"]) == {"user": whole[3]["user"]}


# --- the verbs ---


def test_extract_is_what_the_command_does(made, dataset, tmp_path):
    told = []
    root, options = made
    again = segkit.extract(
        "synthetic",
        str(root),
        str(tmp_path / "out"),
        settings=EASY,
        options=options.model_dump(),
        hook=lambda stage, done, total, facts=None: told.append((stage, done, total)),
    )
    assert again.table() == segkit.open_dataset(dataset.out).table()
    assert again.record == dataset.folder.record()
    assert {stage for stage, *_ in told} == {"annotating", "writing"} and told[-1][1] == told[-1][2]
    settings = segkit.ExtractionSettings().changed(EASY)
    same = segkit.extract("synthetic", root, tmp_path / "out", settings=settings, options=options.model_dump())
    assert same.record == again.record
    with pytest.raises(UsageError, match=r"ROOT is missing: the folder of 'stereo'"):
        segkit.extract("stereo")
    with pytest.raises(UsageError, match=r"Unknown setting 'corpus\.speker'. Did you mean 'corpus\.speakers'"):
        segkit.extract("stereo", root, options={"speker": "x"})


def test_a_run_is_an_object(dataset, tmp_path):
    steps = []
    settings = {"steps": 2, "groups": 1, "completions": 2, "minibatch": 2, "evaluation.segments": 1}

    def hook(stage, done, total, facts=None):
        if stage == "steps":
            steps.append(facts["step"])

    with pytest.warns(SegkitWarning, match=r"rewards\.max_backchannel_s is 0\.9, in the dataset 1\.0"):
        run = segkit.align(
            dataset.out,
            tmp_path / "run",
            policy="tiny",
            preset="nano",
            settings=settings | {"rewards.max_backchannel_s": 0.9},
            device="cpu",
            hook=hook,
        )
    assert steps == [1, 2] and run.steps == 2 and run.policy == "tiny"
    assert run.settings.completions == 2 and run.settings.rewards.max_backchannel_s == 0.9
    assert run.settings.vad == dataset.settings.vad
    assert list(run.metrics.index) == [0, 1, 2] and run.metrics.kl[2] == run.lines[2]["kl"]
    first = run.lines[0]["validation"]
    axis = next(iter(first))
    assert run.metrics[f"validation/{axis}/reward/timing"][0] == first[axis]["reward"]["timing"]
    assert [line["step"] for line in run.evaluations] == [0, 2]
    assert {(one.step, one.split) for one in run.samples} == {(0, "validation"), (2, "validation")}
    stereo, rate_hz = soundfile.read(run.path / run.samples[0].file)
    assert stereo.shape[1] == 2 and rate_hz == 24_000
    assert run.export and "2 of 2 steps, exported" in repr(run) and "<tr>" in run._repr_html_()
    again = segkit.open_run(str(run.path))
    assert again.lines == run.lines
    assert segkit.report(again, tmp_path / "page.html").stat().st_size > 10_000


def test_what_is_no_run(tmp_path):
    (tmp_path / "config.json").write_text('{"dim": 64}')
    with pytest.raises(UsageError, match="is not the folder of a training run"):
        segkit.open_run(tmp_path)


def test_a_model_is_an_object():
    speaker = segkit.open_model("nano", sampling=segkit.SamplingSettings(audio_top_k=0, opening_s=0.2))
    assert {name for name in vars(Speaker) if not name.startswith("_")} <= {*dir(speaker)}
    assert not hasattr(speaker, "export")  # nothing to train: no second copy of the weights
    assert len(speaker.prologue.heard) == 3 * speaker.frame_samples  # 0.2 s are two and a half frames
    trainable = segkit.open_model("nano", training=True)
    assert {name for name in vars(Trainable) if not name.startswith("_")} <= {*dir(trainable)}
    with pytest.raises(UsageError, match="no such folder, and nothing from the Hub"):
        segkit.open_model("typo")


# --- merge ---


@pytest.fixture(scope="module")
def two(made, dataset, tmp_path_factory):
    """The same recordings twice, as two corpora: another id for everything."""
    folder = tmp_path_factory.mktemp("two")
    other = make_job(made, folder / "other")
    shutil.copytree(dataset.out, other.out)
    for path in other.folder.shards():
        table = pq.read_table(path)
        changed = [row | {"id": "z" + row["id"][1:], "corpus": "stereo", "licence": "MIT"} for row in table.to_pylist()]
        pq.write_table(pa.Table.from_pylist(changed, table.schema), path)
    for path in other.folder.parts():
        table = pq.read_table(path)
        changed = [row | {"corpus": "stereo", "licence": "MIT"} for row in table.to_pylist()]
        pq.write_table(pa.Table.from_pylist(changed, table.schema), path.with_stem("z" + path.stem[1:]))
        path.unlink()
    record = other.folder.record()
    record.job.corpus = "stereo"
    record.write(other.folder.record_file)
    return [dataset.out, other.out]


def test_merged_datasets_are_all_rows_with_where_they_are_from(two, tmp_path):
    both = segkit.merge(two, tmp_path / "both")
    parts = [segkit.open_dataset(path) for path in two]
    assert len(both) == sum(map(len, parts)) == both.table().num_rows
    ids = [name for part in parts for name in part.table()["id"].to_pylist()]
    assert sorted(both.table()["id"].to_pylist()) == sorted(ids)
    assert both.annotations().num_rows == sum(part.annotations().num_rows for part in parts)
    record = both.record
    assert [each.job.corpus for each in record.merged] == ["synthetic", "stereo"]
    assert [each.fingerprint for each in record.merged] == [part.record.fingerprint for part in parts]
    assert record.job_of("stereo").options == parts[1].record.job.options and record.job_of("fisher") is None
    assert record.recordings.used == 2 * parts[0].record.recordings.used
    for axis, counts in record.segments.items():
        assert counts.kept == 2 * parts[0].record.segments[axis].kept
        assert counts.dropped == {k: 2 * v for k, v in parts[0].record.segments[axis].dropped.items()}
    names = {path.name for path in both.folder.shards("pause")}
    assert {"train-00000-of-00002.parquet", "train-00001-of-00002.parquet"} <= names
    card = both.folder.card.read_text()
    assert "| synthetic |" in card and "| stereo |" in card and "license_name: CC0-1.0, MIT" in card
    row = parts[1].segment("pause")
    assert dict(both.segment(row["id"])) == dict(row)
    again = segkit.merge(two, tmp_path / "both")
    assert again.record == record


def test_the_same_recordings_or_another_way_to_read_a_corpus_are_not_merged(two, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(two[1], other)
    for path in (other / "annotations").iterdir():
        table = pq.read_table(path)
        changed = [row | {"corpus": "stereo", "recording_id": f"b{row['recording_id']}"} for row in table.to_pylist()]
        pq.write_table(pa.Table.from_pylist(changed, table.schema), path.with_stem("y" + path.stem[1:]))
        path.unlink()
    for path in (other / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        changed = [
            row | {"id": "y" + row["id"][1:], "recording_id": f"b{row['recording_id']}"} for row in table.to_pylist()
        ]
        pq.write_table(pa.Table.from_pylist(changed, table.schema), path)
    record = segkit.open_dataset(other).record
    twice = segkit.merge([segkit.merge(two, tmp_path / "both"), other], tmp_path / "all").record
    assert [each.job.corpus for each in twice.merged] == ["synthetic", "stereo", "stereo"]  # not "synthetic, stereo"
    record.job.options["speakers"] = "X,Y"
    record.write(other / "run.json")
    with pytest.raises(UsageError, match="The corpus stereo was read with two sets of options"):
        segkit.merge([two[1], other], tmp_path / "more")


def test_strict_thresholds_can_leave_nothing(made, tmp_path, capsys):
    strict = ["--set", "pause.tau_min_s=1000", "--axes", "pause", "--limit", 1, "--workers", 1]
    options = [f"--set=corpus.{name}={value}" for name, value in made[1].model_dump().items()]
    code, printed, _ = command(
        "extract", "synthetic", made[0], "-o", tmp_path / "out", *strict, *options, capsys=capsys
    )
    assert code == 0 and "No segments at these thresholds" in printed and "utterance too short" in printed
    empty = segkit.open_dataset(tmp_path / "out")
    assert len(empty) == 0 and empty.axes == []
    for use in (empty.statistics, lambda: empty.segment("pause"), lambda: segkit.publish(empty, "me/x", dry_run=True)):
        with pytest.raises(SegkitError, match="has no segments"):
            use()


def test_what_does_not_fit_together_is_not_merged(two, made, dataset, tmp_path):
    with pytest.raises(UsageError, match="recordings in common"):
        segkit.merge([two[0], two[0]], tmp_path / "both")
    with pytest.raises(UsageError, match="Expected two or more"):
        segkit.merge(two[:1], tmp_path / "both")
    run(job := make_job(made, tmp_path / "other", pause__tau_min_s=3, limit=2))
    with pytest.raises(UsageError, match=r"settings\.pause\.tau_min_s: 2\.0 -> 3\.0"):
        segkit.merge([dataset.out, job.out], tmp_path / "both")
    moved = tmp_path / "moved"
    shutil.copytree(two[1], moved)
    for path in (moved / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        changed = [row | {"corpus": "synthetic", "split": "test"} for row in table.to_pylist()]
        pq.write_table(pa.Table.from_pylist(changed, table.schema), path)
    with pytest.raises(UsageError, match="would be in two splits"):
        segkit.merge([two[0], moved], tmp_path / "both")
    assert not (tmp_path / "both").exists()
    with pytest.raises(UsageError, match="holds a run with other settings"):
        segkit.merge(two, dataset.out)
