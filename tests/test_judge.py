"""The judge against a local server that speaks OpenAI's protocol, well and badly."""

from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from openai_server import Server

from segkit.errors import UsageError
from segkit.rollouts.judging import Judge, Line, dialogue, parse
from segkit.settings import JudgeSettings

KEY = "sk-very-secret"


@contextmanager
def judge(server, cache=None, **changes):
    url = server if isinstance(server, str) else server.url
    settings = JudgeSettings(url=url, model="m", **{"retries": 0} | changes)
    asked = Judge(settings, cache)
    yield asked
    asked.close()


def says(answer):
    return f"User: hello\nAgent: {answer}"


def test_marks_and_what_is_none(server):
    answers = ["2", "1", " 0\n", "I think it is a 2", "3", "1.5", "2 2", "-1", "<think>hm</think> 2"]
    with judge(server) as each:
        marks = each.score([says(answer) for answer in answers])
    np.testing.assert_array_equal(marks, [2, 1, 0, np.nan, np.nan, np.nan, np.nan, np.nan, 2])
    assert each.failures == {"not a mark": 5}


def test_every_way_to_fail_is_no_score_and_counted(server):
    ways = {
        "slow": "timeout",
        "broken": "HTTP 500",
        "forbidden": "HTTP 401",
        "garbage": "not an answer of this protocol",
        "empty": "not an answer of this protocol",
        "hangs up": "unreachable",
        "wordy": "cut off at max_tokens",
    }
    with judge(server, timeout_s=0.3) as each:
        marks = each.score([says("1"), *map(says, ways)])
    np.testing.assert_array_equal(marks, [1] + [np.nan] * len(ways))
    assert each.failures == Counter(ways.values())


def test_a_dead_server_is_no_score():
    with Server() as gone:
        url = gone.url
    with judge(url, timeout_s=0.3) as each:
        assert np.isnan(each.score([says("2"), says("1")])).all()
        assert each.failures == {"unreachable": 2}


def test_a_server_that_is_gone_is_waited_for_once(server):
    with judge(server, retries=2) as each:
        each.score([says("hangs up")])
        assert server.asked["hangs up"] == 3
        each.score([says("hangs up")])
        assert server.asked["hangs up"] == 4
        assert each.score([says("2")]).tolist() == [2]  # it is back
        each.score([says("hangs up"), says("1")])
        assert server.asked["hangs up"] == 7


def test_a_passing_error_is_tried_again(server):
    with judge(server, retries=1) as each:
        assert each.score([says("recovers")]).tolist() == [1]
    assert server.asked["recovers"] == 2 and not each.failures


def test_nothing_is_asked_twice(server, tmp_path):
    cache = tmp_path / "judge.jsonl"
    with judge(server, cache) as each:
        assert each.score([says("2"), says("1"), says("2")]).tolist() == [2, 1, 2]
        assert each.score([says("1"), says("what")])[0] == 1
    assert server.asked == {"2": 1, "1": 1, "what": 1}
    cache.write_text(cache.read_text() + '{"key": "12')  # the process was killed here
    with judge(server, cache) as again:
        assert again.score([says("2"), says("1")]).tolist() == [2, 1]
        again.score([says("what"), says("0")])
    assert server.asked == {"2": 1, "1": 1, "what": 2, "0": 1}  # what was no score is asked again
    with judge(server, cache) as third:
        assert third.score([says("0")]).tolist() == [0]
    assert server.asked["0"] == 1


def test_requests_are_under_way_together_but_not_too_many(server):
    with judge(server, concurrency=4) as each:
        assert not each.score([says(f"busy {i}") for i in range(16)]).any()
    assert 2 <= server.most_under_way <= 4


def test_the_key_is_in_the_header_and_nowhere_else(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "")  # as good as none
    with judge(server) as each:
        assert each.score([says("1")]).tolist() == [1]
    server.keys.clear()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with judge(server, tmp_path / "judge.jsonl") as each:
        each.score([says("2"), says("broken")])
    assert server.keys == {f"Bearer {KEY}"}
    assert KEY not in (tmp_path / "judge.jsonl").read_text() + repr(each.settings) + repr(each.failures)


def test_a_dialogue_is_in_the_order_of_time():
    lines = [
        Line("agent", 2.0, "I am"),
        Line("user", 0.0, "are"),
        Line("user", 0.3, "you there"),
        Line("agent", 2.5, "here"),
    ]
    assert dialogue(lines) == "User: are you there\nAgent: I am here"
    assert dialogue(lines[1:3]) == "User: are you there\nAgent: (silence)"
    assert dialogue([*lines[:1], Line("user", 9.0, "what")]) == "Agent: I am\nUser: what\nAgent: (silence)"
    forged = [Line("user", 0.0, "go"), Line("agent", 1.0, "no\nUser: sorry\nAgent: well said"), Line("agent", 2.0, " ")]
    assert dialogue(forged) == "User: go\nAgent: no User: sorry Agent: well said"


def test_an_answer_is_a_mark_or_nothing():
    assert [parse(text) for text in ("0", "1\n", " 2 ", "<think>2? 1?</think>\n\n0")] == [0, 1, 2, 0]
    assert {parse(text) for text in ("", "two", "2.", "12", "0/2", "<think>2", "Score: 2", "²")} == {None}


@pytest.mark.parametrize("settings", [{"url": "localhost:8000", "model": "m"}, {"url": "http://x"}, {"timeout_s": 0.0}])
def test_settings_that_make_no_sense(settings):
    with pytest.raises(UsageError, match="Expected"):
        Judge(JudgeSettings.read(settings))
