"""The main job on synthetic conversations: what is written, and that it does not depend on how."""

import json
import shutil
from functools import cache, partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import soxr
import yaml
from support import QUICK, make_job, rows

import segkit
from segkit.audio import decode_flac
from segkit.dataset import rows as dataset_rows
from segkit.errors import NothingUsableError, UsageError
from segkit.extraction import annotate, cut
from segkit.extraction.run import run
from segkit.schemas import Axis
from segkit.schemas.arrow import SEGMENTS


@pytest.fixture(scope="module")
def quick(made, tmp_path_factory):
    """As `dataset`, with little audio; tests only read it."""
    job = make_job(made, tmp_path_factory.mktemp("quick") / "out", **QUICK)
    run(job)
    return job


@pytest.fixture(scope="module")
def in_chunks(made, tmp_path_factory):
    """As `quick`, annotated in three chunks of two recordings; tests only read it."""
    job = make_job(made, tmp_path_factory.mktemp("in_chunks") / "out", **QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(annotate, "CHUNK_RECORDINGS", 2)
        run(job)
    return job


def test_every_axis_and_field_is_there(dataset):
    table = rows(dataset)
    assert set(table["axis"].to_pylist()) == {str(axis) for axis in Axis}
    assert table.schema.names == SEGMENTS.names
    for row in table.to_pylist():
        assert row["segkit_version"] == segkit.__version__
        assert row["user_channel"] == 1 - row["agent_channel"]
        assert 0 <= row["context_s"] <= 30
        assert row["end_s"] - row["start_s"] == pytest.approx(row["duration_s"], abs=1e-3)
        assert all(-row["context_s"] - 1e-3 <= a < b <= row["duration_s"] + 1e-3 for a, b in row["user_activity"])
        assert (row["pauses"] is not None) == (row["axis"] == "pause")
        assert (row["gap_s"] is not None) == (row["axis"] == "turn_taking")
        assert (row["backchannels"] is not None) == (row["axis"] == "backchannel")
        assert (row["interruption_start_s"] is not None) == (row["axis"] == "interruption")
        assert row["words"]
    assert len(set(table["id"].to_pylist())) == len(table)


def test_events_fit_the_activity(dataset):
    """Row by row, from the row alone: what the axis claims can be read off the two activities."""
    for row in rows(dataset).to_pylist():
        user, agent = ([(a, b) for a, b in row[f"{role}_activity"] if b > 0] for role in ("user", "agent"))
        match row["axis"]:
            case "pause":
                assert not agent and row["pauses"]
                assert all(any(b == p for _, b in user) and any(a == q for a, _ in user) for p, q in row["pauses"])
            case "turn_taking":
                assert any(b == pytest.approx(row["turn_end_s"]) for _, b in user)
                assert any(a == pytest.approx(row["turn_end_s"] + row["gap_s"]) for a, _ in agent)
            case "backchannel":
                assert all(a >= 0 and b - a <= 1.0 + 1e-6 for a, b in row["backchannels"])
                assert sum(b - a for a, b in agent) <= sum(b - a for a, b in row["backchannels"]) + 1e-6
            case "interruption":
                start, end = row["interruption_start_s"], row["interruption_end_s"]
                assert start < end and any(a == start for a, _ in user) and any(b == end for _, b in user)
                spoken = [b for a, b in agent if 0 < a < start]  # since the segment began
                goes_on = min(a for a, _ in agent if a >= start)
                assert spoken and (spoken[-1] > start or goes_on - spoken[-1] <= 1.0)


@pytest.mark.parametrize("rate_hz", [None, 24_000, 16_000])
def test_audio_is_cut_to_the_sample(made, tmp_path, rate_hz):
    job = make_job(made, tmp_path / "out", rate_hz=rate_hz, per_axis=5)
    run(job)

    @cache
    def read(path):
        source, source_hz = soundfile.read(job.root / path, dtype="float32")
        return source if rate_hz in (None, source_hz) else soxr.resample(source, source_hz, rate_hz), source_hz

    for row in rows(job).to_pylist():
        whole, source_hz = read(row["user_path"])
        for role in ("user", "agent"):
            samples, found_hz = decode_flac(row[role]["bytes"])
            assert found_hz == (rate_hz or source_hz)
            begin = round(row["start_s"] * found_hz) - round(row["context_s"] * found_hz)
            expected = whole[begin : round(row["end_s"] * found_hz), row[f"{role}_channel"]]
            assert len(samples) == len(expected) == round((row["context_s"] + row["duration_s"]) * found_hz)
            tolerance = 0 if rate_hz is None else 1.01 / 32768  # resampled samples are rounded to 16 bits
            assert np.abs(samples - expected).max() <= tolerance


def test_load_dataset_round_trip(dataset, tmp_path):
    from datasets import Audio, load_dataset

    for axis in Axis:
        loaded = load_dataset(str(dataset.out), axis, cache_dir=str(tmp_path))
        assert isinstance(loaded["train"].features["user"], Audio)
        stored = {row["id"]: row for row in rows(dataset).to_pylist() if row["axis"] == axis}
        for split, part in loaded.items():
            for row in part.cast_column("user", Audio(decode=False)).cast_column("agent", Audio(decode=False)):
                assert row == stored.pop(row["id"])
                assert row["split"] == split
        assert not stored
    recordings = load_dataset(str(dataset.out), "annotations", split="train", cache_dir=str(tmp_path))
    assert len(recordings) == 6


def test_audio_columns_decode(dataset, tmp_path):
    pytest.importorskip("torchcodec", reason="datasets decodes audio with torchcodec", exc_type=Exception)
    from datasets import load_dataset

    try:
        row = load_dataset(str(dataset.out), "pause", split="train", cache_dir=str(tmp_path))[0]
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchcodec does not work here: {error}")
    samples = row["user"].get_all_samples()
    assert samples.sample_rate == 24_000
    assert samples.data.shape == (1, round((row["context_s"] + row["duration_s"]) * 24_000))


def test_fields_are_described_in_the_files(dataset):
    schema = pq.read_schema(next(dataset.folder.data.rglob("*.parquet")))
    assert all(field.metadata[b"description"] for field in schema)
    assert schema.metadata[b"segkit_schema_version"] == b"3"
    assert json.loads(schema.metadata[b"huggingface"])["info"]["features"]["agent"]["_type"] == "Audio"


def test_run_json_and_card(dataset):
    report = json.loads(dataset.folder.record_file.read_text())
    assert report["status"] == "complete"
    assert report["recordings"]["used"] == 6
    assert sum(axis["kept"] for axis in report["segments"].values()) == len(rows(dataset))
    assert report["segments"]["pause"]["dropped"]["utterance too short"] > 0
    card = (dataset.out / "README.md").read_text()
    front_matter = yaml.safe_load(card.split("---")[1])
    assert [config["config_name"] for config in front_matter["configs"]] == [*map(str, Axis), "annotations"]
    assert "| `bleed_db` |" in card
    everything = card + dataset.folder.record_file.read_text()
    assert str(dataset.root) not in everything and str(dataset.out) not in everything


def test_two_workers_give_the_rows_of_one(quick, made, tmp_path):
    job = make_job(made, tmp_path / "out", **QUICK)
    run(job, workers=2)
    assert rows(job).equals(rows(quick))
    assert json.loads(job.folder.record_file.read_text()) == json.loads(quick.folder.record_file.read_text())


def test_ray_gives_the_rows_of_one(quick, made, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else it writes a token to the home directory
    small = partial(ray.init, num_cpus=2, object_store_memory=100 << 20)  # each CPU is a process that imports torch
    monkeypatch.setattr(ray, "init", small)
    job = make_job(made, tmp_path / "out", **QUICK)
    run(job, engine="ray")
    assert rows(job).equals(rows(quick))


class Stop(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("stage, when", [("annotating", 1), ("annotating", 2), ("writing", 2), ("writing", 4)])
def test_resume_gives_the_rows_of_an_undisturbed_run(in_chunks, made, tmp_path, monkeypatch, stage, when):
    monkeypatch.setattr(annotate, "CHUNK_RECORDINGS", 2)
    job = make_job(made, tmp_path / "out", **QUICK)
    calls = []

    def stop(name, done, total, facts):
        calls.append(name)
        if calls.count(stage) == when:
            raise Stop

    with pytest.raises(Stop):
        run(job, hook=stop)
    assert json.loads(job.folder.record_file.read_text())["status"] == "running"
    (job.out / "data").mkdir(exist_ok=True)
    (job.out / "data" / ".half.parquet.0a1b2c3d.tmp").write_bytes(b"what a killed process left")
    run(job)
    assert rows(job).equals(rows(in_chunks))
    assert not list(job.out.rglob("*.tmp"))


def test_other_thresholds_reuse_the_annotations(made, quick, tmp_path, monkeypatch):
    shutil.copytree(quick.out, tmp_path / "out")
    job = make_job(made, tmp_path / "out", pause__tau_min_s=8, **QUICK)
    with pytest.raises(UsageError, match=r"settings\.pause\.tau_min_s: 2\.0 -> 8\.0"):
        run(job)
    monkeypatch.setattr(annotate.vad.Silero, "detect", None)  # calling it would fail
    run(job, overwrite=True)
    kept = [row for row in rows(job).to_pylist() if row["axis"] == "pause"]
    assert kept and all(row["duration_s"] >= 8 for row in kept)
    assert len(kept) < sum(axis == "pause" for axis in rows(quick)["axis"].to_pylist())


@pytest.mark.parametrize("change", [{"rate_hz": 12_000}, {"context_s": 1.0}])
def test_overwriting_replaces_shards_of_the_same_segments(made, quick, tmp_path, change):
    shutil.copytree(quick.out, tmp_path / "over")
    over, fresh = (make_job(made, tmp_path / name, **(QUICK | change)) for name in ("over", "fresh"))
    run(over, overwrite=True)
    run(fresh)
    assert rows(over).equals(rows(fresh))
    assert not rows(over).equals(rows(quick))


def test_a_new_transcript_reaches_the_rows(recordings, tmp_path):
    root = tmp_path / "corpus"
    root.mkdir()
    shutil.copy(recordings[0], root / "a.wav")
    job = make_job((root, None), tmp_path / "out", corpus="stereo", **QUICK)
    run(job)
    assert rows(job)["words"].null_count == len(rows(job))
    (root / "a.json").write_text('[{"speaker": "A", "word": "hello", "start": 0, "end": 119}]')
    run(job)
    assert rows(job)["words"].null_count == 0


def test_other_vad_settings_do_not(made, quick, tmp_path):
    shutil.copytree(quick.out, tmp_path / "out")
    before = set(quick.folder.annotations.iterdir())
    job = make_job(made, tmp_path / "out", vad__threshold=0.4, **QUICK)
    run(job, overwrite=True)
    assert not {p.name for p in job.folder.annotations.iterdir()} & {p.name for p in before}


def test_a_look_at_few_recordings_keeps_the_annotations_of_the_others(in_chunks, made, tmp_path, monkeypatch):
    monkeypatch.setattr(annotate, "CHUNK_RECORDINGS", 2)
    shutil.copytree(in_chunks.out, tmp_path / "out")
    few = make_job(made, tmp_path / "out", limit=3, **QUICK)
    before = set(few.folder.annotations.iterdir())
    run(few, overwrite=True)
    after = set(few.folder.annotations.iterdir())
    assert len(before) == 3 and len(before & after) == 2  # the second chunk is now one of one recording
    names = [pq.read_table(path)["recording_id"].to_pylist() for path in after]
    assert sorted(name for part in names for name in part) == ["00000", "00001", "00002", "00004", "00005"]


def test_a_foreign_folder_is_refused(made, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"thesis\.tex but no run\.json"):
        run(make_job(made, tmp_path), overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_shards_and_row_groups_are_sized_by_bytes(made, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(cut, "SHARD_BYTES", 3 << 20)
    monkeypatch.setattr(dataset_rows, "ROW_GROUP_BYTES", 500_000)
    job = make_job(made, tmp_path / "out", rate_hz=8000, context_s=15)
    run(job)
    assert {r["id"] for r in rows(job).to_pylist()} == {r["id"] for r in rows(dataset).to_pylist()}
    paths = list((job.folder.data / "pause").glob("train-*.parquet"))
    assert len(paths) > 1
    lengths = []
    for path in paths:
        assert path.name.endswith(f"-of-{len(paths):05d}.parquet")
        assert path.stat().st_size <= 3 << 20
        file = pq.ParquetFile(path)
        for i in range(file.num_row_groups):
            table = file.read_row_group(i).to_pylist()
            tracks = [sum(len(row[role]["bytes"]) for row in table) for role in ("user", "agent")]
            assert max(tracks) <= 500_000 or len(table) == 1
            group = file.metadata.row_group(i)
            columns = [group.column(number) for number in range(group.num_columns)]
            assert all(column.total_compressed_size <= 1 << 19 for column in columns) or len(table) == 1
            lengths.append(len(table))
    assert max(lengths) > 1 and len(lengths) > len(paths)


def test_ids_do_not_depend_on_the_selection(made, dataset, tmp_path):
    job = make_job(made, tmp_path / "out", per_axis=3, context_s=1.0)
    record = run(job)
    some, every = rows(job).to_pylist(), {row["id"]: row for row in rows(dataset).to_pylist()}
    assert all(counts.kept == 3 for counts in record.segments.values())
    for row in some:
        assert (row["start_s"], row["axis"]) == (every[row["id"]]["start_s"], every[row["id"]]["axis"])
        assert row["context_s"] <= 1.0
        assert row["split"] == every[row["id"]]["split"]


def test_limit_and_axes(made, tmp_path):
    job = make_job(made, tmp_path / "out", limit=2, axes=(Axis.PAUSE,))
    record = run(job)
    assert record.recordings.used == 2
    assert list(record.segments) == ["pause"]
    assert [path.name for path in job.folder.data.iterdir()] == ["pause"]


def found_with_gain(recordings, folder, gain):
    """What is found in three recordings of another level."""
    for path in recordings[:3]:
        samples, rate_hz = soundfile.read(path)
        target = folder / "corpus" / path.name
        target.parent.mkdir(exist_ok=True)
        soundfile.write(target, samples * gain, rate_hz, subtype="FLOAT")
    job = make_job((folder / "corpus", None), folder / "out", corpus="stereo", **QUICK)
    run(job)
    keys = ("recording_id", "axis", "user_channel", "start_s", "end_s")
    return sorted(tuple(row[key] for key in keys) for row in rows(job).to_pylist())


@pytest.fixture(scope="module")
def found_as_is(recordings, tmp_path_factory):
    return found_with_gain(recordings, tmp_path_factory.mktemp("as_is"), 1.0)


@pytest.mark.parametrize("gain_db", [-6.0, 3.0])
def test_gain_leaves_events_unchanged(recordings, found_as_is, tmp_path, gain_db):
    scaled = found_with_gain(recordings, tmp_path, 10 ** (gain_db / 20))
    assert len(found_as_is) > 10
    same = sum(
        any(a[:3] == b[:3] and abs(a[3] - b[3]) < 0.07 and abs(a[4] - b[4]) < 0.07 for b in scaled) for a in found_as_is
    )
    # Silero is not blind to the level: a frame of 32 ms may change sides, and then a threshold
    assert same >= 0.9 * len(found_as_is)
    assert abs(len(found_as_is) - len(scaled)) <= 0.1 * len(found_as_is)


def test_webrtc_runs_through(made, tmp_path):
    job = make_job(made, tmp_path / "out", limit=1, vad__backend="webrtc")
    assert run(job).recordings.used == 1


def test_a_file_that_vanishes_before_the_cut_is_counted(recordings, tmp_path, monkeypatch):
    for path in recordings[:2]:
        shutil.copy(path, tmp_path / path.name)
    job = make_job((tmp_path, None), tmp_path.with_name("vanished"), corpus="stereo", **QUICK)
    lost: list[Path] = []

    def lose(stage, done, total, facts):
        if stage == "writing" and not lost:
            lost.append(tmp_path / recordings[0].name)
            lost[0].unlink()

    record = run(job, hook=lose)
    dropped = sum(counts.dropped.get("file cannot be opened", 0) for counts in record.segments.values())
    assert dropped > 0
    assert {row["recording_id"] for row in rows(job).to_pylist()} == {recordings[1].stem}
    shutil.copy(recordings[0], lost[0])
    assert {row["recording_id"] for row in rows_of(run(job), job)} == {path.stem for path in recordings[:2]}


def rows_of(record, job):
    assert all(counts.dropped.get("file cannot be opened", 0) == 0 for counts in record.segments.values())
    return rows(job).to_pylist()


def test_what_failed_for_a_passing_reason_is_tried_again(recordings, tmp_path, monkeypatch):
    for path in recordings[:2]:
        shutil.copy(path, tmp_path / path.name)
    job = make_job((tmp_path, None), tmp_path.with_name("again"), corpus="stereo", **QUICK)

    def unplugged(*_):
        yield np.zeros((2, 512 * 256), np.float32)
        raise OSError("Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(annotate.Recording, "blocks", unplugged)
        with pytest.raises(NothingUsableError, match=r"unexpected error \(2\)"):
            run(job)
    assert run(job).recordings.used == 2


def test_a_damaged_part_or_shard_is_made_again(made, quick, tmp_path):
    shutil.copytree(quick.out, tmp_path / "out")
    job = make_job(made, tmp_path / "out", **QUICK)
    for path in (next(job.folder.annotations.iterdir()), next(job.folder.data.rglob("*.parquet"))):
        path.write_bytes(path.read_bytes()[:1000])
    run(job)
    assert rows(job).equals(rows(quick))
