"""The corpus `synthetic`: the same bytes every time, and a truth that the audio and the plan bear out."""

import math
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from segkit.corpora.synthetic import Synthetic, SyntheticOptions, Truth, partners, read_truth
from segkit.errors import BadInputError, MissingExtraError, UsageError
from segkit.schemas import Conversation, Intervals
from segkit.settings import fingerprint
from segkit.synthesis.voices import Espeak, phrase, voice_of

CLEAN = {"snr_db": math.inf, "rate_hz": 8000}


def corpus(root: Path, **options: Any) -> Synthetic:
    return Synthetic(root, SyntheticOptions(**options))


def conversations(made: Synthetic) -> list[Conversation]:
    found = [item for item in made.find() if isinstance(item, Conversation)]
    for conversation in found:
        made.prepare(conversation)
    return found


def truth_of(conversation: Conversation) -> Truth:
    assert conversation.transcripts
    return read_truth(conversation.transcripts[0])


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> list[Conversation]:
    """0.2 hours without noise or crosstalk, at 8 kHz."""
    return conversations(corpus(tmp_path_factory.mktemp("clean"), hours=0.2, minutes=4.0, **CLEAN))


# --- files -----------------------------------------------------------------------------------------


def test_same_options_give_the_same_bytes_in_any_order_and_process(tmp_path: Path) -> None:
    options: dict[str, Any] = {"hours": 2 / 60, "minutes": 1.0, "snr_db": 20.0, "crosstalk_db": -30.0}
    forwards, backwards = corpus(tmp_path / "a", **options), corpus(tmp_path / "b", **options)
    for made, order in ((forwards, 1), (backwards, -1)):
        for conversation in list(made.find())[::order]:
            assert isinstance(conversation, Conversation)
            made.prepare(conversation)
    code = (
        "from pathlib import Path; from segkit.corpora.synthetic import *;"
        f"c = Synthetic(Path({str(tmp_path / 'c')!r}), SyntheticOptions(**{options}));"
        "c.prepare(list(c.find())[1])"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    files = {root: {p.name: p.read_bytes() for p in (tmp_path / root).rglob("*.*")} for root in "abc"}
    assert sorted(files["a"]) == ["00000.json", "00000.wav", "00001.json", "00001.wav"]
    assert files["a"] == files["b"]
    assert files["c"] == {name: files["a"][name] for name in ("00001.json", "00001.wav")}
    assert files["a"]["00000.wav"] != files["a"]["00001.wav"]


def test_options_never_mix_and_more_hours_keep_what_is_there(tmp_path: Path) -> None:
    one = conversations(corpus(tmp_path, hours=1 / 60, minutes=1.0, **CLEAN))[0]
    seeded = conversations(corpus(tmp_path, hours=1 / 60, minutes=1.0, seed=1, **CLEAN))[0]
    longer = [c for c in corpus(tmp_path, hours=0.1, minutes=1.0, **CLEAN).find() if isinstance(c, Conversation)]
    assert one.tracks[0].path.read_bytes() != seeded.tracks[0].path.read_bytes()
    assert one.tracks[0].path.parent != seeded.tracks[0].path.parent
    assert len(longer) == 6
    assert longer[0] == one


def test_prepare_leaves_finished_files_alone_and_completes_half_finished_ones(tmp_path: Path) -> None:
    made = corpus(tmp_path, hours=0.5 / 60, minutes=0.5, **CLEAN)
    conversation = conversations(made)[0]
    wav, truth = conversation.tracks[0].path, conversation.transcripts[0]
    assert truth is not None
    before = wav.read_bytes(), truth.read_bytes()
    stamp = wav.stat().st_mtime_ns
    made.prepare(conversation)
    assert wav.stat().st_mtime_ns == stamp
    truth.unlink()
    made.prepare(conversation)
    assert (wav.read_bytes(), truth.read_bytes()) == before
    assert {p.suffix for p in wav.parent.iterdir()} == {".wav", ".json"}


def test_find_renders_nothing_and_names_speakers(tmp_path: Path) -> None:
    found = [c for c in corpus(tmp_path, hours=0.5).find() if isinstance(c, Conversation)]
    assert not any(tmp_path.iterdir())
    assert [c.id for c in found] == [f"{i:05d}" for i in range(6)]
    assert {(c.language, c.licence, c.corpus) for c in found} == {("en", "CC0-1.0", "synthetic")}
    assert len({name for c in found for name in c.speakers}) == 12
    assert [t.channel for t in found[0].tracks] == [0, 1]


def test_other_voices_have_other_names(tmp_path: Path) -> None:
    pools = [corpus(tmp_path, hours=2, speakers=8, first_speaker=first) for first in (0, 8)]
    names = [{name for c in pool.find() for name in c.speakers} for pool in pools]
    assert names == [{f"speaker{i:04d}" for i in range(first, first + 8)} for first in (0, 8)]


def test_what_was_rendered_before_there_was_a_first_speaker_keeps_its_place(tmp_path: Path) -> None:
    before = {"hours": 1.0, "seed": 0, "minutes": 5.0, "rate_hz": 24000, "snr_db": 35.0, "crosstalk_db": -math.inf}
    places = [{c.tracks[0].path.parent.name for c in corpus(tmp_path, first_speaker=first).find()} for first in (0, 2)]
    assert places[0] == {fingerprint(1, before | {"speakers": 200})} != places[1]


@pytest.mark.parametrize("speakers", [2, 4, 6, 40, 202])
def test_speakers_talk_within_groups_of_four(speakers: int) -> None:
    pairs = [partners(i, speakers) for i in range(3000)]
    assert {a // 4 for a, _ in pairs} == {b // 4 for _, b in pairs} == set(range((speakers + 3) // 4))
    assert all(a // 4 == b // 4 and a % 2 != b % 2 for a, b in pairs)
    assert {s for pair in pairs for s in pair} == set(range(speakers))
    assert {(b, a) for a, b in pairs} == set(pairs)  # both channel orders


# --- truth -----------------------------------------------------------------------------------------


def check_truth(conversation: Conversation, rate_hz: int) -> None:
    audio, rate = soundfile.read(conversation.tracks[0].path, dtype="float64")
    assert rate == rate_hz
    assert soundfile.info(conversation.tracks[0].path).subtype == "PCM_16"
    truth = truth_of(conversation)
    for channel, activity in enumerate(truth.activity):
        assert len(activity) > 3
        samples = activity * rate
        np.testing.assert_allclose(samples, np.round(samples), atol=1e-6)
        spans = np.round(samples).astype(int)
        assert spans.min() >= 0 and spans.max() <= len(audio)
        silences_s = (spans[1:, 0] - spans[:-1, 1]) / rate
        assert silences_s.min() >= 0.2
        assert np.abs(silences_s - 1.0).min() > 0.0005  # an utterance ends, or it does not
        speech = np.zeros(len(audio), dtype=bool)
        for start, end in spans:
            speech[start:end] = True
            level_db = 10 * np.log10(np.mean(audio[start:end, channel] ** 2))
            assert -36 < level_db < -20
            edge = rate // 50
            assert np.abs(audio[start : start + edge, channel]).max() > 1e-3
            assert np.abs(audio[end - edge : end, channel]).max() > 1e-3
        assert not audio[~speech, channel].any()
        words = [word for word in truth.words if word.channel == channel]
        for word in words:
            inside = (activity[:, 0] <= word.start_s) & (word.end_s <= activity[:, 1])
            assert inside.sum() == 1 and word.start_s < word.end_s
        assert all(a.end_s <= b.start_s for a, b in pairwise(words))
    assert 0.1 < np.abs(audio).max() < 0.95


@pytest.mark.parametrize("rate_hz", [8000, 22050, 48000])
def test_truth_is_what_the_audio_holds(tmp_path: Path, rate_hz: int) -> None:
    made = corpus(tmp_path, hours=2 / 60, minutes=2.0, snr_db=math.inf, rate_hz=rate_hz, seed=5)
    for conversation in conversations(made):
        check_truth(conversation, rate_hz)
        words = made.transcript(conversation).words
        assert words == truth_of(conversation).words
        assert words


def test_long_truth_is_what_the_audio_holds(clean: list[Conversation]) -> None:
    for conversation in clean:
        check_truth(conversation, 8000)


def test_no_phrase_holds_a_silence_that_a_vad_would_call_a_pause(clean: list[Conversation]) -> None:
    frame = 80  # 10 ms
    for conversation in clean:
        audio, rate = soundfile.read(conversation.tracks[0].path)
        for channel, activity in enumerate(truth_of(conversation).activity):
            for start, end in np.round(activity * rate).astype(int):
                power = np.mean(audio[start : end - (end - start) % frame, channel].reshape(-1, frame) ** 2, axis=1)
                loud = np.flatnonzero(power > power.mean() * 10**-3.0)
                assert np.diff(loud).max(initial=1) <= 10  # less than 0.1 s between loud frames


def utterances(activity: Intervals) -> list[tuple[float, float, list[tuple[float, float]]]]:
    """Start, end and pauses, by the 1.0 s rule, one interval after the other."""
    rows: list[tuple[float, float, list[tuple[float, float]]]] = []
    for start, end in activity.tolist():
        if rows and start - rows[-1][1] <= 1.0:
            first, last, pauses = rows.pop()
            rows.append((first, end, [*pauses, (last, start)]))
        else:
            rows.append((start, end, []))
    return rows


def brute_force(truth: Truth) -> set[tuple[Any, ...]]:
    """Axis, user and window of every segment, straight from the table of the method."""
    both = [utterances(activity) for activity in truth.activity]
    order = sorted((u[0], u[1], channel, u[2]) for channel in (0, 1) for u in both[channel])
    found: set[tuple[Any, ...]] = set()
    for start, end, user, pauses in order:
        touching = [u for u in both[1 - user] if u[0] < end and u[1] > start]
        if end - start >= 4.0 and not touching and any(b - a >= 0.2 for a, b in pauses):
            found.add(("pause", user, start, end))
        acknowledging = all(u[1] - u[0] <= 1.0 and u[0] >= start and u[1] <= end for u in touching)
        if end - start >= 5.0 and touching and acknowledging:
            found.add(("backchannel", user, start, end))
    for i in range(len(order) - 1):
        x, y = order[i : i + 2]
        if x[2] != y[2] and min(x[1] - x[0], y[1] - y[0]) >= 5.0 and -0.2 <= y[0] - x[1] <= 0.4:
            found.add(("turn_taking", x[2], x[0], y[1]))
    for i in range(len(order) - 3):
        four = order[i : i + 4]
        alternate = [u[2] for u in four] in ([0, 1, 0, 1], [1, 0, 1, 0])
        if alternate and all(u[1] - u[0] >= 3.0 for u in four) and four[2][0] < four[1][1]:
            found.add(("interruption", four[0][2], four[0][0], four[3][1]))
    return found


def test_events_are_those_that_the_activity_holds(clean: list[Conversation]) -> None:
    counts: Counter[str] = Counter()
    for conversation in clean:
        truth = truth_of(conversation)
        stated = [(e["axis"], e["user"], e["start_s"], e["end_s"]) for e in truth.events]
        assert len(set(stated)) == len(stated)
        assert set(stated) == brute_force(truth)
        counts.update(axis for axis, *_ in stated)
    assert min(counts[axis] for axis in ("pause", "turn_taking", "backchannel", "interruption")) >= 1, counts


def test_event_fields(clean: list[Conversation]) -> None:
    for truth in map(truth_of, clean):
        for event in truth.events:
            user, agent = truth.activity[event["user"]], truth.activity[1 - event["user"]]
            match event["axis"]:
                case "pause":
                    for start, end in event["pauses"]:
                        assert start in user[:, 1] and end in user[:, 0]
                case "backchannel":
                    assert np.isin(event["backchannels"], agent).all()
                case "turn_taking":
                    assert event["turn_end_s"] in user[:, 1]
                    starts = agent[:, 0] - event["turn_end_s"] - event["gap_s"]
                    assert np.abs(starts).min() < 1e-9
                case "interruption":
                    assert event["interruption_start_s"] in user[:, 0]
                    assert event["interruption_end_s"] in user[:, 1]


# --- sound -----------------------------------------------------------------------------------------


def test_noise_and_crosstalk_have_the_level_that_was_asked_for(tmp_path: Path) -> None:
    plain, noisy, leaky = (
        conversations(corpus(tmp_path, hours=2 / 60, minutes=2.0, rate_hz=16000, **options))[0].tracks[0].path
        for options in ({"snr_db": math.inf}, {"snr_db": 25.0}, {"snr_db": math.inf, "crosstalk_db": -30.0})
    )
    clean_audio, noisy_audio, leaky_audio = (soundfile.read(path)[0] for path in (plain, noisy, leaky))
    for channel in (0, 1):
        speech = clean_audio[:, channel]
        alone = (speech != 0) & (clean_audio[:, 1 - channel] == 0)
        noise = noisy_audio[:, channel] - speech
        assert 10 * np.log10(np.mean(speech[alone] ** 2) / np.mean(noise**2)) == pytest.approx(25.0, abs=1.0)
        leak = leaky_audio[alone, 1 - channel]
        assert 10 * np.log10(np.mean(leak**2) / np.mean(speech[alone] ** 2)) == pytest.approx(-30.0, abs=0.5)


def test_voices_differ_and_words_lie_in_their_phrase() -> None:
    text = "well we walked all over the old town and out of the harbour"
    with Espeak() as engine:
        clips = [phrase(engine, voice_of(i), text, 16000) for i in (0, 1)]
    for clip in clips:
        assert [word for word, *_ in clip.words] == text.split()
        assert clip.words[0][1] == 0 and clip.words[-1][2] == len(clip)
    assert len({voice_of(i) for i in range(200)}) == 200
    assert voice_of(7) == voice_of(7)


# --- mistakes --------------------------------------------------------------------------------------


def test_missing_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = corpus(tmp_path, hours=0.5 / 60, minutes=0.5, **CLEAN)
    rendered = conversations(made)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    assert list(made.find()) == rendered  # what is there needs no espeak-ng
    with pytest.raises(MissingExtraError, match=r'The corpus synthetic needs .*"segkit\[synthetic\]"'):
        list(corpus(tmp_path, seed=1).find())
    with pytest.raises(MissingExtraError), Espeak():
        pass


@pytest.mark.parametrize(
    ("name", "value"),
    [("hours", "0"), ("hours", "inf"), ("rate_hz", "7999"), ("rate_hz", "48001"), ("minutes", "0.1"),
     ("seed", "-1"), ("snr_db", "-3"), ("crosstalk_db", "0"), ("speakers", "3"), ("speakers", "0"),
     ("rate_hz", "16k"), ("first_speaker", "1"), ("first_speaker", "-2")],
)  # fmt: skip
def test_options_that_make_no_sense(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}.*Expected"):
        SyntheticOptions().changed({name: value})


@pytest.mark.parametrize("name", ["speakers", "first_speaker"])
def test_what_has_to_be_even_is_said(name: str) -> None:
    with pytest.raises(UsageError, match=rf"'{name}' got 3\. Expected a whole number, . or more, a multiple of 2\."):
        SyntheticOptions().changed({name: 3})


def test_options_parse() -> None:
    options = SyntheticOptions().changed({"hours": "2", "snr_db": "inf", "crosstalk_db": "-30"})
    assert options == SyntheticOptions(hours=2.0, snr_db=math.inf, crosstalk_db=-30.0)


def test_unreadable_truth(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    for name in ("bad.json", "missing.json"):
        with pytest.raises(BadInputError, match="unreadable truth"):
            read_truth(tmp_path / name)
