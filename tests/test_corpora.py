"""One contract for every corpus, and what is particular to `stereo` and `pairs`."""

import contextlib
import json
from collections import Counter

import fixtures
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import write_wav

from segkit import corpora
from segkit.corpora.base import OWN
from segkit.corpora.pairs import PairsOptions
from segkit.corpora.stereo import StereoOptions
from segkit.errors import BadInputError, NothingUsableError, UsageError
from segkit.extraction import annotate
from segkit.extraction.job import Job
from segkit.extraction.run import run
from segkit.schemas import Conversation, Problem
from segkit.settings import ExtractionSettings

NEEDS_OPTIONS = {"hub"}
SECOND = np.zeros((8000, 1)) + 0.001


@pytest.mark.parametrize("name", corpora.names())
def test_contract(name, tmp_path):
    """Terms are stated, options have defaults and say what they are, and an empty root holds no recordings."""
    corpus = corpora.get(name)
    for fact in (corpus.title, corpus.licence, corpus.how_to_get_it, corpus.tree):
        assert isinstance(fact, str) and fact
    assert isinstance(corpus.citation, str)
    assert corpus.citation or corpus.how_to_get_it.startswith(OWN)  # there is nobody to cite
    assert isinstance(corpus.redistributable, bool)
    assert corpus.Options.__doc__ and corpus.name() == name
    assert [each.name for each in corpus.Options.fields()] == list(vars(corpus.Options()))
    for field in corpus.Options.fields():
        assert field.field.description, field.name
    if name in NEEDS_OPTIONS:
        with pytest.raises(UsageError, match=r"Expected --set corpus\.dataset="):
            list(corpus(tmp_path).find())
        return
    found = list(corpus(tmp_path).find())
    assert found == list(corpus(tmp_path).find())
    assert bool(found) == (not corpus.needs_root)
    ids = [item.id for item in found]
    assert len(set(ids)) == len(ids)
    if corpus.needs_root:
        with pytest.raises(UsageError, match="is not a folder"):
            corpus(tmp_path / "nowhere")


def test_discovery_needs_no_list():
    assert {"stereo", "pairs", "synthetic"} <= set(corpora.names())
    with pytest.raises(UsageError, match='Did you mean "stereo"'):
        corpora.get("steroe")


def stereo(root, **options):
    return corpora.get("stereo")(root, StereoOptions(**options))


def pairs(root, **options):
    return corpora.get("pairs")(root, PairsOptions(**options))


def test_stereo_finds_at_any_depth(tmp_path):
    write_wav(tmp_path / "b.wav", np.hstack([SECOND, SECOND]), 8000)
    write_wav(tmp_path / "deep" / "er" / "a.FLAC", np.hstack([SECOND, SECOND]), 8000)
    (tmp_path / "notes.txt").write_text("not audio")
    found = list(stereo(tmp_path, language="en", licence="CC0-1.0").find())
    assert [c.id for c in found] == ["b", "deep/er/a"]
    assert [t.channel for t in found[0].tracks] == [0, 1]
    assert found[0].speakers == ("b/0", "b/1")
    assert (found[0].language, found[0].licence) == ("en", "CC0-1.0")


LIST = [
    {"speaker": "B", "word": "fine", "start": 2.0, "end": 2.5},
    {"speaker": "A", "word": "how", "start": 0.5, "end": 0.75},
]
ALIGNMENTS = {"alignments": [["fine", [2.0, 2.5], "SPEAKER_01"], ["how", [0.5, 0.75], "SPEAKER_MAIN"]]}


@pytest.mark.parametrize("content", [LIST, ALIGNMENTS])
@pytest.mark.parametrize("place", ["a.json", "text/a.json"])
def test_words_of_either_form_beside_or_elsewhere(tmp_path, content, place):
    write_wav(tmp_path / "a.wav", np.hstack([SECOND, SECOND]), 8000)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(json.dumps(content))
    corpus = stereo(tmp_path)
    (conversation,) = corpus.find()
    words = sorted((w.channel, w.text, w.start_s, w.end_s) for w in corpus.transcript(conversation).words)
    assert words == [(0, "how", 0.5, 0.75), (1, "fine", 2.0, 2.5)]


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"words": []}', '[{"speaker": "A", "said": "x", "start": null, "end": 1}]', "null"]
)
def test_bad_words(tmp_path, content):
    write_wav(tmp_path / "a.wav", np.hstack([SECOND, SECOND]), 8000)
    (tmp_path / "a.json").write_text(content)
    corpus = stereo(tmp_path)
    (conversation,) = corpus.find()
    with pytest.raises(BadInputError, match=r"unreadable transcript: a\.json"):
        corpus.transcript(conversation)


def test_unknown_speakers_are_named_and_can_be_told(tmp_path):
    write_wav(tmp_path / "a.wav", np.hstack([SECOND, SECOND]), 8000)
    (tmp_path / "a.json").write_text(json.dumps([row | {"speaker": row["speaker"] * 2} for row in LIST]))
    (conversation,) = stereo(tmp_path).find()
    with pytest.raises(BadInputError, match=r"'AA', 'BB'.*--set corpus\.speakers="):
        stereo(tmp_path).transcript(conversation)
    assert {w.channel for w in stereo(tmp_path, speakers="AA,BB").transcript(conversation).words} == {0, 1}


def test_pairs_by_suffix_and_by_folder(tmp_path):
    for name in ("x/1_agent.wav", "x/1_caller.wav", "agent/7.wav", "caller/7.wav", "y/2_caller.wav"):
        write_wav(tmp_path / name, SECOND, 8000)
    found = list(pairs(tmp_path).find())
    assert [c.id for c in found if isinstance(c, Conversation)] == ["x/1"]
    (problem,) = [p for p in found if isinstance(p, Problem)]
    assert (problem.source, problem.reason) == ("y/2", "missing partner")
    assert "{id}_agent.wav" in problem.detail
    (conversation,) = pairs(tmp_path, pattern="agent/{id}.wav,caller/{id}.wav").find()
    assert conversation.id == "7"
    assert [t.path.parent.name for t in conversation.tracks] == ["agent", "caller"]


def test_pairs_that_claim_one_id(tmp_path):
    for name in ("1_agent.wav", "1_agent.flac", "1_caller.wav"):
        write_wav(tmp_path / name, SECOND, 8000)
    (problem,) = pairs(tmp_path, pattern="{id}_agent.*,{id}_caller.*").find()
    assert problem.reason == "two files claim one id"


def test_offsets_for_all_or_from_a_table(tmp_path):
    for name in ("1_agent.wav", "1_caller.wav", "2_agent.wav", "2_caller.wav"):
        write_wav(tmp_path / name, SECOND, 8000)
    for conversation in pairs(tmp_path, offsets="0,-1.5").find():
        assert [t.offset_s for t in conversation.tracks] == [0, -1.5]
    table = tmp_path / "offsets.csv"
    table.write_text("\ufeffid,first_s,second_s\r\n2,2.05,0.5\r\n", encoding="utf-8")
    found = {c.id: [t.offset_s for t in c.tracks] for c in pairs(tmp_path, offsets=str(table)).find()}
    assert found == {"1": [0, 0], "2": [2.05, 0.5]}


@pytest.mark.parametrize(
    "options",
    [
        {"pattern": "{id}.wav"},
        {"pattern": "a.wav,b.wav"},
        {"pattern": "{id}.wav,{id}.wav"},
        {"offsets": "1"},
        {"offsets": "a,b"},
        {"offsets": "nowhere.csv"},
    ],
)
def test_bad_options_of_pairs(tmp_path, options):
    write_wav(tmp_path / "1_agent.wav", SECOND, 8000)
    write_wav(tmp_path / "1_caller.wav", SECOND, 8000)
    with pytest.raises(UsageError, match=rf"Setting 'corpus\.{next(iter(options))}' got .* Expected"):
        list(pairs(tmp_path, **options).find())


def test_the_hub_keeps_the_audio_of_its_row(tmp_path):
    """Rows that come in another order bring their own audio; a foreign row names no file of this machine."""

    def rows(*clips):
        cells = [{"bytes": clip, "path": None} if isinstance(clip, bytes) else clip for clip in clips]
        table = pa.table({"audio": pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))})
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "data" / "train.parquet")
        corpus = corpora.get("hub")
        return list(corpus(tmp_path, corpus.Options(dataset="data")).find())

    low, high = fixtures.audio(), fixtures.audio(seconds=2.0)
    first = rows(low, high)
    second = rows(high, low)
    assert [c.audio[0].read_bytes() for c in first] == [low, high]
    assert [c.audio[0].read_bytes() for c in second] == [high, low]
    (tmp_path / "private.wav").write_bytes(low)
    (problem,) = rows({"bytes": None, "path": str(tmp_path / "private.wav")})
    assert problem.reason == "file cannot be opened" and "neither in the dataset nor on the Hub" in problem.detail


def annotated(name, root, out, options=None, **settings):
    """The annotations of a fixture's corpus, or of other files, by recording."""
    corpus = corpora.get(name)
    job = Job(name, root, out, corpus.Options().changed(options or {}), ExtractionSettings().changed(settings))
    with contextlib.suppress(NothingUsableError):
        run(job)
    return {row["recording_id"]: row for row in pq.read_table(job.folder.annotations).to_pylist()}


def test_seamless_speech_from_the_words_or_from_its_own_detector(tmp_path):
    root = fixtures.of("seamless").write(tmp_path / "in")
    transcript = {"vad.backend": "transcript", "annotations_only": True}
    by_words = annotated("seamless", root, tmp_path / "words", **transcript)
    assert by_words["V00_S0099_I00000901"]["activity"] == [[[0.1, 0.3]], [[0.25, 0.5]]]
    assert by_words["V03_S0098_I00000902"]["problem"] == "no transcript"
    by_vad = annotated("seamless", root, tmp_path / "vad", {"speech": "vad"}, **transcript)
    assert by_vad["V00_S0099_I00000901"]["activity"] == [[[0.1, 0.9]], [[0.1, 0.9]]]
    assert len(by_vad["V00_S0099_I00000901"]["words"]) == 2
    wordless = by_vad["V03_S0098_I00000902"]
    assert wordless["activity"] == [[[0.1, 0.5]], []] and wordless["words"] is None


def test_one_channel_is_told_apart_by_its_transcript_and_else_by_diarization(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(annotate, "diarizer", lambda model, device: asked.append(model))
    monkeypatch.setattr(annotate, "tell_apart", lambda speakers, settings, rows, recordings: asked.extend(recordings))
    rows = annotated("miami", fixtures.of("miami").write(tmp_path / "in"), tmp_path / "out")
    assert rows["herring06"]["activity"] == [[[0.35, 0.6], [0.65, 0.7]], [[0.1, 0.4], [0.7, 0.9]]]
    assert rows["herring06"]["others"] == [[0.62, 0.7]] and rows["herring06"]["derived"] == "transcript"
    assert asked == ["", "sastre01"]


@pytest.mark.parametrize(
    ("name", "path", "content", "expected"),
    [
        ("oto_speech", "seglst.json", b'[{"session_id": "a", "speaker": "x", "words": "hi"}]', "found x, expected two"),
        ("ifadv", "ort/DVA1A.ort", "persoon", "its tiers are persoon1, persoon2"),
        ("miami", "tr/herring06.tr", b"0.1|0.2|NIC|SPA|no\n", "found 'NIC' only"),
    ],
)
def test_speakers_that_cannot_be_placed_are_told(tmp_path, name, path, content, expected):
    if content == "persoon":
        content = fixtures.of("ifadv").files["Annotations/ort/DVA1A_ort.ort"].replace(b"spreker", b"persoon")
        content = content.replace(b"BACKGROUND", b"persoon2")
    fixtures.Fixture({path: content}, {}).write(tmp_path)
    corpus = corpora.get(name)(tmp_path)
    (conversation,) = corpus.find()
    with pytest.raises(BadInputError, match=f"unknown speakers: .*{expected}"):
        corpus.transcript(conversation)


def test_segments_without_a_session_are_told_and_cost_no_other(tmp_path):
    fixture = fixtures.of("oto_speech")
    segments = [{"speaker": "speaker_0", "words": "hi"}, "x", *json.loads(fixture.files["seglst.json"])]
    fixtures.Fixture({"seglst.json": json.dumps(segments).encode()}, {}).write(tmp_path)
    corpus = corpora.get("oto_speech")(tmp_path)
    problem, *conversations = corpus.find()
    assert (problem.source, problem.reason) == ("seglst.json", "segments without a session")
    assert problem.detail.startswith("2 segments") and [c.id for c in conversations] == ["3f2a", "77b1", "gone"]
    assert len(corpus.transcript(conversations[0]).words) == 3


def test_the_speakers_of_miami_are_the_two_with_the_most_utterances(tmp_path):
    """Not those who speak for the longest time."""
    rows = [("ann", 0.0, 0.1), ("ben", 0.2, 0.3), ("ann", 0.4, 0.5), ("ben", 0.6, 0.7), ("aaa", 1.0, 9.0)]
    text = "".join(f"{start}|{end}|{who}|ENG|so\n" for who, start, end in rows)
    fixtures.Fixture({"herring06.tr": text.encode()}, {}).write(tmp_path)
    corpus = corpora.get("miami")(tmp_path)
    (conversation,) = corpus.find()
    transcript = corpus.transcript(conversation)
    assert [(w.channel, w.start_s) for w in transcript.words] == [(0, 0.0), (0, 0.4), (1, 0.2), (1, 0.6)]
    assert transcript.others.tolist() == [[1.0, 9.0]]


@pytest.mark.parametrize("bad", ["Infinity", "-Infinity", "NaN", "null", '"x"', "{}"])
@pytest.mark.parametrize("end", ["start", "end"])
def test_voice_activity_of_seamless_without_times_is_left_out(bad, end, tmp_path):
    fixture = fixtures.of("seamless")
    name = next(name for name in fixture.files if name.endswith("V03_S0098_I00000902_P0901.json"))
    vad = json.dumps([{"start": 0.6, "end": 0.7} | {end: "?"}, None, {}, {"start": 0.1, "end": 0.5}])
    files = {path: content for path, content in fixture.files.items() if "I00000902" in path and ".json" in path}
    files[name] = f'{{"metadata:vad": {vad}}}'.replace('"?"', bad).encode()
    settings = {"vad.backend": "transcript", "annotations_only": True}
    root = fixtures.Fixture(files, {}).write(tmp_path / "in")
    row = annotated("seamless", root, tmp_path / "out", {"speech": "vad"}, **settings)["V03_S0098_I00000902"]
    assert row["activity"] == [[[0.1, 0.5]], []] and row["duration_s"] == 0.5


@pytest.mark.parametrize(
    ("new", "reason"), [({"a": 1}, "word without text"), (["so"], "word without text"), (7, None), (" [so] ", None)]
)
def test_text_that_is_no_text_in_full_duplex_bench(new, reason, tmp_path):
    said = [{"text": new, "timestamp": [0.0, 0.5]}, "so", {"text": "[UH]", "timestamp": [1.0, 1.5]}]
    fixtures.Fixture({"a/1/transcription.json": json.dumps({"chunks": said}).encode()}, {}).write(tmp_path)
    corpus = corpora.get("full_duplex_bench")(tmp_path)
    transcript = corpus.transcript(next(corpus.find()))
    assert [w.text for w in transcript.words] == [*([] if reason else [str(new).strip(" []")]), "UH"]
    assert transcript.dropped == Counter(["word without times", *([reason] if reason else [])])


def test_shards_that_are_not_unpacked_are_named(tmp_path):
    fixtures.Fixture({"data/train/shard-000000.tar": b"a shard"}, {}).write(tmp_path)
    (problem,) = corpora.get("oto_speech")(tmp_path).find()
    assert (problem.source, problem.reason) == ("data/train/shard-000000.tar", "shard that is not unpacked")
    assert "tar xf" in problem.detail


@pytest.mark.parametrize("first", ["calls", "pins"])
def test_the_audited_table_of_calls_goes_before_the_table_of_pins(tmp_path, first):
    """In whatever order the two are found."""
    calls = b"CALL_ID,APIN,BPIN\n00001,2602,1790\n"
    pins = b"PIN,S_SEX,SIDE_DATA\n7,M,00001_A/m.a;00002_B/m.a\n"
    files = {
        f"{'a' if first == 'calls' else 'b'}/fe_03_p1_calldata.tbl": calls,
        f"{'a' if first == 'pins' else 'b'}/FE_03_PINDATA.TBL": pins,
        "fe_03_00001.sph": b"",
        "fe_03_00002.sph": b"",
    }
    found = list(corpora.get("fisher")(fixtures.Fixture(files, {}).write(tmp_path)).find())
    assert [c.speakers for c in found] == [("2602", "1790"), ("fe_03_00002/0", "7")]


@pytest.mark.shared_data
def test_real_corpora(shared):
    calls = list(stereo(shared / "spokenwoz_sample").find())
    assert [c.id for c in calls] == [f"audio/{name}" for name in ("MUL1423", "SNG0072", "SNG0480", "SNG1263")]
    words = [stereo(shared / "spokenwoz_sample").transcript(c).words for c in calls]
    assert [len(w) for w in words] == [231, 148, 289, 219]
    (call,) = pairs(shared / "aws_calls").find()
    assert call.id == "Auto_Repairs_40_UTC"
    (call,) = pairs(shared / "harper_valley", pattern="agent/{id}.wav,caller/{id}.wav").find()
    assert call.id == "data/audio/0002f70f7386445b"
