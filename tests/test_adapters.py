"""Every adapter over a corpus in its real on-disk format: intact, and damaged in 500 ways.

An adapter without a fixture fails here: that is the contract.
"""

import contextlib
import json
import math
import shutil
from functools import cache

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
