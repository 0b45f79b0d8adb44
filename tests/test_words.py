"""The words of a recording: which files they are in, bad ones in every adapter, and those on the wrong channels."""

import json
import unicodedata

import fixtures
import numpy as np
import pyarrow.parquet as pq
import pytest
from support import make_job, segkit, write_wav
from word_files import GOOD, as_ctm, as_list, as_srt, as_textgrid, expected, found

from segkit import corpora
from segkit.corpora.pairs import PairsOptions
from segkit.corpora.stereo import StereoOptions
from segkit.corpora.synthetic import read_truth
from segkit.errors import BadInputError, NothingUsableError, UsageError
from segkit.extraction import words
from segkit.extraction.run import run
from segkit.schemas import Conversation, Problem, Transcript, Word

SECOND = np.zeros((8000, 2)) + 0.001


# --- the files of `stereo` and `pairs`


def stereo(root, **options):
    return corpora.get("stereo")(root, StereoOptions(**options))


def pairs(root, **options):
    return corpora.get("pairs")(root, PairsOptions(**options))


def place(root, **files):
    """Files by name, with two underscores for a slash and the last one for a dot; None is a second of audio."""
    for name, content in files.items():
        path = root / ".".join(name.replace("__", "/").rsplit("_", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            write_wav(path, SECOND, 8000)
        else:
            path.write_text(content)


def transcripts(corpus):
    return {c.id: [str(path.relative_to(corpus.root)) for path in c.transcripts] for c in corpus.find()}


def test_which_file_of_words(tmp_path):
    """Beside the audio before elsewhere, JSON before the others; suffixes in either case, accents in either form."""
    place(tmp_path, x__a_WAV=None, x__a_srt="", x__a_JSON="[]", text__a_json="[]")
    place(tmp_path, x__b_wav=None, x__b_srt="", text__b_json="[]", x__c_wav=None, text__c_TextGrid="", d_wav=None)
    place(tmp_path, **{"x__cafe\u0301_wav": None, "text__caf\u00e9_json": "[]"})
    assert transcripts(stereo(tmp_path)) == {
        "d": [],
        "x/a": ["x/a.JSON"],
        "x/b": ["x/b.srt"],
        "x/c": ["text/c.TextGrid"],
        "x/cafe\u0301": ["text/caf\u00e9.json"],
    }


def test_words_that_are_there_twice_are_told(tmp_path):
    place(tmp_path, a_wav=None, x__a_json="[]", y__a_json="[]")
    corpus = stereo(tmp_path)
    (conversation,) = corpus.find()
    with pytest.raises(BadInputError, match=r"two files claim one id: .*x/a\.json, .*y/a\.json"):
        corpus.transcript(conversation)


@pytest.mark.parametrize("corpus", [stereo, pairs])
@pytest.mark.parametrize("speakers", ["A", "A,B,C", ",B", ""])
def test_speakers_are_two(corpus, speakers, tmp_path):
    with pytest.raises(UsageError, match=r"Setting 'corpus\.speakers' got .*Expected two labels"):
        list(corpus(tmp_path, speakers=speakers).find())


def test_pairs_have_a_file_of_words_for_each_or_for_both(tmp_path):
    place(tmp_path, **{f"{i}_{side}_wav": None for i in "123" for side in ("agent", "caller")})
    place(
        tmp_path, **{"1_agent_json": as_list([(None, "so", 0.5, 0.75)]), "1_caller_srt": as_srt([("X", "yes", 0, 0.5)])}
    )
    place(tmp_path, **{"2_json": as_list(GOOD), "3_caller_ctm": as_ctm(GOOD)})
    corpus = pairs(tmp_path, offsets="0,1.25")
    items = list(corpus.find())
    assert [(p.source, p.reason) for p in items if isinstance(p, Problem)] == [("3", "missing partner")]
    one, two, three = (c for c in items if isinstance(c, Conversation))
    transcript = corpus.transcript(one)
    assert found(transcript) == [(0, "so", 0.5, 0.75), (1, "yes", 1.25, 1.75)] and transcript.unit == "utterance"
    assert found(corpus.transcript(two)) == expected(GOOD)
    assert corpus.transcript(three) is None


def test_pairs_in_folders_and_tiers_that_are_named(tmp_path):
    place(tmp_path, agent__1_wav=None, caller__1_wav=None)
    place(tmp_path, agent__1_TextGrid=as_textgrid(GOOD), caller__1_TextGrid=as_textgrid(GOOD))
    options = {"pattern": "agent/{id}.wav,caller/{id}.wav"}
    (conversation,) = pairs(tmp_path, **options).find()
    transcript = pairs(tmp_path, **options).transcript(conversation)
    assert found(transcript) == expected(GOOD) and transcript.dropped == {"word of another speaker or tier": 4}
    with pytest.raises(BadInputError, match=r"unknown speakers: 1\.TextGrid: its speakers \['A', 'B'\] .*speakers="):
        pairs(tmp_path, speakers="Ann,B", **options).transcript(conversation)


def test_a_pattern_for_any_suffix_takes_no_words_for_audio(tmp_path):
    place(tmp_path, **{"1_agent_wav": None, "1_caller_flac": None, "1_agent_json": "[]", "1_caller_json": "[]"})
    (conversation,) = pairs(tmp_path, pattern="{id}_agent.*,{id}_caller.*").find()
    assert len(conversation.transcripts) == 2


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_of_pairs_in_either_form_and_suffixes_in_either_case(form, tmp_path):
    place(
        tmp_path,
        **{"caf\u00e9_agent_wav": None, "cafe\u0301_caller_WAV": None, "UP_agent_WAV": None, "UP_caller_Wav": None},
    )
    pattern = unicodedata.normalize(form, "{id}_agent.wav,{id}_caller.wav")
    table = tmp_path / "offsets.csv"
    table.write_text("id,first_s,second_s\n" + unicodedata.normalize(form, "café,0,2.5\n"), encoding="utf-16")
    one, two = pairs(tmp_path, pattern=pattern, offsets=str(table)).find()
    assert (one.id, two.id) == ("UP", "café") and two.tracks[1].offset_s == 2.5
    (tmp_path / "UP_agent.wav").write_bytes(b"")
    problem, _ = pairs(tmp_path, pattern=pattern).find()
    assert problem.reason == "two files claim one id"
    assert [
        c.id for c in pairs(tmp_path, pattern="{id}_Agent.wav,{id}_caller.wav").find() if isinstance(c, Conversation)
    ] == []


def test_a_name_in_a_pattern_may_have_accents(tmp_path):
    place(tmp_path, **{"1_a\u0300_wav": None, "1_b_wav": None})
    (conversation,) = pairs(tmp_path, pattern="{id}_\u00e0.wav,{id}_b.wav").find()
    assert conversation.id == "1"


# --- other adapters


def holding(value, key):
    """The dicts below a value that have a key, in the order of the file."""
    if isinstance(value, dict) and key in value:
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from holding(each, key)


BAD = {
    "spokenwoz": ("text_5700_train_dev/data.json", ["Word", "BeginTime", "EndTime"]),
    "candor": ("transcribe_output.json", ["start_time", "end_time", "alternatives"]),
    "full_duplex_bench": ("1/output.json", ["timestamp"]),
    "harper_valley": ("data/transcript/00a1.json", ["transcript", "word_offsets_ms"]),
    "seamless": (".json", ["word", "start", "end"]),
}
GONE = "gone"
OF_AN_ENTRY = {"harper_valley": 4}
"""How many words its first entry has, which is what has times there."""


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, (_, keys) in BAD.items() for key in keys])
@pytest.mark.parametrize("new", [None, "x", "", GONE])
def test_a_bad_word_in_the_json_of_a_corpus_costs_one_word(name, key, new, tmp_path):
    fixture, corpus = fixtures.of(name), corpora.get(name)
    path = next(path for path in fixture.files if path.endswith(BAD[name][0]) and key.encode() in fixture.files[path])
    content = json.loads(fixture.files[path])
    word = next(holding(content, key))
    word[key] = new
    if new is GONE:
        del word[key]
    root = fixtures.Fixture(fixture.files | {path: json.dumps(content).encode()}, {}).write(tmp_path)
    corpus = corpus(root, corpus.Options().changed(fixture.options))
    read = [c for c in corpus.find() if isinstance(c, Conversation) and root / path in c.transcripts]
    assert read
    for conversation in read:
        transcript, intact = corpus.transcript(conversation), fixture.found[conversation.id]
        lost = len(intact) - len(transcript.words)
        assert lost <= OF_AN_ENTRY.get(name, 1), conversation.id
        assert transcript.dropped.total() >= (lost > 0), conversation.id


# --- words in the annotations


def test_backwards_and_one_outside_cost_one_word_each():
    said = [Word(0, "so", 0.0, 1.0), Word(1, "back", 2.0, 1.5), Word(1, "yes", 2.0, 3.0)]
    row = {"duration_s": 10.0}
    words.fill(row, Transcript([*said, Word(0, "late", 50.0, 51.0)]))
    assert [w["text"] for w in row["words"]] == ["so", "yes"]
    assert row["words_dropped"] == [
        {"reason": "word outside the recording", "count": 1},
        {"reason": "word that ends before it starts", "count": 1},
    ]
    with pytest.raises(BadInputError, match="words outside the recording: 2 of 4"):
        words.fill(row, Transcript([said[0], said[2], *[Word(0, "late", 50.0, 51.0)] * 2]))
    with pytest.raises(BadInputError, match="words outside the recording: 1 of 1"):
        words.fill(row, Transcript([Word(0, "late", 50.0, 51.0)]))


NEAR, FAR = [[1.0, 2.0], [3.0, 4.0]], [[50.0, 51.0], [52.0, 53.0]]


@pytest.mark.parametrize(
    ("said", "speech", "reason"),
    [
        (NEAR, (NEAR, NEAR), None),
        (NEAR, (NEAR, [*NEAR, FAR[0]]), None),  # one of five
        (NEAR, (NEAR, [[9.0, 99.0]]), None),  # begins before the end of what was recorded
        (FAR, (NEAR, FAR), "words outside the recording"),
        (FAR, (FAR, FAR), "words outside the recording"),
        (NEAR, (NEAR, FAR), "speech outside the recording"),
        ([], (FAR[:1], []), "speech outside the recording"),
        ([], (NEAR, NEAR), None),
        ([], ([], []), None),
    ],
)
def test_a_transcript_of_another_recording_does_not_say_who_speaks(said, speech, reason):
    row = {"duration_s": 10.0, "activity": None, "words": None}
    first, second = (np.array(track).reshape(-1, 2) for track in speech)
    transcript = Transcript([Word(0, "so", a, b) for a, b in said], activity=(first, second))
    if reason is None:
        words.fill(row, transcript)
        assert row["activity"] == [[[a, min(b, 10.0)] for a, b in track if a < 10] for track in speech]
        assert (row["words"] is None) == (not said)
    else:
        with pytest.raises(BadInputError, match=reason):
            words.fill(row, transcript)
        assert row["activity"] is row["words"] is None


@pytest.mark.parametrize("content", ["[]", '{"segments": []}', '[{"speaker": "A", "word": "2266"}]'])
def test_a_transcript_without_a_word(content, tmp_path):
    place(tmp_path, a_wav=None, a_json=content)
    job = make_job(
        (tmp_path, None), tmp_path / "out", corpus="stereo", vad__backend="transcript", annotations_only=True
    )
    with pytest.raises(NothingUsableError, match=r"no words \(1\)"):
        run(job)


def row_of(said, speech, **facts):
    """An annotation of words and speech, each a list of spans of both tracks."""
    spoken = [
        {"channel": channel, "text": "x", "start_s": a, "end_s": b}
        for channel, spans in enumerate(said)
        for a, b in spans
    ]
    return {"problem": None, "derived": None, "words": spoken, "activity": speech, "warnings": []} | facts


FIRST, SECOND_SPEAKER = [[0.0, 3.0], [8.0, 12.0]], [[4.0, 7.0], [13.0, 15.0]]


@pytest.mark.parametrize(
    ("said", "speech", "facts", "told"),
    [
        ((FIRST, SECOND_SPEAKER), [SECOND_SPEAKER, FIRST], {}, True),
        ((FIRST, SECOND_SPEAKER), [FIRST, SECOND_SPEAKER], {}, False),
        ((FIRST, []), [SECOND_SPEAKER, FIRST], {}, True),  # the words of one side
        ((FIRST, SECOND_SPEAKER), [[[0.0, 15.0]], [[0.0, 15.0]]], {}, False),  # crosstalk
        ((FIRST, SECOND_SPEAKER), [[[20.0, 30.0]], [[30.0, 40.0]]], {}, False),  # the words of another recording
        ((FIRST[:1], []), [[], FIRST], {}, False),  # too few to tell
        ((FIRST, SECOND_SPEAKER), [SECOND_SPEAKER, FIRST], {"derived": "diarization"}, False),
        ((FIRST, SECOND_SPEAKER), [SECOND_SPEAKER, FIRST], {"problem": "silent track"}, False),
        (([], []), [FIRST, SECOND_SPEAKER], {}, False),
    ],
)
def test_words_on_the_wrong_channels(said, speech, facts, told):
    row = row_of(said, speech, **facts)
    words.check_channels(row)
    assert [w["reason"] for w in row["warnings"]] == ["words seem to be on the wrong channels"] * told
    if told:
        assert row["warnings"][0]["detail"].startswith("100 % of their time is outside speech here, 0 % if swapped")


def test_swapped_words_of_recordings_are_told(recordings, tmp_path):
    """Silero on synthetic conversations: all of which the words are swapped, and no others."""
    for i, path in enumerate(recordings[:4]):
        (tmp_path / path.name).write_bytes(path.read_bytes())
        truth = read_truth(path.with_suffix(".json"))
        rows = [("AB"[w.channel ^ (i % 2)], w.text, w.start_s, w.end_s) for w in truth.words]
        (tmp_path / f"{path.stem}.json").write_text(as_list(rows))
    job = make_job((tmp_path, None), tmp_path / "out", corpus="stereo", annotations_only=True)
    record = run(job)
    assert sorted(each.source for each in record.warnings.inputs) == [path.stem for path in recordings[1:4:2]]
    run(make_job((tmp_path, None), tmp_path / "t", corpus="stereo", annotations_only=True, vad__backend="transcript"))


# --- inputs that failed


T = "--rate-hz", "native", "--workers", 1, "--set", "turn_taking.tau_min_s=2", "--set", "pause.tau_min_s=2"


def extracted(corpus, root, out, *more):
    """The rows of all recordings by name, and run.json."""
    code, _, _ = segkit("extract", corpus, root, "-o", out, *T, *more)
    assert code == 0
    rows = [row for part in (out / "annotations").iterdir() for row in pq.read_table(part).to_pylist()]
    return {row["recording_id"]: row for row in rows}, json.loads((out / "run.json").read_text())


def dropped(row):
    return {each["reason"]: each["count"] for each in row["words_dropped"]}


@pytest.mark.shared_data
def test_bad_words_beside_audio(shared, tmp_path):
    found, _ = extracted("stereo", shared / "faults" / "03-words", tmp_path / "out")
    assert {name: (len(row["words"]), dropped(row), row["problem"]) for name, row in found.items()} == {
        "empty_list": (0, {}, None),
        "empty_null_number_words": (227, {"word without text": 2}, None),
        "end_before_start": (228, {"word that ends before it starts": 1}, None),
        "null_times": (228, {"word without times": 1}, None),
        "utf16": (229, {}, None),
        "whisperx_native": (229, {}, None),
        "whisperx_number": (228, {"word without times": 1}, None),
    }
    assert not {"", "None"} & {w["text"] for w in found["empty_null_number_words"]["words"]}
    assert not any(row["warnings"] or row["transcript_problem"] for row in found.values())
    silent, report = extracted("stereo", shared / "faults" / "03-words", tmp_path / "t", "--vad", "transcript")
    assert silent["empty_list"]["problem"] == "no words"
    assert {name for name, row in silent.items() if row["problem"]} == {"empty_list"}
    assert report["problems"]["counts"]["no words"] == 1


@pytest.mark.shared_data
def test_words_of_the_other_channel(shared, tmp_path):
    found, report = extracted("stereo", shared / "faults" / "04-words-swapped", tmp_path / "out")
    assert report["warnings"]["counts"] == {"words seem to be on the wrong channels": 1}
    (warning,) = found["swapped"]["warnings"]
    assert warning["detail"].startswith("89 % of their time is outside speech here, 1 % if swapped")


@pytest.mark.shared_data
@pytest.mark.parametrize("corpus", ["spokenwoz", "harper_valley", "full_duplex_bench"])
def test_right_words_are_not_warned_of(shared, corpus, tmp_path):
    """Of swapped ones all are told that have five seconds of words of both sides."""
    folder = shared / {"spokenwoz": "spokenwoz_sample"}.get(corpus, corpus)
    found, report = extracted(corpus, folder, tmp_path / "out")
    assert "words seem to be on the wrong channels" not in report["warnings"]["counts"]
    for row in found.values():
        if row["problem"] is None and {w["channel"] for w in row["words"]} == {0, 1}:
            row["activity"].reverse()
            words.check_channels(row)
            assert row["warnings"][-1]["reason"] == "words seem to be on the wrong channels"


@pytest.mark.shared_data
def test_names_in_two_forms_of_unicode(shared, tmp_path):
    found, report = extracted("pairs", shared / "faults" / "11-names", tmp_path / "out")
    assert {name: row["problem"] for name, row in found.items()} == {"UP": None, "caf\u00e9": None}
    assert report["problems"]["counts"] == {"duplicate audio": 1}  # the audio of both is the same
