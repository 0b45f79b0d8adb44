"""What leaves the house, and what a reader rebuilds from it."""

import json
import shutil
import subprocess
import sys
import time

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import EASY, make_job, rows, write_wav
from hub_server import hub  # noqa: F401 - a fixture
from huggingface_hub import HfApi
from test_bad_input import segkit

from segkit.audio import decode_flac, samples_hash
from segkit.corpora.pairs import PairsOptions
from segkit.corpora.stereo import StereoOptions
from segkit.dataset import read_run
from segkit.extract.cut import file_schema
from segkit.extract.run import run
from segkit.publish import package
from segkit.publish.card import _category, _rebuild
from segkit.publish.gate import Share

DECLARED = "stereo=CC0-1.0: made by a synthesiser, nobody's voice is in it"


@pytest.fixture(scope="module")
def corpus(recordings, tmp_path_factory):
    """Four calls of the corpus `stereo`, with words that can be told from everything else."""
    root = tmp_path_factory.mktemp("corpus")
    for number, wav in enumerate(recordings[:4]):
        shutil.copy(wav, root / f"{number}.wav")
        facts = json.loads(wav.with_suffix(".json").read_text())
        words = [
            {"speaker": "AB"[w["channel"]], "word": f"forbidden-{w['text']}", "start": w["start_s"], "end": w["end_s"]}
            for w in facts["words"]
        ]
        (root / f"{number}.json").write_text(json.dumps(words))
    (root / "bad.wav").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def original(corpus, tmp_path_factory):
    """A dataset of it."""
    job = make_job((corpus, None), tmp_path_factory.mktemp("dataset") / "out", corpus="stereo", options=StereoOptions())
    report = run(job)
    assert report["problems"]["counts"] == {"empty audio": 1} and all(c["kept"] for c in report["segments"].values())
    return job


@pytest.fixture
def copy(original, tmp_path):
    """The dataset folder in a place of its own."""
    shutil.copytree(original.out, tmp_path / "mine")
    return tmp_path / "mine"


def relabelled(folder, corpus):
    """Every row is of another corpus."""
    for path in [*folder.glob("data/*/*.parquet"), *folder.glob("annotations/*.parquet")]:
        table = pq.read_table(path)
        place, names = table.schema.get_field_index("corpus"), pa.array([corpus] * len(table))
        pq.write_table(table.set_column(place, "corpus", names).cast(table.schema), path)
    return folder


def mixed(folder):
    """Half of the segments of every file become Fisher's."""
    for path in [*folder.glob("data/*/*.parquet"), *folder.glob("annotations/*.parquet")]:
        table = pq.read_table(path)
        names = pa.array(["fisher" if i % 2 else "stereo" for i in range(len(table))])
        schema = table.schema
        pq.write_table(table.set_column(schema.get_field_index("corpus"), "corpus", names).cast(schema), path)


def test_the_gate_names_the_corpus_and_its_terms(copy, capsys):
    mixed(copy)
    code, _, said = segkit("publish", copy, "me/turns", "--declare", DECLARED, capsys=capsys)
    assert code == 2
    assert "Audio and words of fisher may not be passed on" in said and "LDC User Agreement" in said
    assert "--annotations-only" in said and "stereo (" not in said
    code, _, said = segkit("publish", copy, "me/turns", capsys=capsys)
    assert code == 2 and "fisher and stereo" in said
    for wrong in ("stereo", "stereo=CC0-1.0", "stereo=CC0-1.0: mine", "=x: " + 30 * "y"):
        code, _, said = segkit("publish", copy, "me/turns", "--declare", wrong, capsys=capsys)
        assert code == 2 and ("Expected CORPUS=LICENCE" in said or "The dataset holds" in said)
    code, _, said = segkit("publish", copy, "me/turns", "--declare", DECLARED, "--declare", DECLARED, capsys=capsys)
    assert code == 2 and "'stereo' twice" in said
    code, _, said = segkit("publish", copy, "turns", "--dry-run", capsys=capsys)
    assert code == 2 and "Expected user/name" in said
    assert not (copy / "statistics.png").exists()
    (copy / "data" / "pause" / "old").mkdir()  # what the gate does not look at is not sent either
    shutil.copy(next(copy.glob("data/pause/*.parquet")), copy / "data" / "pause" / "old" / "x.parquet")
    assert not any("old" in path.parts for path in package.files(copy))


@pytest.mark.parametrize("name", ["fisher", "switchboard", "callhome", "candor", "full_duplex_bench", "nobody_knows"])
def test_what_may_not_be_passed_on_is_refused(copy, name, capsys):
    code, _, said = segkit("publish", relabelled(copy, name), "me/x", "--dry-run", capsys=capsys)
    assert code == 2 and f"Audio and words of {name} may not be passed on" in said and "--annotations-only" in said


def test_terms_that_allow_it_are_kept(copy, capsys):
    relabelled(copy, "spokenwoz")
    code, _, said = segkit(
        "publish", copy, "me/x", "--dry-run", "--declare", "spokenwoz=MIT: " + 20 * "a", capsys=capsys
    )
    assert code == 2 and "spokenwoz, which may be passed on under CC-BY-NC-4.0" in said
    assert segkit("publish", copy, "me/x", "--dry-run")[0] == 0
    assert "license: cc-by-nc-4.0\n" in copy.with_name("mine-published").joinpath("README.md").read_text()


def test_the_card_has_every_split_and_axis_of_every_corpus(copy, capsys):
    """Files of another dataset lie beside those that run.json tells of."""
    path = next(copy.glob("data/pause/train-*.parquet"))
    shutil.rmtree(copy / "data" / "backchannel")
    table = pq.read_table(path).slice(0, 2).to_pylist()
    for axis, split in (("pause", "test"), ("backchannel", "validation")):
        named = {"corpus": "fisher", "axis": axis, "split": split, "backchannels": []}
        there = [row | named | {"id": f"{axis}{row['id']}"} for row in table]
        target = copy / "data" / axis / f"{split}-99999-of-99999.parquet"
        target.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(there, schema=file_schema()), target)
    run = read_run(copy)
    run["segments"]["pause"]["splits"].pop("test", None)
    (copy / "run.json").write_text(json.dumps(run))
    assert segkit("publish", copy, "me/x", "--annotations-only", "--dry-run")[0] == 0
    folder = str(copy.with_name("mine-annotations"))
    for axis in ("pause", "turn_taking", "backchannel", "interruption"):
        splits = datasets.load_dataset(folder, axis)
        files = list(copy.glob(f"data/{axis}/*.parquet"))
        assert sum(map(len, splits.values())) == sum(pq.read_metadata(path).num_rows for path in files)
    assert len(datasets.load_dataset(folder, "pause", split="test")) >= 2


def test_the_rows_tell_the_licence_of_ones_own_recordings(copy, capsys):
    for path in [*copy.glob("data/*/*.parquet"), *copy.glob("annotations/*.parquet")]:
        table = pq.read_table(path)
        said = pa.array(["for us only"] * len(table))
        pq.write_table(table.set_column(table.schema.get_field_index("licence"), "licence", said), path)
    assert segkit("publish", copy, "me/x", "--annotations-only", "--dry-run")[0] == 0
    assert "| for us only |" in copy.with_name("mine-annotations").joinpath("README.md").read_text()


def test_what_is_made_is_not_rebuilt():
    card = _rebuild("me/x", [Share(name, 1, True, "x", "x", "x") for name in ("spokenwoz", "synthetic")])
    assert "segkit hydrate me/x /path/to/spokenwoz" in card and "hydrate me/x /path/to/synthetic" not in card
    assert "synthetic is made" in card and "```" not in _rebuild("me/x", [Share("synthetic", 1, True, "x", "x", "x")])


@pytest.mark.parametrize(
    ("rows", "name"), [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (12_345, "10K<n<100K"), (10**6, "1M<n<10M")]
)
def test_sizes_are_named_as_on_the_hub(rows, name):
    assert _category(rows) == name


def test_rows_without_a_corpus_go_nowhere(copy, capsys):
    path = next(copy.glob("data/pause/*.parquet"))
    table = pq.read_table(path)
    nothing = pa.nulls(len(table), pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("corpus"), "corpus", nothing), path)
    for options in (["--annotations-only"], ["--declare", DECLARED]):
        code, _, said = segkit("publish", copy, "me/turns", "--dry-run", *options, capsys=capsys)
        assert code == 2 and "rows without a corpus" in said


def test_nothing_of_others_is_overwritten(copy, published, corpus, capsys):
    code, _, said = segkit("hydrate", published, corpus, "-o", copy, capsys=capsys)
    assert code == 2 and "holds something else" in said
    mine = copy.with_name("other-annotations")
    shutil.copytree(copy, mine)
    shutil.copytree(copy, copy.with_name("other"))
    code, _, said = segkit("publish", copy.with_name("other"), "me/x", "--annotations-only", "--dry-run", capsys=capsys)
    assert code == 2 and "was not made by `segkit publish`" in said
    code, _, said = segkit("publish", published, "me/x", "--annotations-only", "--dry-run", capsys=capsys)
    assert code == 2 and "was made by `segkit publish`" in said


def test_what_is_declared_is_quoted(copy, capsys):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    code, said, _ = segkit("publish", copy, "me/turns", "--declare", DECLARED, "--dry-run", capsys=capsys)
    assert code == 0 and before == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    folder = copy.with_name("mine-published")
    listed = {
        line.split()[-1]: int(line.split()[0].replace(",", "")) for line in said.splitlines() if " bytes " in line
    }
    assert {"README.md", "run.json", "statistics.png"} < listed.keys()
    assert all((folder / name).stat().st_size == size for name, size in listed.items())
    assert len(listed) == len(list(copy.rglob("*.parquet"))) + 3
    card = (folder / "README.md").read_text()
    assert "me declares: made by a synthesiser, nobody's voice is in it" in card and "size_categories: " in card
    assert "nobody's voice is in it" in card and "license: cc0-1.0" in card and "2606.11167" in card
    assert 'load_dataset("me/turns", "pause")' in card and "segkit hydrate" not in card


@pytest.fixture
def published(copy, capsys):
    """The annotations of the dataset."""
    code, _, _ = segkit("publish", copy, "me/turns", "--annotations-only", "--dry-run", capsys=capsys)
    assert code == 0
    return copy.with_name("mine-annotations")


def test_annotations_hold_neither_audio_nor_words(published, capsys):
    for path in published.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert b"fLaC" not in content and b"forbidden-" not in content, path
    for path in published.glob("**/*.parquet"):  # and once more behind the compression
        text = json.dumps(pq.read_table(path).to_pylist(), default=repr)
        assert "forbidden-" not in text and "fLaC" not in text, path
    card = (published / "README.md").read_text()
    code, _, said = segkit("align", published, published.with_name("run"), capsys=capsys)
    assert code == 2 and "segkit hydrate" in said
    assert "segkit hydrate me/turns" in card and "The words of stereo are not in here" in card


def test_words_stay_where_they_may(copy, capsys):
    code, _, _ = segkit(
        "publish", copy, "me/turns", "--annotations-only", "--dry-run", "--declare", DECLARED, capsys=capsys
    )
    found = pq.read_table(sorted(copy.with_name("mine-annotations").glob("data/*/*.parquet")))
    assert code == 0 and found["user"].null_count == len(found) and found["words"].null_count == 0


def test_a_hydrated_dataset_is_the_original(published, original, corpus, tmp_path, capsys):
    out = tmp_path / "hydrated"
    code, said, _ = segkit("hydrate", published, corpus, "-o", out, "--workers", 1, capsys=capsys)
    assert code == 0 and "Audio was compared" in said
    for path in [*original.out.rglob("*.parquet"), *published.rglob("*.parquet"), *out.rglob("*.parquet")]:
        assert pq.read_metadata(path).row_group(0).column(0).has_column_index, path  # the Hub's viewer pages by it
    names = sorted(path.relative_to(original.out) for path in original.data_dir.rglob("*.parquet"))
    assert sorted(path.relative_to(out) for path in (out / "data").rglob("*.parquet")) == names
    for name in names:
        ours, theirs = pq.read_table(original.out / name), pq.read_table(out / name)
        assert ours.schema.equals(theirs.schema) and ours.to_pylist() == theirs.to_pylist()
    before, after = (
        pq.read_table(sorted(folder.glob("annotations/*.parquet"))).to_pylist() for folder in (original.out, out)
    )
    assert [row | {"detail": None} for row in before] == after  # details could quote words
    assert read_run(out)["segments"] == {
        axis: counts | {"splits": counts["splits"]} for axis, counts in read_run(original.out)["segments"].items()
    }
    marks = {path: path.stat().st_mtime_ns for path in (out / "data").rglob("*.parquet")}
    assert segkit("hydrate", published, corpus, "-o", out, "--workers", 1)[0] == 0
    assert marks == {path: path.stat().st_mtime_ns for path in (out / "data").rglob("*.parquet")}  # nothing was redone


def test_what_is_missing_or_altered_is_named_and_the_rest_is_right(published, original, corpus, tmp_path, capsys):
    root = tmp_path / "theirs"
    shutil.copytree(corpus, root)
    (root / "0.wav").unlink()
    samples, rate_hz = soundfile.read(root / "1.wav", dtype="int16")
    soundfile.write(root / "1.wav", np.bitwise_xor(samples, 1), rate_hz)  # one bit of every sample
    code, _, said = segkit("hydrate", published, root, "-o", tmp_path / "out", "--workers", 1, capsys=capsys)
    assert code == 0
    assert "Left out: 0: not in this copy of the corpus" in said
    assert "Left out: 1: audio differs from the publisher's" in said
    found = pa.concat_tables([pq.read_table(p) for p in sorted((tmp_path / "out" / "data").rglob("*.parquet"))])
    right = {row["id"]: row for row in rows(original).to_pylist() if row["recording_id"] in ("2", "3")}
    assert {row["id"]: row for row in found.to_pylist()} == right
    assert found.schema.equals(file_schema().with_metadata(found.schema.metadata))


def test_only_segments_that_differ_are_left_out(published, original, corpus, tmp_path, capsys):
    root = tmp_path / "theirs"
    shutil.copytree(corpus, root)
    own = [row for row in rows(original).to_pylist() if row["recording_id"] == "1"]
    at_s = max(row["end_s"] for row in own) - 0.5
    samples, rate_hz = soundfile.read(root / "1.wav", dtype="int16")
    samples[round(at_s * rate_hz) :] ^= 1
    soundfile.write(root / "1.wav", samples, rate_hz)
    code, _, said = segkit("hydrate", published, root, "-o", tmp_path / "out", "--workers", 1, capsys=capsys)
    found = {row["id"]: row for p in tmp_path.glob("out/data/*/*") for row in pq.read_table(p).to_pylist()}
    right = {row["id"]: row for row in rows(original).to_pylist() if row in own and row["end_s"] < at_s - 0.1}
    lost = len(own) - sum(row["id"] in found for row in own)
    assert code == 0 and 0 < lost < len(own) and right.items() <= found.items()
    assert f"Left out: 1: audio differs from the publisher's (segments: {lost})" in said
    assert read_run(tmp_path / "out")["hydrated"]["lost"] == {"1": {"audio differs from the publisher's": lost}}


def test_the_report_of_another_corpus_is_not_the_publishers(published, original, corpus, tmp_path):
    """run.json is about fisher, all files about stereo."""
    run = read_run(published)
    run["job"] |= {"corpus": "fisher", "options": {}}
    run |= {"recordings": {"used": 999, "hours": 999.0}, "settings_hash": "999"}
    (published / "run.json").write_text(json.dumps(run))
    assert segkit("hydrate", published, corpus, "-o", tmp_path / "out", "--workers", 1)[0] == 0
    there = read_run(tmp_path / "out")
    assert there["recordings"]["used"] == 4 and there["recordings"]["found"] == 5 and there["recordings"]["hours"] < 1
    assert there["problems"]["counts"] == {"empty audio": 1} and there["job"]["corpus"] == "stereo"
    assert (
        there["settings_hash"] == original.settings_hash and "999" not in (tmp_path / "out" / "README.md").read_text()
    )
    assert not any(counts["dropped"] for counts in there["segments"].values())


def test_words_that_are_not_in_the_copy_are_named_and_can_be_added(published, original, corpus, tmp_path, capsys):
    root, out = tmp_path / "theirs", tmp_path / "out"
    shutil.copytree(corpus, root)
    (root / "2.json").unlink()
    code, _, said = segkit("hydrate", published, root, "-o", out, "--workers", 1, capsys=capsys)
    assert code == 0 and "Without words: 2" in said and "Without words: 1" not in said
    found = pa.concat_tables([pq.read_table(p) for p in sorted((out / "data").rglob("*.parquet"))]).to_pylist()
    assert {row["recording_id"] for row in found if row["words"] is None} == {"2"}
    shutil.copy(corpus / "2.json", root)
    assert segkit("hydrate", published, root, "-o", out, "--workers", 1)[0] == 0
    found = pa.concat_tables([pq.read_table(p) for p in sorted((out / "data").rglob("*.parquet"))])
    assert found.to_pylist() == rows(original).to_pylist()


def test_other_words_are_named_and_not_taken(published, original, corpus, tmp_path, capsys):
    root, out = tmp_path / "theirs", tmp_path / "out"
    shutil.copytree(corpus, root)
    words = json.loads((root / "2.json").read_text())
    words[len(words) // 2]["word"] += "x"
    (root / "2.json").write_text(json.dumps(words))
    code, _, said = segkit("hydrate", published, root, "-o", out, "--workers", 1, capsys=capsys)
    assert code == 0
    found = {row["id"]: row for p in (out / "data").rglob("*.parquet") for row in pq.read_table(p).to_pylist()}
    right = {row["id"]: row for row in rows(original).to_pylist()}
    changed = {name for name, row in right.items() if row["recording_id"] == "2" and row != found[name]}
    assert changed and all(found[name] == right[name] | {"words": None} for name in changed)
    assert all(found[name] == row for name, row in right.items() if name not in changed)
    assert "Without words: 2: words differ from the publisher's" in said and said.count("Without words") == 1
    marks = {path: path.stat().st_mtime_ns for path in (out / "data").rglob("*.parquet")}
    assert "Without words: 2" in segkit("hydrate", published, root, "-o", out, "--workers", 1, capsys=capsys)[2]
    assert marks == {path: path.stat().st_mtime_ns for path in (out / "data").rglob("*.parquet")}


def test_rows_in_a_wrong_place_are_named(published, corpus, tmp_path, capsys):
    path = next(published.glob("data/pause/train-*.parquet"))
    table = pq.read_table(path).to_pylist()
    table[0] |= {"split": "test"}
    table[1] |= {"axis": "backchannel"}
    pq.write_table(pa.Table.from_pylist(table, schema=file_schema()), path)
    code, _, said = segkit("hydrate", published, corpus, "-o", tmp_path / "out", "--workers", 1, capsys=capsys)
    assert code == 0 and "published in a file of another axis or split" in said
    there = pq.read_table(tmp_path / "out" / path.relative_to(published))
    assert there["id"].to_pylist() == [row["id"] for row in table[2:]]
    table[0] = table[2]
    pq.write_table(pa.Table.from_pylist(table, schema=file_schema()), path)
    code, _, said = segkit("hydrate", published, corpus, "-o", tmp_path / "out", "--workers", 1, capsys=capsys)
    assert code == 2 and f"1 ids more than once, such as {table[2]['id']}" in said


def test_a_killed_rebuild_goes_on(published, original, corpus, tmp_path):
    out = tmp_path / "out"
    arguments = ["hydrate", published, corpus, "-o", out, "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-m", "segkit.cli", *map(str, arguments)], stderr=subprocess.DEVNULL)
    while not list(out.glob("data/*/*.parquet")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    first = {path: path.stat().st_mtime_ns for path in out.glob("data/*/*.parquet")}
    assert read_run(out)["status"] != "complete"
    assert segkit(*arguments)[0] == 0
    assert first == {path: path.stat().st_mtime_ns for path in first}
    found = pa.concat_tables([pq.read_table(p) for p in sorted((out / "data").rglob("*.parquet"))])
    assert found.to_pylist() == rows(original).to_pylist() and not list(out.rglob("*.tmp"))


def test_rows_that_make_no_sense_are_named(published, corpus, tmp_path, capsys):
    path = next(published.glob("data/pause/train-*.parquet"))
    table = pq.read_table(path).to_pylist()
    table[0] |= {"start_s": float("nan")}
    table[1] |= {"end_s": 1e9}
    table[2] |= {"user_channel": 5}
    pq.write_table(pa.Table.from_pylist(table, schema=file_schema()), path)
    code, _, said = segkit("hydrate", published, corpus, "-o", tmp_path / "out", "--workers", 1, capsys=capsys)
    assert code == 0 and "published times or channels make no sense" in said
    there = pq.read_table(tmp_path / "out" / path.relative_to(published))
    assert there["id"].to_pylist() == [row["id"] for row in table[3:]]


def test_files_of_the_publishers_machine_are_not_told_and_not_needed(recordings, tmp_path, capsys):
    root, offsets = tmp_path / "calls", tmp_path / "secret folder" / "late.csv"
    samples, rate_hz = soundfile.read(recordings[0])
    write_wav(root / "1_agent.wav", samples[:, :1], rate_hz)
    write_wav(root / "1_caller.wav", samples[2000:, 1:], rate_hz)
    offsets.parent.mkdir()
    offsets.write_text("id,first_s,second_s\n1,0,0.25\n")
    options = PairsOptions(offsets=str(offsets))
    job = make_job((root, None), tmp_path / "ds", corpus="pairs", options=options, rate_hz=None)
    run(job)
    assert segkit("publish", job.out, "me/calls", "--annotations-only", "--dry-run")[0] == 0
    folder = tmp_path / "ds-annotations"
    assert not any(b"secret folder" in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    arguments = ["hydrate", folder, root, "-o", tmp_path / "out", "--workers", 1]
    code, _, said = segkit(*arguments, capsys=capsys)
    assert code == 2 and "late.csv" in said  # it is an option of the publisher's
    assert segkit(*arguments, "--set", "offsets=0,0")[0] == 0
    found = pa.concat_tables([pq.read_table(p) for p in sorted((tmp_path / "out" / "data").rglob("*.parquet"))])
    assert found.drop(["words"]).to_pylist() == rows(job).drop(["words"]).to_pylist()


def test_a_dataset_that_never_had_audio_says_so(corpus, tmp_path, capsys):
    job = make_job(
        (corpus, None), tmp_path / "ds", corpus="stereo", options=StereoOptions(), annotations_only=True, rate_hz=None
    )
    run(job)
    assert segkit("publish", job.out, "me/x", "--declare", DECLARED, "--dry-run")[0] == 0
    card = (tmp_path / "ds-published" / "README.md").read_text()
    assert "without audio" in card and "segkit hydrate me/x" in card and "\nWords of stereo are passed on" in card


def test_a_wrong_root_is_said(published, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    code, _, said = segkit("hydrate", published, tmp_path / "empty", "-o", tmp_path / "out", capsys=capsys)
    assert code == 1 and "Nothing could be rebuilt: not in this copy of the corpus" in said
    assert read_run(tmp_path / "out")["status"] != "complete" and not (tmp_path / "out" / "README.md").exists()
    code, _, said = segkit("hydrate", tmp_path / "nowhere", tmp_path, "-o", tmp_path / "out2", capsys=capsys)
    assert code in (1, 2) and "Traceback" not in said


def test_settings_survive_json():
    from segkit.extract.job import Job

    job = make_job((None, None), None, corpus="stereo", options=StereoOptions(speakers="x,y"), settings=EASY)
    assert Job.of(json.loads(json.dumps(job.identity())), None, None) == job


@pytest.fixture
def logged_in(hub, monkeypatch):  # noqa: F811
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub


def sent(server, folder, name="user/turns"):
    """Whether the Hub has every file of a folder as it is."""
    there = server.files(name)
    return all(there.get(path.relative_to(folder).as_posix()) == path.read_bytes() for path in package.files(folder))


def test_from_the_hub_and_back(logged_in, copy, original, corpus, tmp_path, capsys):
    code, said, complained = segkit("publish", copy, "user/turns", "--annotations-only", capsys=capsys)
    assert code == 0, complained
    folder = copy.with_name("mine-annotations")
    assert sent(logged_in, folder) and logged_in.private("user/turns")
    assert logged_in.token not in said + complained
    assert not any(logged_in.token.encode() in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    whole = pq.read_table(sorted(folder.glob("data/pause/train-*.parquet")))
    for streaming in (False, True):
        rows_there = datasets.load_dataset("user/turns", "pause", split="train", streaming=streaming)
        assert [row["id"] for row in rows_there.remove_columns(["user", "agent"])] == whole["id"].to_pylist()
    code, _, complained = segkit("hydrate", "user/turns", corpus, "-o", tmp_path / "out", "--workers", 1, capsys=capsys)
    assert code == 0, complained
    found = pa.concat_tables([pq.read_table(p) for p in sorted((tmp_path / "out" / "data").rglob("*.parquet"))])
    assert found.to_pylist() == rows(original).to_pylist()


def test_audio_from_the_hub(logged_in, copy, capsys):
    code, _, complained = segkit("publish", copy, "user/turns", "--public", "--declare", DECLARED, capsys=capsys)
    assert code == 0, complained
    assert sent(logged_in, copy.with_name("mine-published")) and not logged_in.private("user/turns")
    there = datasets.load_dataset("user/turns", "backchannel", split="train")
    for role in ("user", "agent"):
        there = there.cast_column(role, datasets.Audio(decode=False))
    row = there[0]
    assert segkit("publish", copy, "user/again", "--declare", DECLARED)[0] == 0
    assert sent(logged_in, copy.with_name("mine-published"), "user/again")
    code, _, said = segkit("publish", copy, "user/again", "--annotations-only", "--public", capsys=capsys)
    assert code == 2 and "exists and is private" in said and logged_in.private("user/again")
    assert segkit("publish", copy, "user/again", "--annotations-only")[0] == 0
    assert not any(b"fLaC" in content for content in logged_in.files("user/again").values())  # nothing old is left
    code, _, said = segkit("publish", copy, "user/turns", "--declare", DECLARED, capsys=capsys)
    assert code == 2 and "exists and is public" in said
    assert samples_hash(decode_flac(row["user"]["bytes"])[0]) == row["user_hash"]


def test_a_cut_connection_and_errors_lose_nothing(logged_in, copy, capsys):
    logged_in.cut(2, 1000, "/upload/")
    logged_in.fail(1, 503, "/commit/")
    codes = [segkit("publish", copy, "user/turns", "--declare", DECLARED)[0] for _ in range(2)]
    assert codes == [1, 0] and sent(logged_in, copy.with_name("mine-published"))


def test_a_silent_hub_is_asked_again_and_then_given_up(logged_in, copy, monkeypatch, capsys):
    monkeypatch.setattr("segkit.publish.upload.SILENCE_S", 0.5)
    logged_in.hang(1, 5, "/upload/")
    code, _, complained = segkit("publish", copy, "user/turns", "--declare", DECLARED, capsys=capsys)
    assert code == 0 and sent(logged_in, copy.with_name("mine-published")), complained
    logged_in.hang(1, 5, "/commit/")
    code, _, said = segkit("publish", copy, "user/again", "--declare", DECLARED, capsys=capsys)
    assert code == 1 and "The Hub cannot be reached" in said and "Start the same command again" in said
    assert segkit("publish", copy, "user/again", "--declare", DECLARED)[0] == 0
    assert sent(logged_in, copy.with_name("mine-published"), "user/again")


def test_who_may_not_write_is_told(hub, copy, monkeypatch, capsys):  # noqa: F811
    monkeypatch.delenv("HF_TOKEN", raising=False)
    code, _, said = segkit("publish", copy, "user/turns", "--declare", DECLARED, capsys=capsys)
    assert code == 2 and "hf auth login" in said
    HfApi(token=hub.token).create_repo("user/turns", repo_type="dataset", private=True)
    monkeypatch.setenv("HF_TOKEN", hub.read_token)
    code, _, said = segkit("publish", copy, "user/turns", "--declare", DECLARED, capsys=capsys)
    assert code == 2 and "refuses" in said and hub.read_token not in said
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.fail(1000, 500, "/repos/create")
    code, _, said = segkit("publish", copy, "user/turns", "--declare", DECLARED, capsys=capsys)
    assert code == 1 and "Start the same command again" in said and hub.token not in said
    code, _, said = segkit("hydrate", "user/nothing", copy, "-o", copy / "x", capsys=capsys)
    assert code == 2 and "nothing on the Hub" in said
