"""Selection is spread and repeatable; splits keep speakers apart."""

from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.extraction.select import Annotated, assign_splits, select
from segkit.schemas import Axis


def recording(name: str, speakers: tuple[str, str], segments: int = 0, duration_s: float = 60.0) -> Annotated:
    patterns = np.arange(2.0 * segments).reshape(-1, 1, 2)
    half = segments // 2
    found = {(Axis.PAUSE, 0): patterns[:half], (Axis.PAUSE, 1): patterns[half:]}
    return Annotated(name, Path(f"{name}.parquet"), speakers, duration_s, found, {})


@st.composite
def corpora(draw: st.DrawFn) -> list[Annotated]:
    speaker = st.integers(0, 12)
    drawn = draw(st.lists(st.tuples(speaker, speaker, st.integers(0, 9), st.floats(1, 900)), min_size=1, max_size=15))
    return [recording(f"r{i}", (f"s{a}", f"s{b}"), n, d) for i, (a, b, n, d) in enumerate(drawn)]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(corpus=corpora(), per_axis=st.integers(1, 60), order=st.randoms(use_true_random=False))
def test_selection_is_complete_unique_and_blind_to_the_order(corpus, per_axis, order):
    picks = select(corpus, Axis.PAUSE, per_axis, seed=1, settings_hash="x")
    there = sum(len(p) for r in corpus for p in r.patterns.values())
    assert len(picks) == len({pick.id for pick in picks}) == min(per_axis, there)
    order.shuffle(corpus)
    again = select(corpus, Axis.PAUSE, per_axis, seed=1, settings_hash="x")
    assert {pick.id for pick in again} == {pick.id for pick in picks}


def test_no_long_recording_dominates():
    corpus = [recording(f"r{i}", (f"a{i}", f"b{i}"), segments=500 if i == 0 else 5) for i in range(10)]
    per_recording = Counter(pick.recording_id for pick in select(corpus, Axis.PAUSE, 40, 0, "x"))
    assert set(per_recording.values()) == {4}
    per_recording = Counter(pick.recording_id for pick in select(corpus, Axis.PAUSE, 60, 0, "x"))
    assert per_recording["r0"] == 15 and per_recording["r7"] == 5  # the others have no more to give


def test_no_frequent_speaker_dominates():
    busy = [recording(f"busy{i}", ("agent", f"caller{i}"), segments=10) for i in range(8)]
    rare = [recording(f"rare{i}", (f"a{i}", f"b{i}"), segments=10) for i in range(2)]
    counts = Counter(pick.recording_id[:4] for pick in select(busy + rare, Axis.PAUSE, 12, 0, "x"))
    assert counts == {"busy": 4, "rare": 8}


def test_the_seed_decides():
    corpus = [recording(f"r{i}", (f"a{i}", f"b{i}"), segments=20) for i in range(5)]
    draws = [frozenset(pick.id for pick in select(corpus, Axis.PAUSE, 15, seed, "x")) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(corpus=corpora(), seed=st.integers(0, 9))
def test_no_speaker_is_in_two_splits(corpus, seed):
    split_of = assign_splits(corpus, (0.8, 0.1, 0.1), seed)
    assert set(split_of) == {r.recording_id for r in corpus}
    of_speaker: dict[str, set[str]] = {}
    for r in corpus:
        for speaker in r.speakers:
            of_speaker.setdefault(speaker, set()).add(split_of[r.recording_id])
    assert all(len(found) == 1 for found in of_speaker.values())
    assert split_of == assign_splits(corpus[::-1], (0.8, 0.1, 0.1), seed)


def test_shares_are_met_and_no_wanted_split_is_empty():
    corpus = [recording(f"r{i}", (f"a{i}", f"b{i}"), duration_s=60) for i in range(200)]
    assert Counter(assign_splits(corpus, (0.9, 0.05, 0.05), 0).values()) == {"train": 180, "validation": 10, "test": 10}
    few = Counter(assign_splits(corpus[:4], (0.9, 0.05, 0.05), 0).values())
    assert few == {"train": 2, "validation": 1, "test": 1}
    assert set(assign_splits(corpus, (1.0, 0.0, 0.0), 0).values()) == {"train"}
