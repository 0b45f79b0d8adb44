"""Segments staged, heard, answered and scored on one clock; checked with a policy that repeats the user."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import rewritten

from segkit.alignment import rewards
from segkit.dataset.dataset import Dataset
from segkit.errors import UsageError
from segkit.models.protocols import Completions, Prologue
from segkit.models.streaming import schedule
from segkit.rollouts.hearing import activities, listen
from segkit.rollouts.rollout import rollout
from segkit.rollouts.scenes import Segments, stage
from segkit.schemas import Axis
from segkit.segmenters import vad
from segkit.segmenters.timeline import clip
from segkit.settings import AlignSettings, RewardSettings, VadSettings
from segkit.tasks import nobody
from segkit.train.loop import draw

FRAME, RATE_HZ = 1920, 24_000
FRAME_S = FRAME / RATE_HZ
OPENING = np.zeros(38 * FRAME, np.float32)


class Echo:
    """A policy whose codec is the identity and which says what it hears, in the same frame."""

    rate_hz, frame_samples, device = RATE_HZ, FRAME, torch.device("cpu")
    prologue = Prologue(OPENING)

    def encode(self, audio):
        return audio.view(len(audio), -1, FRAME).transpose(1, 2)

    def sample(self, users, seeds, rows, hook):
        nothing = [torch.zeros(1, user.shape[1]) for user in users]
        return [Completions(u[None], n.long(), u[None], n) for u, n in zip(users, nothing, strict=True)]

    def decode(self, audio):
        return audio.transpose(1, 2).flatten(1)


@pytest.fixture(scope="module")
def segments(dataset):
    return Segments(Dataset(dataset.out), "train", list(Axis), required=True)


def test_what_is_said_is_scored_where_it_is_heard(segments):
    """Speech that leaves the policy in the frame it was heard in lies where the dataset has it, on every axis."""
    drawn = [(row, 7.0) for row, _ in segments.first(2)]
    scenes = segments.scenes(drawn, Echo())
    groups = rollout(Echo(), scenes, completions=2, chance=(0,), rows=5, hook=nobody)
    detector = vad.load(VadSettings())
    spoken = activities(Echo(), scenes, listen(Echo(), groups), detector)
    off_s = []
    for (row, _), speech in zip(drawn, spoken, strict=True):
        assert np.array_equal(speech[0], speech[1])
        heard = clip(speech[0], 0.1, row["duration_s"])[:, 0]
        expected = clip(np.array(row["user_activity"]), 0.1, row["duration_s"])[:, 0]
        off_s += [heard[np.abs(heard - onset).argmin()] - onset for onset in expected[expected > 0.1]]
    assert len(off_s) > 20 and abs(np.median(off_s)) <= 0.02  # a slip of one frame would be 0.08
    assert np.mean(np.abs(off_s) <= 0.05) > 0.9  # the dataset was heard at 8 kHz, this at 16
    repeats = {
        scene.axis: rewards.score(scene.segment, speech, RewardSettings())
        for scene, speech in zip(scenes, spoken, strict=True)
    }
    assert repeats[Axis.PAUSE].value.tolist() == [-1, -1]
    assert repeats[Axis.INTERRUPTION].diagnostics["overlap_s"][0] > 0.5


def test_gain_does_not_matter(segments):
    scenes = segments.scenes(segments.first(1), Echo())
    groups = rollout(Echo(), scenes, 2, (0,), 8, hook=nobody)
    detector = vad.load(VadSettings())
    values = []
    for gain in (0.5, 1.0, 2.0):
        louder = [gain * audio for audio in listen(Echo(), groups)]
        spoken = activities(Echo(), scenes, louder, detector)
        values.append(
            [rewards.score(s.segment, speech, RewardSettings()).value for s, speech in zip(scenes, spoken, strict=True)]
        )
    np.testing.assert_allclose(values[0], values[1], atol=0.07)
    np.testing.assert_allclose(values[2], values[1], atol=0.07)


@pytest.mark.parametrize("context_s", [0.0, 0.05, 4.1, 29.99, 100.0])
def test_a_scene_is_opening_context_and_segment(context_s):
    before_s, duration_s = 12.345, 6.789
    user = np.arange(1, round(before_s * RATE_HZ) + round(duration_s * RATE_HZ) + 1, dtype=np.float32)
    row = {"context_s": before_s, "duration_s": duration_s}
    scene = stage(row, user, context_s, prologue=OPENING, frame=FRAME, rate_hz=RATE_HZ)
    assert len(scene.audio) == scene.frames * FRAME
    start = scene.start_frame * FRAME
    assert scene.audio[start] == round(before_s * RATE_HZ) + 1  # the first sample of the segment
    assert not scene.audio[: 38 * FRAME].any()
    assert scene.context_s == (scene.start_frame - 38) * FRAME_S
    assert min(context_s, before_s) - FRAME_S < scene.context_s <= min(context_s, before_s)
    heard = scene.audio[38 * FRAME :]
    tail = np.count_nonzero(heard)
    assert np.array_equal(heard[:tail], user[-tail:]) and not heard[tail:].any() and len(heard) - tail < FRAME


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 8))
def test_a_schedule_has_no_overlap_and_little_waste(lengths, rows):
    places, total = schedule(lengths, rows)
    taken = np.zeros((rows, total), int)
    for length, (row, start) in zip(lengths, places, strict=True):
        taken[row, start : start + length] += 1
    assert taken.max() == 1 and taken.sum() == sum(lengths)
    assert total <= max(4 / 3 * max(sum(lengths) / rows, max(lengths)), max(lengths)) + 50 / 3
    assert total <= sum(lengths) / rows + max(lengths)  # Graham's bound of list scheduling
    assert all(not row[np.count_nonzero(row) :].any() for row in taken)  # end to end


def test_draws_are_of_every_axis_and_context_grows(segments):
    settings = AlignSettings().changed({"groups": 200, "steps": 11, "context.probability": 0.25})
    for step, limit_s in ((0, 0.0), (5, 15.0), (10, 30.0)):
        drawn = draw(segments, settings, step)
        assert drawn == draw(segments, settings, step)
        counts = [sum(row["axis"] == axis for row, _ in drawn) for axis in Axis]
        assert sum(counts) == 200 and min(counts) > 30
        contexts = np.array([context_s for _, context_s in drawn])
        assert 0.12 < np.mean(contexts > 0) < 0.38 if limit_s else not contexts.any()
        assert 0.8 * limit_s <= contexts.max() <= limit_s
    assert draw(segments, settings, 1) != draw(segments, settings, 2)


def other_version(path):
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"segkit_schema_version": b"0"}), path)


def test_a_dataset_that_does_not_fit_is_told(dataset, tmp_path):
    cases = {
        "no run.json": (tmp_path, {}),
        "schema version 0": (rewritten(dataset, tmp_path / "old", other_version), {}),
        "no segments of interruption": (
            rewritten(dataset, tmp_path / "less", lambda path: "interruption" in str(path) and path.unlink()),
            {},
        ),
        "longer than max_segment_s": (dataset.out, {"max_segment_s": 0.5}),
    }
    for expected, (folder, limits) in cases.items():
        with pytest.raises(UsageError, match=expected):
            Segments(Dataset(folder), "train", list(Axis), **limits, required=True)
