"""What leaves the house, and what a reader rebuilds from it."""

import json
import shutil
import signal
import subprocess
import sys

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from huggingface_hub import DatasetCard, HfApi
from support import EASY, QUICK, make_job, rows, segkit, write_wav

from segkit import corpora
from segkit.audio import decode_flac, samples_hash
from segkit.corpora.pairs import PairsOptions
from segkit.corpora.stereo import StereoOptions
from segkit.dataset.card import size_category
from segkit.dataset.folder import Folder
from segkit.dataset.record import JobRecord
from segkit.dataset.rows import segment_schema
from segkit.dataset.terms import terms
from segkit.errors import UsageError
from segkit.extraction.job import Job
from segkit.extraction.run import run
from segkit.publishing import gate, package
from segkit.publishing.card import rebuild
from segkit.storage import held

DECLARED = "stereo=CC0-1.0: made by a synthesiser, nobody's voice is in it"
STEREO = {"options": StereoOptions(), **QUICK}


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
    job = make_job((corpus, None), tmp_path_factory.mktemp("dataset") / "out", corpus="stereo", **STEREO)
    record = run(job)
    assert record.problems.counts == {"empty audio": 1} and all(each.kept for each in record.segments.values())
    return job


def told(folder):
    """What run.json says, as JSON."""
    return json.loads((folder / "run.json").read_text())


def front(folder):
    """The front matter of a dataset's card, as plain values."""
    return DatasetCard.load(folder / "README.md").data.to_dict()


def licence_in_card(folder):
    """The licence by the name that the Hub has for it, and the names of others."""
    return front(folder)["license"], front(folder).get("license_name")


@pytest.fixture
def copy(original, tmp_path):
    """The dataset folder in a place of its own."""
    shutil.copytree(original.out, tmp_path / "mine")
    return tmp_path / "mine"


@pytest.fixture
def little(copy):
    """The dataset folder with the segments of two axes, where the number of files and of charts does not matter."""
    for axis in ("turn_taking", "interruption"):
        shutil.rmtree(copy / "data" / axis)
    return copy


def rewrite(folder, column, value):
    """Every row of every file, the i-th, gets another value in a column."""
    for path in Folder(folder).shards() + Folder(folder).parts():
        table = pq.read_table(path)
        place, values = table.schema.get_field_index(column), pa.array([value(i) for i in range(len(table))])
        pq.write_table(table.set_column(place, column, values).cast(table.schema), path)
    return folder


def relabelled(folder, corpus):
    """Every row is of another corpus."""
    return rewrite(folder, "corpus", lambda i: corpus)


def mixed(folder):
    """Half of the segments of every file become Fisher's."""
    rewrite(folder, "corpus", lambda i: "fisher" if i % 2 else "stereo")


def licensed(folder, licence):
    """Every row has another licence."""
    return rewrite(folder, "licence", lambda i: licence)


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
    assert not any("old" in path.parts for path in Folder(copy).content())


@pytest.mark.parametrize("name", ["fisher", "switchboard", "callhome", "candor", "full_duplex_bench", "nobody_knows"])
def test_what_may_not_be_passed_on_is_refused(little, name, capsys):
    code, _, said = segkit("publish", relabelled(little, name), "me/x", "--dry-run", capsys=capsys)
    assert code == 2 and f"Audio and words of {name} may not be passed on" in said and "--annotations-only" in said


def test_terms_that_allow_it_are_kept(little, capsys):
    relabelled(little, "spokenwoz")
    code, _, said = segkit(
        "publish", little, "me/x", "--dry-run", "--declare", "spokenwoz=MIT: " + 20 * "a", capsys=capsys
    )
    assert code == 2 and "spokenwoz, which may be passed on under CC-BY-NC-4.0" in said
    assert segkit("publish", little, "me/x", "--dry-run")[0] == 0
    assert "license: cc-by-nc-4.0\n" in little.with_name("mine-published").joinpath("README.md").read_text()


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
        pq.write_table(pa.Table.from_pylist(there, schema=segment_schema()), target)
    run = told(copy)
    run["segments"]["pause"]["splits"].pop("test", None)
    (copy / "run.json").write_text(json.dumps(run))
    assert segkit("publish", copy, "me/x", "--annotations-only", "--dry-run")[0] == 0
    folder = str(copy.with_name("mine-annotations"))
    for axis in ("pause", "turn_taking", "backchannel", "interruption"):
        splits = datasets.load_dataset(folder, axis)
        files = list(copy.glob(f"data/{axis}/*.parquet"))
        assert sum(map(len, splits.values())) == sum(pq.read_metadata(path).num_rows for path in files)
    assert len(datasets.load_dataset(folder, "pause", split="test")) >= 2


def test_the_rows_tell_the_licence_of_ones_own_recordings(little, capsys):
    licensed(little, "for us only")
    assert segkit("publish", little, "me/x", "--annotations-only", "--dry-run")[0] == 0
    assert "| for us only |" in little.with_name("mine-annotations").joinpath("README.md").read_text()


OF_EACH = ["full_duplex_bench", "hub", "lhotse", "mono", "moshi_finetune", "pairs", "stereo"]
"""The corpora whose recordings have a licence each."""


def test_where_each_recording_has_a_licence_that_one_decides():
    assert [name for name in corpora.names() if corpora.get(name).licence_of_each] == OF_EACH
    for name in corpora.names():
        adapter = corpora.get(name)
        for licence, is_open in (("CC-BY-4.0", True), ("cc0-1.0", True), ("MIT", True), (None, False)):
            found = terms(name, licence)
            expected = (
                (licence or "unknown", is_open) if name in OF_EACH else (adapter.licence, adapter.redistributable)
            )
            assert (found.licence, found.may_be_shared) == expected, name
        for licence in ("unknown", "for us only", "CC-BY-ND-4.0", "LDC User Agreement", "CC-BY-4.0, but not the audio"):
            assert terms(name, licence).may_be_shared == (name not in OF_EACH and adapter.redistributable)
    assert not terms("nobody_knows", "CC-BY-4.0").may_be_shared


@pytest.mark.parametrize("name", OF_EACH)
def test_an_open_licence_in_the_rows_opens_the_gate(little, name, capsys):
    arguments = ["publish", licensed(relabelled(little, name), "CC-BY-4.0"), "me/x", "--dry-run"]
    assert segkit(*arguments)[0] == 0
    code, _, said = segkit(*arguments, "--declare", f"{name}=CC0-1.0: {20 * 'a'}", capsys=capsys)
    assert code == 2 and f"{name}, which may be passed on under CC-BY-4.0" in said
    licensed(little, "unknown")
    code, _, said = segkit(*arguments, capsys=capsys)
    assert code == 2 and f"Audio and words of {name} may not be passed on" in said and "segments): unknown." in said


def test_a_licence_that_is_set_is_in_rows_and_cards_and_opens_the_gate(corpus, tmp_path, capsys):
    out, easy = tmp_path / "mine", [word for name, value in EASY.items() for word in ("--set", f"{name}={value}")]
    arguments = ["extract", "stereo", corpus, "-o", out, *easy, "--workers", 1, "--limit", 2, "--rate-hz", "native"]
    arguments += ["--set", "context_s=2", "--set"]
    assert segkit(*arguments, "corpus.licence=CC-BY-4.0")[0] == 0
    for path in Folder(out).shards() + Folder(out).parts():
        assert set(pq.read_table(path)["licence"].to_pylist()) == {"CC-BY-4.0"}
    code, _, complained = segkit("publish", out, "me/x", "--dry-run", capsys=capsys)
    assert code == 0, complained
    assert segkit("publish", out, "me/x", "--dry-run", "--annotations-only")[0] == 0
    count = sum(pq.read_metadata(path).num_rows for path in Folder(out).shards())
    for folder in (out, tmp_path / "mine-published", tmp_path / "mine-annotations"):
        assert licence_in_card(folder) == ("cc-by-4.0", None)
        text = (folder / "README.md").read_text()
        assert f"| stereo | {count} | CC-BY-4.0 |" in text and "declares" not in text and "not in here" not in text
        assert all(pq.read_table(path)["words"].null_count == 0 for path in Folder(folder).shards())
        assert "CC-BY-4.0" in told(folder)["job"]["options"]["licence"]
    assert segkit(*arguments, "corpus.licence=unknown", "--overwrite")[0] == 0
    assert licence_in_card(out) == ("other", "unknown")
    code, _, said = segkit("publish", out, "me/x", "--dry-run", capsys=capsys)
    assert code == 2 and f"stereo ({count} segments): unknown." in said


def test_recordings_of_one_corpus_under_several_licences(little, capsys):
    """Every other row of each file is open: the gate, the card and the words follow the rows."""
    rewrite(little, "licence", lambda i: "MIT" if i % 2 else "unknown")
    found = pa.concat_tables([pq.read_table(path) for path in Folder(little).shards()])["licence"].to_pylist()
    code, _, said = segkit("publish", little, "me/x", "--dry-run", capsys=capsys)
    assert code == 2 and f"stereo ({found.count('unknown')} segments): unknown." in said and "MIT" not in said
    assert segkit("publish", little, "me/x", "--dry-run", "--annotations-only")[0] == 0
    folder = little.with_name("mine-annotations")
    for row in [row for path in Folder(folder).shards() for row in pq.read_table(path).to_pylist()]:
        assert (row["words"] is None) == (row["licence"] == "unknown")
    assert "The words of stereo are not in here" in (folder / "README.md").read_text()
    assert segkit("publish", little, "me/x", "--dry-run", "--declare", DECLARED)[0] == 0
    folder = little.with_name("mine-published")
    assert licence_in_card(folder) == ("other", "CC0-1.0, MIT")
    text = (folder / "README.md").read_text()
    assert f"| stereo | {found.count('unknown')} | CC0-1.0 |" in text
    assert f"| stereo | {found.count('MIT')} | MIT |" in text and text.count("me declares") == 1


SETS = {
    "synthetic_pause_handling": "MIT",
    "icc_backchannel": "CC-BY-NC-4.0",
    "candor_turn_taking": "BetterUp CANDOR data licence",
}
"""Test sets of Full-Duplex-Bench, with the licence of each."""


def test_full_duplex_bench_is_closed_by_the_rows_of_candor_only(recordings, tmp_path, capsys):
    root = tmp_path / "bench"
    for wav, name in zip(recordings, SETS, strict=False):
        samples, rate_hz = soundfile.read(wav)
        said = json.loads(wav.with_suffix(".json").read_text())["words"]
        user, model = (
            [{"text": w["text"], "timestamp": [w["start_s"], w["end_s"]]} for w in said if w["channel"] == channel]
            for channel in (0, 1)
        )
        for channel, file in enumerate(("input.wav", "output.wav")):
            write_wav(root / name / "1" / file, samples[:, channel : channel + 1], rate_hz)
        (root / name / "1" / "transcription.json").write_text(json.dumps([{"speaker": 1, "item": user}]))
        (root / name / "1" / "output.json").write_text(json.dumps({"text": "", "chunks": model}))
    job = make_job((root, None), tmp_path / "ds", corpus="full_duplex_bench", **QUICK)
    record = run(job)
    assert record.recordings.used == len(SETS) and not record.problems.inputs
    found = rows(job).to_pylist()
    for row in found + pq.read_table(job.folder.parts()).to_pylist():
        assert row["licence"] == SETS[row["recording_id"].partition("/")[0]]
    counts = {licence: sum(row["licence"] == licence for row in found) for licence in SETS.values()}
    assert all(counts.values())
    for licence, count in counts.items():
        assert f"| full_duplex_bench | {count} | {licence} |" in job.folder.card.read_text()
    assert licence_in_card(job.out) == ("other", "BetterUp CANDOR data licence, CC-BY-NC-4.0, MIT")
    code, _, said = segkit("publish", job.out, "me/x", "--dry-run", capsys=capsys)
    closed = SETS["candor_turn_taking"]
    assert code == 2 and f"not be passed on. full_duplex_bench ({counts[closed]} segments): {closed}. Publish" in said
    assert segkit("publish", job.out, "me/x", "--dry-run", "--annotations-only")[0] == 0
    sent = Folder(tmp_path / "ds-annotations")
    for row in [row for path in sent.shards() for row in pq.read_table(path).to_pylist()]:
        assert (row["words"] is None) == (row["licence"] == closed)
    shutil.rmtree(root / "candor_turn_taking")
    run(make_job((root, None), tmp_path / "open", corpus="full_duplex_bench", **QUICK))
    code, _, complained = segkit("publish", tmp_path / "open", "me/x", "--dry-run", capsys=capsys)
    assert code == 0, complained
    assert licence_in_card(tmp_path / "open-published") == ("other", "CC-BY-NC-4.0, MIT")


def test_what_is_made_is_not_rebuilt():
    card = rebuild("me/x", ["spokenwoz", "synthetic"])
    assert "segkit hydrate me/x /path/to/spokenwoz" in card and "hydrate me/x /path/to/synthetic" not in card
    assert "synthetic is made" in card and "```" not in rebuild("me/x", ["synthetic"])


@pytest.mark.parametrize(
    ("rows", "name"), [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (12_345, "10K<n<100K"), (10**6, "1M<n<10M")]
)
def test_sizes_are_named_as_on_the_hub(rows, name):
    assert size_category(rows) == name


def test_rows_without_a_corpus_go_nowhere(little, capsys):
    path = next(little.glob("data/pause/*.parquet"))
    table = pq.read_table(path)
    nothing = pa.nulls(len(table), pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("corpus"), "corpus", nothing), path)
    for options in (["--annotations-only"], ["--declare", DECLARED]):
        code, _, said = segkit("publish", little, "me/turns", "--dry-run", *options, capsys=capsys)
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
    assert "me declares: made by a synthesiser, nobody's voice is in it" in card and "2606.11167" in card
    assert licence_in_card(folder) == ("cc0-1.0", None)
    assert front(folder)["size_categories"] == ["n<1K"] and front(folder)["tags"] == ["segkit", "full-duplex"]
    assert 'load_dataset("me/turns", "pause")' in card and "segkit hydrate" not in card


@pytest.fixture(scope="module")
def annotations(original, tmp_path_factory):
    """The annotations of the dataset, as they are sent."""
    mine = tmp_path_factory.mktemp("published") / "mine"
    shutil.copytree(original.out, mine)
    assert segkit("publish", mine, "me/turns", "--annotations-only", "--dry-run")[0] == 0
    return mine.with_name("mine-annotations")


@pytest.fixture
def published(annotations, tmp_path):
    """The same in a place of its own."""
    return shutil.copytree(annotations, tmp_path / "mine-annotations")


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
    """Two processes rebuild it; then there is nothing left to do for one."""
    out = tmp_path / "hydrated"
    code, said, _ = segkit("hydrate", published, corpus, "-o", out, "--workers", 2, capsys=capsys)
    assert code == 0 and "Audio was compared" in said
    for path in [*original.out.rglob("*.parquet"), *published.rglob("*.parquet"), *out.rglob("*.parquet")]:
        assert pq.read_metadata(path).row_group(0).column(0).has_column_index, path  # the Hub's viewer pages by it
    names = sorted(path.relative_to(original.out) for path in original.folder.data.rglob("*.parquet"))
    assert sorted(path.relative_to(out) for path in (out / "data").rglob("*.parquet")) == names
    for name in names:
        ours, theirs = pq.read_table(original.out / name), pq.read_table(out / name)
        assert ours.schema.equals(theirs.schema) and ours.to_pylist() == theirs.to_pylist()
    before, after = (
        pq.read_table(sorted(folder.glob("annotations/*.parquet"))).to_pylist() for folder in (original.out, out)
    )
    assert [row | {"detail": None} for row in before] == after  # details could quote words
    assert told(out)["segments"] == {
        axis: counts | {"splits": counts["splits"]} for axis, counts in told(original.out)["segments"].items()
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
    assert found.schema.equals(segment_schema().with_metadata(found.schema.metadata))


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
    assert told(tmp_path / "out")["hydrated"]["lost"] == {"1": {"audio differs from the publisher's": lost}}


def test_the_report_of_another_corpus_is_not_the_publishers(published, original, corpus, tmp_path):
    """run.json is about fisher, all files about stereo."""
    run = told(published)
    run["job"] |= {"corpus": "fisher", "options": {}}
    run |= {"recordings": {"used": 999, "hours": 999.0}, "settings_hash": "999"}
    (published / "run.json").write_text(json.dumps(run))
    assert segkit("hydrate", published, corpus, "-o", tmp_path / "out", "--workers", 1)[0] == 0
    there = told(tmp_path / "out")
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
    pq.write_table(pa.Table.from_pylist(table, schema=segment_schema()), path)
    code, _, said = segkit("hydrate", published, corpus, "-o", tmp_path / "out", "--workers", 1, capsys=capsys)
    assert code == 0 and "published in a file of another axis or split" in said
    there = pq.read_table(tmp_path / "out" / path.relative_to(published))
    assert there["id"].to_pylist() == [row["id"] for row in table[2:]]
    table[0] = table[2]
    pq.write_table(pa.Table.from_pylist(table, schema=segment_schema()), path)
    code, _, said = segkit("hydrate", published, corpus, "-o", tmp_path / "out", "--workers", 1, capsys=capsys)
    assert code == 2 and f"1 ids more than once, such as {table[2]['id']}" in said


KILLED_AT_THE_SECOND_FILE = """
import os, signal, sys
from pathlib import Path
from segkit import cli

replace, out = Path.replace, Path(sys.argv[sys.argv.index("-o") + 1])

def killed(draft, target):
    if target.suffix == ".parquet" and target.is_relative_to(out / "data") and list(out.glob("data/*/*.parquet")):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(draft, target)

Path.replace = killed
cli.main()
"""
"""The command line, which is killed when the draft of its second file of segments is there."""


def test_a_killed_rebuild_goes_on(published, original, corpus, tmp_path):
    out = tmp_path / "out"
    arguments = ["hydrate", published, corpus, "-o", out, "--workers", 1]
    command = [sys.executable, "-c", KILLED_AT_THE_SECOND_FILE, *map(str, arguments)]
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL
    first = {path: path.stat().st_mtime_ns for path in out.glob("data/*/*.parquet")}
    assert told(out)["status"] != "complete" and len(first) == 1 and list(out.rglob("*.tmp"))
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
    pq.write_table(pa.Table.from_pylist(table, schema=segment_schema()), path)
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
    job = make_job((root, None), tmp_path / "ds", corpus="pairs", options=options)
    run(job)
    assert job.settings.rate_hz != rate_hz  # what is cut and rebuilt is resampled, and has a long context
    assert segkit("publish", job.out, "me/calls", "--annotations-only", "--dry-run")[0] == 0
    folder = tmp_path / "ds-annotations"
    assert not any(b"secret folder" in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    arguments = ["hydrate", folder, root, "-o", tmp_path / "out", "--workers", 1]
    code, _, said = segkit(*arguments, capsys=capsys)
    assert code == 2 and "late.csv" in said  # it is an option of the publisher's
    assert segkit(*arguments, "--set", "corpus.offsets=0,0")[0] == 0
    found = pa.concat_tables([pq.read_table(p) for p in sorted((tmp_path / "out" / "data").rglob("*.parquet"))])
    assert found.drop(["words"]).to_pylist() == rows(job).drop(["words"]).to_pylist()


def test_a_dataset_that_never_had_audio_says_so(corpus, tmp_path, capsys):
    job = make_job((corpus, None), tmp_path / "ds", corpus="stereo", annotations_only=True, limit=1, **STEREO)
    run(job)
    assert segkit("publish", job.out, "me/x", "--declare", DECLARED, "--dry-run")[0] == 0
    card = (tmp_path / "ds-published" / "README.md").read_text()
    assert "without audio" in card and "segkit hydrate me/x" in card and "\nWords of stereo are passed on" in card


def test_a_wrong_root_is_said(published, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    code, _, said = segkit(
        "hydrate", published, tmp_path / "empty", "-o", tmp_path / "out", "--workers", 1, capsys=capsys
    )
    assert code == 1 and "Nothing could be rebuilt: not in this copy of the corpus" in said
    assert told(tmp_path / "out")["status"] != "complete" and not (tmp_path / "out" / "README.md").exists()
    code, _, said = segkit("hydrate", tmp_path / "nowhere", tmp_path, "-o", tmp_path / "out2", capsys=capsys)
    assert code in (1, 2) and "Traceback" not in said


def test_settings_survive_json():
    options = StereoOptions(speakers="x,y", licence="CC-BY-4.0")
    job = make_job((None, None), None, corpus="stereo", options=options, rate_hz=None, axes="pause", seed=3)
    assert Job.of(JobRecord.model_validate_json(job.record.model_dump_json()), None, None) == job


@pytest.fixture
def logged_in(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub


def sent(server, folder, name="user/turns"):
    """Whether the Hub has every file of a folder as it is."""
    there = server.files(name)
    return all(there.get(path.relative_to(folder).as_posix()) == path.read_bytes() for path in Folder(folder).content())


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


def test_audio_from_the_hub(logged_in, little, capsys):
    code, _, complained = segkit("publish", little, "user/turns", "--public", "--declare", DECLARED, capsys=capsys)
    assert code == 0, complained
    assert sent(logged_in, little.with_name("mine-published")) and not logged_in.private("user/turns")
    there = datasets.load_dataset("user/turns", "backchannel", split="train")
    for role in ("user", "agent"):
        there = there.cast_column(role, datasets.Audio(decode=False))
    row = there[0]
    assert segkit("publish", little, "user/again", "--declare", DECLARED)[0] == 0
    assert sent(logged_in, little.with_name("mine-published"), "user/again")
    code, _, said = segkit("publish", little, "user/again", "--annotations-only", "--public", capsys=capsys)
    assert code == 2 and "exists and is private" in said and logged_in.private("user/again")
    assert segkit("publish", little, "user/again", "--annotations-only")[0] == 0
    assert not any(b"fLaC" in content for content in logged_in.files("user/again").values())  # nothing old is left
    code, _, said = segkit("publish", little, "user/turns", "--declare", DECLARED, capsys=capsys)
    assert code == 2 and "exists and is public" in said
    assert samples_hash(decode_flac(row["user"]["bytes"])[0]) == row["user_hash"]


def test_a_cut_connection_and_errors_lose_nothing(logged_in, little, capsys):
    logged_in.cut(2, 1000, "/upload/")
    logged_in.fail(1, 503, "/commit/")
    codes = [segkit("publish", little, "user/turns", "--declare", DECLARED)[0] for _ in range(2)]
    assert codes == [1, 0] and sent(logged_in, little.with_name("mine-published"))


def test_a_silent_hub_is_asked_again_and_then_given_up(logged_in, little, monkeypatch, capsys):
    monkeypatch.setattr("segkit.publishing.upload.SILENCE_S", 0.5)
    logged_in.hang(1, 5, "/upload/")
    code, _, complained = segkit("publish", little, "user/turns", "--declare", DECLARED, capsys=capsys)
    assert code == 0 and sent(logged_in, little.with_name("mine-published")), complained
    logged_in.hang(1, 5, "/commit/")
    code, _, said = segkit("publish", little, "user/again", "--declare", DECLARED, capsys=capsys)
    assert code == 1 and "The Hub cannot be reached" in said and "Start the same command again" in said
    assert segkit("publish", little, "user/again", "--declare", DECLARED)[0] == 0
    assert sent(logged_in, little.with_name("mine-published"), "user/again")


def test_who_may_not_write_is_told(hub, little, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    code, _, said = segkit("publish", little, "user/turns", "--declare", DECLARED, capsys=capsys)
    assert code == 2 and "hf auth login" in said
    HfApi(token=hub.token).create_repo("user/turns", repo_type="dataset", private=True)
    monkeypatch.setenv("HF_TOKEN", hub.read_token)
    code, _, said = segkit("publish", little, "user/turns", "--declare", DECLARED, capsys=capsys)
    assert code == 2 and "refuses" in said and hub.read_token not in said
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.fail(1000, 500, "/repos/create")
    code, _, said = segkit("publish", little, "user/turns", "--declare", DECLARED, capsys=capsys)
    assert code == 1 and "Start the same command again" in said and hub.token not in said
    code, _, said = segkit("hydrate", "user/nothing", little, "-o", little / "x", capsys=capsys)
    assert code == 2 and "nothing on the Hub" in said


def test_a_folder_that_another_publish_fills_is_left_alone(little, tmp_path):
    out = Folder(shutil.copytree(little, tmp_path / "own"))
    folder = package.prepare(out, "me/x", gate.shares(out), annotations_only=True)
    (draft := folder.path / ".half.parquet.0a1b2c3d.tmp").write_bytes(b"of a killed process")
    with held(folder.path), pytest.raises(UsageError, match="Another run is writing to"):
        package.prepare(out, "me/x", gate.shares(out), annotations_only=True)
    assert draft.exists()
    package.prepare(out, "me/x", gate.shares(out), annotations_only=True)
    assert not draft.exists()
