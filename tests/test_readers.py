"""Words beside audio: every reader x every defect of a word, encodings, and whose words they are."""

import json
from pathlib import Path

import pympi
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from word_files import (
    GOOD,
    TIERS,
    UTTERANCES,
    WRITERS,
    as_ctm,
    as_eaf,
    as_short_textgrid,
    as_textgrid,
    as_vtt,
    expected,
    found,
    tiers,
    write,
)

from segkit.corpora.base import read_json, read_text
from segkit.corpora.readers import READERS, read_entries
from segkit.corpora.transcripts import of_labels, of_sides
from segkit.errors import BadInputError
from segkit.schemas import Word


def test_every_format_is_here():
    assert {Path(name).suffix.lower() for name in WRITERS} == READERS.keys()


@pytest.mark.parametrize("name", WRITERS)
def test_words_of_every_format(name, tmp_path):
    transcript = of_labels(write(tmp_path, name, GOOD))
    assert found(transcript) == expected(GOOD)
    assert transcript.unit == ("utterance" if name in UTTERANCES else "word")
    assert not transcript.dropped
    confident = {"whisperx.json", "call.ctm", "call.rttm"}
    assert {w.confidence for w in transcript.words} == ({0.5} if name in confident else {None})


DEFECTS = {
    "no times": (("A", "2266", None, None), "without times"),
    "no end": (("A", "uh", 1.6, None), "without times"),
    "reversed": (("B", "back", 2.75, 2.5), "that ends before it starts"),
    "empty text": (("A", "", 1.6, 1.8), "without text"),
    "null text": (("A", None, 1.6, 1.8), "without text"),
    "no speaker": ((None, "who", 1.6, 1.8), "without a speaker"),
    "another speaker": (("C", "third", 1.6, 1.8), "of another speaker or tier"),
}
UNREADABLE = "that cannot be read"
OTHERWISE = {  # what the form of a format makes of a defect; None: it cannot have it
    ("alignments.json", "another speaker"): "without a speaker",  # its writer knows two
    **{(name, defect): None for name in TIERS for defect in ("no speaker",)},
    **{(name, "null text"): None for name in WRITERS if not name.endswith(".json")},
    **{(name, "empty text"): "" for name in ("long.TextGrid", "short.TextGrid")},  # that is silence
    ("call.ctm", "empty text"): None,
    ("call.rttm", "empty text"): None,
    **{(name, "no speaker"): None for name in ("call.ctm", "call.stm", "call.rttm")},
    **{(name, defect): UNREADABLE for name in ("call.vtt", "call.srt") for defect in ("no times", "no end")},
}


CASES = [
    (name, defect, reason)
    for name in WRITERS
    for defect, (_, usual) in DEFECTS.items()
    if (reason := OTHERWISE.get((name, defect), usual)) is not None
]


@pytest.mark.parametrize(("name", "defect", "reason"), CASES)
@pytest.mark.parametrize("place", range(len(GOOD) + 1))
def test_one_bad_word_costs_one_word(name, defect, reason, place, tmp_path):
    transcript = of_labels(write(tmp_path, name, [*GOOD[:place], DEFECTS[defect][0], *GOOD[place:]]))
    assert found(transcript) == expected(GOOD)
    assert transcript.dropped == ({f"{transcript.unit} {reason}": 1} if reason else {})


@pytest.mark.parametrize("name", [name for name in WRITERS if name.endswith(".json")])
def test_a_number_is_a_word(name, tmp_path):
    transcript = of_labels(write(tmp_path, name, [*GOOD, ("A", 2024, 5.0, 5.5)]))
    assert found(transcript) == expected([*GOOD, ("A", "2024", 5.0, 5.5)])


@pytest.mark.parametrize("name", ["list.json", "segments.json", "whisperx.json", "alignments.json"])
@pytest.mark.parametrize("bad", [None, 7, "x", [], ["x"], {}, {"start": "a", "end": []}])
def test_an_entry_that_is_none_costs_one_word(name, bad, tmp_path):
    path = write(tmp_path, name, GOOD)
    content = json.loads(path.read_text())
    (content if isinstance(content, list) else content.get("segments", content.get("alignments"))).append(bad)
    path.write_text(json.dumps(content))
    transcript = of_labels(path)
    assert found(transcript) == expected(GOOD) and transcript.dropped.total() == 1


def test_words_of_a_segment_without_a_speaker_of_their_own_are_the_segments(tmp_path):
    path = tmp_path / "a.json"
    segment = {"start": 0, "end": 1, "text": "it is", "speaker": "B", "words": [{"word": "it", "start": 0, "end": 1}]}
    path.write_text(json.dumps({"segments": [segment, segment | {"words": None}]}))
    transcript = of_labels(path)
    assert found(transcript) == [(1, "it", 0.0, 1.0)] and transcript.dropped == {"word without text": 1}


TOKEN = st.text(st.characters(categories=["L", "Nd"], max_codepoint=0x2FFF), min_size=1, max_size=6)
TICK = st.integers(0, 36_000_000)


@st.composite
def conversations(draw):
    """Entries of both speakers, times in whole milliseconds."""
    spans = draw(st.lists(st.tuples(st.sampled_from("AB"), TOKEN, TICK, st.integers(0, 9999)), min_size=1, max_size=8))
    known = {"sil", "sp", "spn", "IntervalTier", "TextTier"}
    said = [(who, text, a / 1000, (a + n) / 1000) for who, text, a, n in spans if text not in known]
    return [*said, ("A", "a", 0.0, 0.5), ("B", "b", 1.0, 1.5)]


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=conversations())
@example(said=[("A", "IGNORED", 0.0, 1e-05), ("B", "b", 0.25, 0.5)])
def test_what_is_written_is_read(name, said, tmp_path):
    read = sorted(found(of_labels(write(tmp_path, name, said))), key=lambda e: (e[0], e[1], e[2]))
    written = sorted(expected(said), key=lambda e: (e[0], e[1], e[2]))
    assert [each[:2] for each in read] == [each[:2] for each in written]
    assert [each[2:] for each in read] == [pytest.approx(each[2:], abs=1e-3) for each in written]


@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=200), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_text_of_any_unicode_is_read(text, encoding, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    if text.startswith("\ufeff") or "\0" in text or "\ufffd" in text:
        return
    path.write_bytes(text.encode(encoding))
    assert read_text(path) == text.replace("\r\n", "\n").replace("\r", "\n")


CAFE = [("A", "café", 0.5, 0.75), ("B", "naïve", 1.25, 1.5), *GOOD]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", [name for name in WRITERS if name != "elan.eaf"])
def test_every_encoding_of_every_format(name, encoding, tmp_path):
    path = tmp_path / name
    text = WRITERS[name](CAFE)
    path.write_bytes(
        (json.dumps(json.loads(text), ensure_ascii=False) if name.endswith(".json") else text).encode(encoding)
    )
    assert found(of_labels(path)) == expected(CAFE)


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16", "windows-1252"])
def test_xml_says_its_encoding(encoding, tmp_path):
    path = tmp_path / "a.eaf"
    path.write_bytes(as_eaf(CAFE, encoding).encode(encoding))
    assert found(of_labels(path)) == expected(CAFE)
    path.write_bytes(as_eaf(CAFE, "UTF-8").encode("cp1252"))
    with pytest.raises(BadInputError, match=r"unreadable transcript: a\.eaf: ParseError"):
        of_labels(path)


def test_a_wrong_byte_in_utf8_is_not_another_encoding(tmp_path):
    (tmp_path / "a.json").write_bytes('["caf\u00e9", "na\u00efve", "no\u00ebl", "x?y"]'.encode().replace(b"?", b"\xff"))
    assert read_json(tmp_path / "a.json") == ["café", "naïve", "noël", "x\ufffdy"]
    (tmp_path / "b.json").write_bytes(b'["caf\xe9", "d\xe9j\xe0"]')
    assert read_json(tmp_path / "b.json") == ["café", "déjà"]


# --- what other programs write


def test_elan_and_textgrids_of_pympi(tmp_path):
    eaf, grid = pympi.Eaf(), pympi.TextGrid(xmax=10)
    for label, said in tiers([("A", "say “so”", 0.5, 1.25), ("B", 'a "b" c', 1.5, 2.0), ("A", "you", 3.0, 4.5)]):
        eaf.add_tier(label)
        tier = grid.add_tier(label)
        for _, text, a, b in said:
            eaf.add_annotation(label, round(a * 1000), round(b * 1000), text)
            tier.add_interval(a, b, text)
    eaf.add_linguistic_type("association", "Symbolic_Association")
    eaf.add_tier("gloss", "association", "A")
    eaf.add_ref_annotation("gloss", "A", 600, "SO")
    said = [(0, "say “so”", 0.5, 1.25), (0, "you", 3.0, 4.5), (1, 'a "b" c', 1.5, 2.0)]
    eaf.to_file(str(tmp_path / "a.eaf"))
    transcript = of_labels(tmp_path / "a.eaf")
    assert found(transcript) == said and transcript.unit == "utterance"
    assert transcript.dropped == {"utterance of another speaker or tier": 1}
    assert found(of_labels(tmp_path / "a.eaf", ("gloss", "B"))) == [(0, "SO", 0.5, 1.25), (1, 'a "b" c', 1.5, 2.0)]
    for mode in ("normal", "short"):
        grid.to_file(str(tmp_path / "a.TextGrid"), mode=mode)
        assert found(of_labels(tmp_path / "a.TextGrid")) == said
    grid.to_file(str(tmp_path / "a.TextGrid"), mode="binary")
    with pytest.raises(BadInputError, match="Save as text file"):
        of_labels(tmp_path / "a.TextGrid")


def test_tiers_of_the_montreal_forced_aligner(tmp_path):
    """Words and phones, of one speaker or of several; silence and unknown noise are no words."""
    path = tmp_path / "a.TextGrid"
    path.write_text(
        as_textgrid([("A - words", "hi", 0.5, 0.75), ("A - phones", "HH", 0.5, 0.6), ("B - words", "sil", 1, 2)])
    )
    entries = read_entries(path)
    assert [tuple(entry[:2]) for entry in entries.entries] == [("A", "hi")] and entries.unit == "word"
    path.write_text(as_short_textgrid([("words", "hi", 0.5, 0.75), ("phones", "HH", 0.5, 0.6)]))
    assert found(of_sides([(path, 0.0), (path, 1.0)])) == [(0, "hi", 0.5, 0.75), (1, "hi", 1.5, 1.75)]


def test_a_textgrid_that_is_cut_off_is_counted(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(as_short_textgrid(GOOD).rpartition("3.0\n")[0])
    transcript = of_labels(path)
    assert found(transcript) == expected(GOOD[:3]) and transcript.dropped == {"word that cannot be read": 1}


@pytest.mark.parametrize("form", [as_textgrid, as_short_textgrid])
def test_a_number_may_begin_with_its_point(form, tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(form(GOOD).replace("0.5", ".5").replace("0.75", "+.75"))
    transcript = of_labels(path)
    assert found(transcript) == expected(GOOD) and not transcript.dropped


def test_a_circle_in_elan_ends(tmp_path):
    refs = "".join(
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{a}" ANNOTATION_REF="{b}"><ANNOTATION_VALUE>x</ANNOTATION_VALUE>'
        "</REF_ANNOTATION></ANNOTATION>"
        for a, b in ("pq", "qp", "rz")
    )
    text = as_eaf(GOOD).replace("</ANNOTATION_DOCUMENT>", f'<TIER TIER_ID="A">{refs}</TIER></ANNOTATION_DOCUMENT>')
    (tmp_path / "a.eaf").write_text(text.replace('TIER_ID="A"', 'TIER_ID="A0"', 1))
    assert of_labels(tmp_path / "a.eaf").dropped["word without times"] == 3


def test_subtitles_without_html_and_with_names_before_the_text(tmp_path):
    (tmp_path / "a.srt").write_text(
        "1\n00:00:01,200 --> 00:00:02,500\n<i>A</i>: R&amp;D: we\nsay\n\n2\n01:00:03,000 --> 01:00:04,000\nB: yes\n"
    )
    said = [(0, "R&D: we say", 1.2, 2.5), (1, "yes", 3603.0, 3604.0)]
    assert found(of_labels(tmp_path / "a.srt")) == said
    (tmp_path / "a.vtt").write_text(
        "WEBVTT\n\n00:01.200 --> 00:02.500 align:start\n<v.loud A>Note: so</v>\n\n00:03.000 --> 00:04.000\nB: yes\n"
    )
    assert found(of_labels(tmp_path / "a.vtt")) == [(0, "Note: so", 1.2, 2.5), (1, "yes", 3.0, 4.0)]


@pytest.mark.parametrize("between", ["", "\n\nNOTE 1 --> 2\n\nNOTE\nx --> y\n"])
@pytest.mark.parametrize("damaged", [False, True])
def test_arrows_that_are_no_times_are_no_cues(between, damaged, tmp_path):
    first, name = "[A]: from x --> y\nso: --> why" if not between else "[A]: so", "a.vtt" if between else "a.srt"
    second = "00:00:0x,000 --> 00:00:04,000" if damaged else "00:00:03,000 --> 00:00:04,000"
    text = f"1\n00:00:01,200 --> 00:00:02,500\n{first}\n{between}\n2\n{second}\n[B]: yes\n"
    text = "WEBVTT\n\n" + text.replace(",", ".") if between else text
    (tmp_path / name).write_text(text)
    transcript = of_labels(tmp_path / name)
    assert [w.channel for w in transcript.words] == [0, 1][: 2 - damaged]
    assert transcript.dropped == ({"utterance that cannot be read": 1} if damaged else {})


@pytest.mark.parametrize(
    ("name", "both"),
    [
        ("a.srt", "[A]: hi\nyou\n[B]: yes"),
        ("a.srt", "A: hi\nyou\nB: yes"),
        ("a.vtt", "<v A>hi\nyou</v>\n<v B>yes</v>"),
        ("a.vtt", "<v A>hi you</v> <v.loud B><i>yes</i>"),
    ],
)
def test_two_speakers_in_one_cue_say_what_is_theirs(name, both, tmp_path):
    """A line that begins like a name of nobody is text."""
    one = both.replace("hi", "so").replace("yes", "no").replace("you", "then: we")
    text = f"00:00:01.000 --> 00:00:02.000\n{both}\n\n2\n00:00:03.000 --> 00:00:04.000\n{one}\n\n"
    text += f"3\n00:00:05.000 --> 00:00:06.000\n{as_turn(name, both)}\n"
    (tmp_path / name).write_text("WEBVTT\n\n" + text if name == "a.vtt" else "1\n" + text)
    transcript = of_labels(tmp_path / name)
    said = [(0, "hi you", 1.0, 2.0), (0, "so then: we", 3.0, 4.0)]
    assert found(transcript) == [*said, (1, "no", 3.0, 4.0), (1, "ok", 5.0, 6.0), (1, "yes", 1.0, 2.0)]
    assert not transcript.dropped


def as_turn(name, both):
    """A cue of B alone, in the form of another cue."""
    return "<v B>ok" if name == "a.vtt" else "[B]: ok" if both.startswith("[") else "B: ok"


# --- which label is which channel


@pytest.mark.parametrize(
    ("labels", "speakers", "channels"),
    [
        (("A", "B"), ("A", "B"), [0, 1]),
        (("B", "A"), ("A", "B"), [1, 0]),
        (("A", "B"), ("B", "A"), [1, 0]),
        (("0", "1"), ("A", "B"), [0, 1]),
        (("2", "1"), ("A", "B"), [1, 0]),
        (("A", "B"), ("Ann", "Ben"), [0, 1]),
        (("Ben", "Ann"), ("Ann", "Ben"), [1, 0]),
        (("A", "Ann"), ("A", "B"), None),
        (("1", "3"), ("A", "B"), None),
        (("SPEAKER_00", "SPEAKER_01"), ("A", "B"), None),
        (("1", "1"), ("A", "B"), None),  # the first of 1 and 2, or the second of 0 and 1?
    ],
)
@pytest.mark.parametrize("name", ["list.json", "call.ctm", "long.TextGrid", "call.vtt"])
def test_labels_of_channels(name, labels, speakers, channels, tmp_path):
    path = write(tmp_path, name, [(labels[0], "so", 0.5, 0.75), (labels[1], "yes", 1.0, 1.25)])
    if channels is None:
        with pytest.raises(BadInputError, match=rf"unknown speakers: {name}: its speakers \['{min(labels)}.*speakers="):
            of_labels(path, speakers)
    else:
        assert [w.channel for w in sorted(of_labels(path, speakers).words, key=lambda w: w.start_s)] == channels


def test_a_file_without_speakers_is_refused(tmp_path):
    (tmp_path / "a.vtt").write_text(as_vtt([(None, "so", 0.5, 0.75), (None, "yes", 1.0, 1.25)]))
    with pytest.raises(BadInputError, match=r"words without speakers: a\.vtt .* 2 utterances; expected the speaker"):
        of_labels(tmp_path / "a.vtt")
    assert len(of_sides([(tmp_path / "a.vtt", 0.0), (tmp_path / "a.vtt", 0.0)]).words) == 4


def test_an_rttm_of_turns_has_no_words(tmp_path):
    (tmp_path / "a.rttm").write_text("SPEAKER a 1 0.5 1.25 <NA> <NA> A <NA> <NA>\n" * 3)
    with pytest.raises(BadInputError, match=r"no words: a\.rttm says when someone speaks \(3 turns\), not what"):
        of_labels(tmp_path / "a.rttm")


def test_tables_of_several_recordings(tmp_path):
    both = as_ctm(GOOD) + "\n" + as_ctm([("A", "other", 0.0, 0.5)]).replace("call", "other")
    (tmp_path / "call.ctm").write_text(both)
    assert found(of_labels(tmp_path / "call.ctm")) == expected(GOOD)
    (tmp_path / "third.ctm").write_text(both)
    with pytest.raises(BadInputError, match=r"speaks of call, other, \.\.\., and not of third"):
        of_labels(tmp_path / "third.ctm")


@pytest.mark.shared_data
def test_a_real_stm(shared):
    transcript = of_labels(shared / "mono_rttm" / "sample.stm", ("Diane", "Sheila"))
    assert transcript.unit == "utterance" and transcript.words[0] == Word(0, "Hello?", 6.68, 7.16)
    assert {w.channel for w in transcript.words} == {0, 1} and not transcript.dropped
    with pytest.raises(BadInputError, match="no words"):
        of_labels(shared / "mono_rttm" / "sample.rttm")
