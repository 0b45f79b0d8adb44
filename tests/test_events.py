"""Every event column of every axis, against who spoke when.

What a row must hold is worked out here anew, in plain loops over whole microseconds: `segkit.segmenters` and
`segkit.extraction` have no part in it.
"""

import json
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import make_job, rows, write_wav

from segkit.corpora.synthetic import read_truth
from segkit.extraction.job import Job
from segkit.extraction.run import run
from segkit.schemas import Axis
from segkit.settings import ExtractionSettings

EVENTS = ("pauses", "turn_end_s", "gap_s", "backchannels", "interruption_start_s", "interruption_end_s")
TIMES = ("context_s", "duration_s", "user_activity", "agent_activity", *EVENTS)
LOOSE = {
    "vad.backend": "transcript",
    "timeline.min_pause_s": 0.4,
    "backchannel.max_backchannel_s": 6,
    "backchannel.inside": False,
}
"""Speech is where the words are; many silences are too short for a pause, and backchannels have pauses inside."""


# --- what the rows must be -------------------------------------------------------------------------


def us(value):
    """Seconds as whole microseconds, in lists of any depth."""
    if isinstance(value, list):
        return [us(item) for item in value]
    return None if value is None else round(value * 1_000_000)


def minus(value, by):
    """Every time of a list of any depth, counted from `by`."""
    return [minus(item, by) for item in value] if isinstance(value, list) else value - by


def turns_of(ipus):
    """The utterances of a speaker, each a list of IPUs: a silence of more than a second ends one."""
    turns = []
    for ipu in ipus:
        if turns and ipu[0] - turns[-1][-1][1] <= us(1.0):
            turns[-1].append(ipu)
        else:
            turns.append([ipu])
    return turns


def segments_of(activity, settings):
    """Axis, user, start, end and events of every segment, on the clock of the recording."""
    turns = sorted((ipus[0][0], ipus[-1][1], track, ipus) for track in (0, 1) for ipus in turns_of(activity[track]))

    def long(criteria, *several):
        return all(end - start >= us(criteria.tau_min_s) for start, end, *_ in several)

    for turn in turns:
        start, end, user, ipus = turn
        said = [[a, b] for a, b, track, _ in turns if track != user and a < end and b > start]
        silences = [[before[1], after[0]] for before, after in pairwise(ipus)]
        pauses = [[a, b] for a, b in silences if b - a >= us(settings.timeline.min_pause_s)]
        if pauses and not said and long(settings.pause, turn):
            yield "pause", user, start, end, {"pauses": pauses}
        short = all(b - a <= us(settings.backchannel.max_backchannel_s) for a, b in said)
        inside = all(start <= a and b <= end for a, b in said) or not settings.backchannel.inside
        if said and short and inside and long(settings.backchannel, turn):
            yield "backchannel", user, start, end, {"backchannels": said}
    for first, second in pairwise(turns):
        gap = second[0] - first[1]
        smooth = us(settings.turn_taking.min_gap_s) <= gap <= us(settings.turn_taking.max_gap_s)
        if first[2] != second[2] and smooth and long(settings.turn_taking, first, second):
            yield "turn_taking", first[2], first[0], second[1], {"turn_end_s": first[1], "gap_s": gap}
    for four in zip(turns, turns[1:], turns[2:], turns[3:], strict=False):
        _, (_, agent_end, *_), (comes_in, goes, *_), _ = four
        alternate = all(before[2] != after[2] for before, after in pairwise(four))
        if alternate and comes_in < agent_end and long(settings.interruption, *four):
            times = {"interruption_start_s": comes_in, "interruption_end_s": goes}
            yield "interruption", four[0][2], four[0][0], four[3][1], times


def expected(activity, words, job):
    """What the rows of a recording must hold, by axis, user, start and end; in microseconds, words included."""
    found = {}
    for axis, user, start, end, events in segments_of(activity, job.settings):
        begin = max(start - us(job.settings.context_s), 0)
        user_activity, agent_activity = (
            [[max(a, begin) - start, min(b, end) - start] for a, b in activity[track] if a < end and b > begin]
            for track in (user, 1 - user)
        )
        spoken = [(us(word.start_s), us(word.end_s), word.channel, word.text) for word in words]
        found[axis, user, start, end] = dict.fromkeys(EVENTS) | {
            "context_s": start - begin,
            "duration_s": end - start,
            "user_activity": user_activity,
            "agent_activity": agent_activity,
            **{name: time if name == "gap_s" else minus(time, start) for name, time in events.items()},
            "words": sorted(
                (a - start, b - start, "user" if track == user else "agent", text)
                for a, b, track, text in spoken
                if a < end and b > begin
            ),
        }
    return found


def found_in(job):
    """What the rows of a dataset hold, by recording, in the form of `expected`."""
    found = defaultdict(dict)
    for row in rows(job).to_pylist():
        assert row["agent_channel"] == 1 - row["user_channel"]
        key = row["axis"], row["user_channel"], us(row["start_s"]), us(row["end_s"])
        words = sorted((us(w["start_s"]), us(w["end_s"]), w["speaker"], w["text"]) for w in row["words"])
        assert key not in found[row["recording_id"]]
        found[row["recording_id"]][key] = {name: us(row[name]) for name in TIMES} | {"words": words}
    return found


def truths(made):
    """The activity in microseconds and the words of every conversation, by recording."""
    found = {path.stem: read_truth(path) for path in made[0].rglob("*.json")}
    return {name: ([us(track.tolist()) for track in truth.activity], truth.words) for name, truth in found.items()}


# --- that they are ---------------------------------------------------------------------------------


def check(found, wanted):
    """The same rows, and the same in every column; one by one, for the sake of what pytest says."""
    assert sorted(found) == sorted(wanted)
    for key, row in wanted.items():
        for column, value in row.items():
            assert found[key][column] == value, (key, column)


def test_rows_hold_the_events_of_the_truth_to_the_microsecond(made, tmp_path):
    job = make_job(made, tmp_path / "out", context_s=4.0, annotations_only=True, **LOOSE)
    run(job)
    seen, found = Counter(), found_in(job)
    for name, truth in truths(made).items():
        wanted = expected(*truth, job)
        check(found[name], wanted)
        for (axis, user, *_), row in wanted.items():
            silences = [[a[1], b[0]] for a, b in pairwise(row["user_activity"]) if a[1] > 0]
            seen[axis, user] += 1
            seen["context is cut"] += row["context_s"] == us(4.0)
            seen["several pauses"] += len(row["pauses"] or []) > 1
            seen["a silence is no pause"] += axis == "pause" and len(silences) > len(row["pauses"])
            seen["gap"] += (row["gap_s"] or 0) > us(0.1)
            seen["overlap"] += (row["gap_s"] or 0) < -us(0.1)
            seen["a backchannel of two IPUs"] += any(
                sum(start <= a and b <= end for a, b in row["agent_activity"]) > 1
                for start, end in row["backchannels"] or []
            )
    assert len(seen) == 14 and min(seen.values()) >= 3, seen


def test_rows_hold_the_events_of_what_silero_heard_to_the_microsecond(made, dataset):
    heard = {
        row["recording_id"]: us(row["activity"])
        for path in dataset.folder.annotations.iterdir()
        for row in pq.read_table(path, columns=["recording_id", "activity"]).to_pylist()
    }
    found = found_in(dataset)
    for name, (_, words) in truths(made).items():
        check(found[name], expected(heard[name], words, dataset))


def test_rows_of_silero_are_near_those_of_the_truth(made, dataset):
    """Silero is off by 0.17 s at most; a wrong utterance or silence would be off by more than that."""
    off = us(0.2)

    def near(these, those):
        return np.shape(these) == np.shape(those) and np.abs(np.subtract(these, those)).max() < off

    def any_near(time, times):
        return any(near(time, each) for each in times)

    seen, found = Counter(), found_in(dataset)
    for name, truth in truths(made).items():
        wanted = expected(*truth, dataset)
        for key, row in found[name].items():
            seen["rows"] += 1
            true = next((wanted[at] for at in wanted if at[:2] == key[:2] and near(at[2:], key[2:])), None)
            if true is None:
                continue  # a threshold lies between what was said and what was heard
            seen[key[:2]] += 1
            for event in set(EVENTS) - {"pauses"}:
                assert row[event] == true[event] or near(row[event], true[event]), (event, key)
            heard, told = row["pauses"] or [], true["pauses"] or []
            seen["pauses"] += len(heard)
            seen["right pauses"] += sum(any_near(pause, told) for pause in heard)
            assert all(any_near([a, b], heard) for a, b in told if b - a > us(0.2) + off), key
            at = np.arange(-row["context_s"], row["duration_s"], us(0.01))
            for role in ("user_activity", "agent_activity"):
                speaks, should = (np.any([(a < at) & (at < b) for a, b in r[role]], axis=0) for r in (row, true))
                assert (speaks == should).mean() > 0.9, (role, key)
    keys = [(axis, user) for axis in Axis for user in (0, 1)]
    assert min(seen[key] for key in keys) >= 3, seen
    assert sum(seen[key] for key in keys) > 0.9 * seen["rows"]
    assert seen["right pauses"] > 0.9 * seen["pauses"]


@pytest.mark.parametrize("user", [0, 1])
def test_rows_of_a_conversation_worked_out_by_hand(tmp_path, user):
    """With the thresholds of the paper; silences of 0.15 s end an IPU and are no pause."""
    agent = 1 - user
    said = {
        user: [
            (8.0, 8.5),
            (10.0, 12.0), (12.5, 13.5), (13.65, 15.0), (15.8, 17.0),  # has pauses
            (20.0, 23.0), (23.15, 26.0),  # ends a turn
            (31.9, 33.0), (33.15, 37.0),  # interrupts
            (45.0, 48.0), (48.5, 52.0),  # hears backchannels
        ],
        agent: [
            (4.0, 7.0),
            (26.3, 28.0), (28.15, 32.0),
            (37.5, 41.5),
            (46.0, 46.3), (46.5, 46.9), (49.0, 49.4),  # two backchannels, the first of two IPUs
        ],
    }  # fmt: skip
    by_hand = {
        ("pause", user, 10.0, 17.0): {
            "user_activity": [[-2.0, -1.5], [0.0, 2.0], [2.5, 3.5], [3.65, 5.0], [5.8, 7.0]],
            "agent_activity": [[-4.0, -3.0]],
            "pauses": [[2.0, 2.5], [5.0, 5.8]],
        },
        ("turn_taking", user, 20.0, 32.0): {
            "user_activity": [[-4.0, -3.0], [0.0, 3.0], [3.15, 6.0], [11.9, 12.0]],
            "agent_activity": [[6.3, 8.0], [8.15, 12.0]],
            "turn_end_s": 6.0,
            "gap_s": 0.3,
        },
        ("turn_taking", agent, 26.3, 37.0): {  # the other way round: who is `agent` above is the user here
            "user_activity": [[0.0, 1.7], [1.85, 5.7]],
            "agent_activity": [[-4.0, -3.3], [-3.15, -0.3], [5.6, 6.7], [6.85, 10.7]],
            "turn_end_s": 5.7,
            "gap_s": -0.1,
        },
        ("interruption", user, 20.0, 41.5): {
            "user_activity": [[-4.0, -3.0], [0.0, 3.0], [3.15, 6.0], [11.9, 13.0], [13.15, 17.0]],
            "agent_activity": [[6.3, 8.0], [8.15, 12.0], [17.5, 21.5]],
            "interruption_start_s": 11.9,
            "interruption_end_s": 17.0,
        },
        ("backchannel", user, 45.0, 52.0): {
            "user_activity": [[0.0, 3.0], [3.5, 7.0]],
            "agent_activity": [[-4.0, -3.5], [1.0, 1.3], [1.5, 1.9], [4.0, 4.4]],
            "backchannels": [[1.0, 1.9], [4.0, 4.4]],
        },
    }
    words = [{"speaker": "AB"[track], "word": "so", "start": a, "end": b} for track in said for a, b in said[track]]
    write_wav(tmp_path / "in" / "call.wav", np.zeros((8000 * 53, 2)), 8000)
    (tmp_path / "in" / "call.json").write_text(json.dumps(words))
    settings = ExtractionSettings().changed({"vad.backend": "transcript", "context_s": 4})
    job = Job("stereo", tmp_path / "in", tmp_path / "out", settings=settings)
    run(job)
    wanted = {
        (axis, x, us(start), us(end)): dict.fromkeys(EVENTS)
        | {column: us(value) for column, value in ({"context_s": 4.0, "duration_s": end - start} | row).items()}
        for (axis, x, start, end), row in by_hand.items()
    }
    check(found_in(job)["call"], wanted)
