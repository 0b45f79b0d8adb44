"""Every adapter over a corpus in its real on-disk format: intact, and damaged in 500 ways.

An adapter without a fixture fails here: that is the contract.
"""

import contextlib
import json
import math
import shutil
from collections import Counter
from copy import deepcopy
from functools import cache, reduce
from operator import getitem

import fixtures
import numpy as np
import pytest

from segkit import corpora
from segkit.audio import Recording
from segkit.errors import BadInputError, NothingUsableError
from segkit.extraction import words
from segkit.extraction.job import Job
from segkit.extraction.run import run
from segkit.schemas import Conversation, Problem
from segkit.settings import ExtractionSettings

MADE_HERE = {"synthetic"}  # no files of others to read
NAMES = [name for name in corpora.names() if name not in MADE_HERE]
DAMAGED = 500
IS_DIGIT = np.array([chr(byte).isdigit() for byte in range(256)])


@cache
def kind(name):
    """The class of an adapter, and the options of its fixture."""
    corpus = corpora.get(name)
    return corpus, corpus.Options().changed(fixtures.of(name).options)


def adapter(name, root):
    corpus, options = kind(name)
    return corpus(root, options)


class Folder:
    """A corpus that holds other files each time: it moves to another folder, and only what changed is written."""

    def __init__(self, root):
        self.root, self.files = root, {}
        root.mkdir()

    def holding(self, files, root):
        """The corpus with these files and nothing else, at a folder that is not there yet."""
        self.root = self.root.rename(root)
        for name in self.files.keys() - files.keys():
            path = root / name
            path.unlink()
            while (path := path.parent) != root and not any(path.iterdir()):
                path.rmdir()
        for path in set(root.iterdir()) - {root / name.split("/")[0] for name in files}:
            shutil.rmtree(path)  # an adapter made it
        fixtures.Fixture({k: v for k, v in files.items() if self.files.get(k) != v}, {}).write(root)
        self.files = files
        return root


def entries(transcript):
    words = sorted(transcript.words, key=lambda w: (w.start_s, w.end_s, w.channel))
    return [(w.channel, w.text, pytest.approx(w.start_s, abs=1e-6), pytest.approx(w.end_s, abs=1e-6)) for w in words]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_there_is_found(name, tmp_path):
    fixture = fixtures.of(name)
    corpus = adapter(name, fixture.write(tmp_path))
    found = list(corpus.find())
    conversations = [item for item in found if isinstance(item, Conversation)]
    problems = [(item.source, item.reason) for item in found if isinstance(item, Problem)]
    assert [c.id for c in conversations] == list(fixture.found)
    assert sorted(problems) == sorted(fixture.problems)
    for conversation in conversations:
        assert conversation.corpus == name and conversation.licence
        assert all(path.is_relative_to(tmp_path) for path in [*conversation.audio, *conversation.transcripts])
        transcript = corpus.transcript(conversation)
        expected = fixture.found[conversation.id]
        assert (None if transcript is None else entries(transcript)) == expected
        if all(track.path for track in conversation.tracks):
            corpus.prepare(conversation)
            assert Recording(conversation.tracks).duration_s > 0
    by_id = {c.id: c.speakers for c in conversations}
    assert fixture.speakers.items() <= by_id.items()


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_reported_and_never_raised(name, tmp_path):
    """Truncated, shuffled, recoded, doubled, with impossible times, or without a partner."""
    fixture, folder = fixtures.of(name), Folder(tmp_path / "intact")
    for seed in range(DAMAGED):
        rng = np.random.default_rng(seed)
        files = dict(fixture.files)
        harmed, gone = set(), False
        for _ in range(rng.integers(1, 4)):
            path = sorted(files)[rng.integers(len(files))]
            damage = DAMAGES[rng.integers(len(DAMAGES))]
            harmed.add(path)
            gone |= damage in (remove, rename)
            damage(files, path, rng)
            if not files:
                break
        corpus = adapter(name, folder.holding(files, tmp_path / str(seed)))
        found = list(corpus.find())
        ids = [item.id for item in found if isinstance(item, Conversation)]
        assert len(ids) == len(set(ids)), seed
        if not gone and not harmed & set(fixture.tables):
            told = " ".join(f"{p.source} {p.detail}" for p in found if isinstance(p, Problem))
            assert all(each in ids or each in told for each in fixture.found), seed
        for conversation in (item for item in found if isinstance(item, Conversation)):
            read(corpus, conversation, seed)


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_is_used_or_counted(name, tmp_path):
    """Damage that leaves the number of entries as it is costs none of them silently."""
    fixture, folder = fixtures.of(name), Folder(tmp_path / "intact")
    intact = {key: len(entries) for key, entries in fixture.found.items() if entries}
    for seed in range(DAMAGED // 5):
        rng = np.random.default_rng(seed)
        files = dict(fixture.files)
        path = sorted(files)[rng.integers(len(files))]
        [change_a_number, with_crlf, with_bom][rng.integers(3)](files, path, rng)
        root = folder.holding(files, tmp_path / str(seed))
        corpus = adapter(name, root)
        for conversation in (item for item in corpus.find() if isinstance(item, Conversation)):
            if conversation.id in intact and root / path in conversation.transcripts:
                try:
                    transcript = corpus.transcript(conversation)
                except BadInputError:
                    continue
                used = 0 if transcript is None else len(transcript.words) + transcript.dropped.total()
                assert used >= intact[conversation.id] or path in fixture.tables, (seed, path)


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_corpus_never_stops_a_run(name, tmp_path):
    fixture = fixtures.of(name)
    for seed in range(6):
        rng = np.random.default_rng(1000 + seed)
        files = dict(fixture.files)
        for path in rng.permutation(sorted(files))[:2]:
            [change_a_number, flip_bytes, latin1, truncate][rng.integers(4)](files, str(path), rng)
        root = tmp_path / str(seed)
        root.mkdir()
        corpus = adapter(name, fixtures.Fixture(files, {}).write(root))
        settings = ExtractionSettings().changed({"vad.backend": "transcript", "annotations_only": True})
        job = Job(name, root, tmp_path / f"out{seed}", corpus.options, settings)
        with contextlib.suppress(NothingUsableError):
            run(job)
        report = json.loads(job.folder.record_file.read_text())
        assert report["recordings"]["used"] + sum(report["problems"]["counts"].values()) > 0
        assert not report["problems"]["counts"].get("unexpected error"), report["problems"]["list"]


def read(corpus, conversation, seed):
    """Words inside the recording, or an error with a reason."""
    row = {"duration_s": 1.0 if conversation.audio else None}
    try:
        transcript = corpus.transcript(conversation)
        words.fill(row, transcript)
    except BadInputError as error:
        assert error.reason and error.detail
        return
    for word in row.get("words") or []:
        assert word["channel"] in (0, 1) and word["text"], seed
        assert 0 <= word["start_s"] <= word["end_s"] <= row["duration_s"] < math.inf, seed


GONE = "gone"
SEGMENTS = {
    "oto_speech": ("seglst.json", (), "word_alignment"),
    "seamless": ("V00_S0099_I00000901_P0902A.json", ("metadata:transcript",), "words"),
    "spokenwoz": ("text_5700_train_dev/data.json", ("MUL0001", "log"), "words"),
}
"""A file of a fixture, where its segments are, and what they call their words."""


def places(segments, words):
    """Every part of segments: the way to it, and how many words it may cost."""
    for i, segment in enumerate(segments):
        yield (i,), 3  # there are no more in a segment
        yield from (((i, key), 3) for key in segment)
        for j, word in enumerate(segment.get(words, ())):
            yield (i, words, j), 1
            yield from (((i, words, j, key), 1) for key in (word if isinstance(word, dict) else range(len(word))))


def changed(content, way, new):
    """A copy in which one part is another, or gone."""
    content = deepcopy(content)
    parent = reduce(getitem, way[:-1], content)
    parent[way[-1]] = new
    if new is GONE:
        del parent[way[-1]]
    return content


def all_words(corpus):
    """How often each word is said and how many entries are counted, by recording; and how many items are found."""
    items = list(corpus.find())
    read = {c.id: corpus.transcript(c) for c in items if isinstance(c, Conversation) and c.transcripts}
    said = {key: Counter(" ".join(w.text for w in each.words).split()) for key, each in read.items() if each}
    return said, {key: each.dropped.total() for key, each in read.items() if each}, len(items)


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize("new", [None, "", [], {}, ["x"], GONE, 7], ids=str)
def test_a_bad_entry_in_the_segments_of_a_corpus_costs_that_entry(name, new, tmp_path):
    """Whatever stands in the place of a segment, of a word, or of a part of one."""
    files, (end, to_segments, words_key) = fixtures.of(name).files, SEGMENTS[name]
    path = next(path for path in files if path.endswith(end))
    content = json.loads(files[path])
    segments = reduce(getitem, to_segments, content)
    segments += deepcopy(segments)  # who is harmed once is still there

    def read(content, number):
        texts = {path: text for path, text in files.items() if path.endswith(".json")}
        texts[path] = json.dumps(content).encode()
        return all_words(corpora.get(name)(fixtures.Fixture(texts, {}).write(tmp_path / str(number))))

    intact, counted, items = read(content, "intact")
    for number, (way, cost) in enumerate(places(segments, words_key)):
        if new == 7 and way[-1] in ("speaker", "session_id"):
            continue  # that is another one
        said, dropped, found_now = read(changed(content, to_segments + way, new), number)
        assert intact.keys() <= said.keys(), way
        assert sum((intact[each] - said[each]).total() for each in intact) <= cost, way
        if any(said[each].total() < intact[each].total() and "7" not in said[each] for each in intact):
            nothing_is_there = (new is GONE and isinstance(way[-1], int)) or (way[-1] == words_key and new == [])
            assert any(dropped[each] > counted[each] for each in intact) or found_now > items or nothing_is_there, way


def truncate(files, path, rng):
    files[path] = files[path][: rng.integers(len(files[path]) + 1)]


def shuffle_lines(files, path, rng):
    lines = files[path].split(b"\n")
    files[path] = b"\n".join(lines[i] for i in rng.permutation(len(lines)))


def double_a_line(files, path, rng):
    lines = files[path].split(b"\n")
    i = rng.integers(len(lines))
    files[path] = b"\n".join(lines[: i + 1] + lines[i:])


def lose_a_line(files, path, rng):
    lines = files[path].split(b"\n")
    del lines[rng.integers(len(lines))]
    files[path] = b"\n".join(lines)


def with_crlf(files, path, rng):
    files[path] = files[path].replace(b"\n", b"\r\n")


def with_bom(files, path, rng):
    files[path] = b"\xef\xbb\xbf" + files[path]


def as_utf16(files, path, rng):
    files[path] = files[path].decode("latin-1").encode("utf-16")


def latin1(files, path, rng):
    files[path] = files[path].replace(b"e", b"\xe9")


def flip_bytes(files, path, rng):
    data = bytearray(files[path])
    for _ in range(min(len(data), 5)):
        data[rng.integers(len(data))] = rng.integers(256)
    files[path] = bytes(data)


def change_a_number(files, path, rng):
    """One number of the text becomes another one, negative, or none at all."""
    digits = np.flatnonzero(IS_DIGIT[np.frombuffer(files[path], np.uint8)])
    if len(digits):
        i = digits[rng.integers(len(digits))]
        new = [b"-1", b"-", b"x", b"", b"9999", b"nan", b"1e400"][rng.integers(7)]
        files[path] = files[path][:i] + new + files[path][i + 1 :]


def remove(files, path, rng):
    del files[path]


def rename(files, path, rng):
    files[path + ".bak"] = files.pop(path)


def copy_elsewhere(files, path, rng):
    files["copy/" + path] = files[path]


DAMAGES = [
    truncate,
    shuffle_lines,
    double_a_line,
    lose_a_line,
    with_crlf,
    with_bom,
    as_utf16,
    latin1,
    flip_bytes,
    change_a_number,
    remove,
    rename,
    copy_elsewhere,
]
