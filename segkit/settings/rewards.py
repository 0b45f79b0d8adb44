"""How completions are scored: thresholds of the rewards, the reading of the paper's text, and the judge."""

from typing import Literal

from segkit.settings.base import Settings, setting
from segkit.settings.extraction import TimelineSettings


class RewardSettings(Settings):
    """Section 3.4 of the paper. The last six close loopholes of its text, which "literal" leaves open."""

    timeline: TimelineSettings = TimelineSettings()
    max_backchannel_s: float = setting(
        1.0, "longer speech is a takeover, or a response; the dataset's, unless set", "paper 3.4", ge=0
    )
    tolerance_s: float = setting(1.0, "of the onset of a backchannel around the true one", "paper 3.4", ge=0)
    max_overlap_s: float = setting(0.2, "starting earlier than this before the end of the user's speech is early", ge=0)
    unit: Literal["utterance", "ipu"] = setting(
        "utterance",
        "what a speech interval is; ipu: the paper's word, by which bursts just short enough are not a takeover",
    )
    barge_in: Literal["no-response", "literal"] = setting(
        "no-response", "barging in gets the delay of no response; literal: a negative delay, which is a reward"
    )
    matching: Literal["one-to-one", "literal"] = setting(
        "one-to-one", "a true backchannel is hit once; literal: as often as one is near"
    )
    max_carry_over_s: float = setting(
        3.0, "whoever was talking when the user's turn began barges in after going on for longer", ge=0
    )
    response: Literal["sustained", "onset", "literal"] = setting(
        "sustained",
        "what a response is: an utterance that holds an IPU longer than max_backchannel_s; onset: any utterance longer "
        "than that, or, to an interruption, any IPU that starts after it; literal: any speech after it",
    )


LITERAL = RewardSettings(unit="ipu", barge_in="literal", matching="literal", response="literal")
"""The paper's text."""


class JudgeSettings(Settings):
    """A language model that rates the response on turn_taking and interruption. Its key is OPENAI_API_KEY."""

    url: str = setting(
        "", "of an OpenAI-compatible server, such as http://localhost:8000/v1; empty: no judge", resumable=True
    )
    model: str = setting("", "its name on the server; the paper's: Qwen3-235B-A22B", "paper 4.3")
    timeout_s: float = setting(60.0, "without a byte from the server", resumable=True, gt=0)
    retries: int = setting(2, "after a timeout, a lost connection or an error of the server", resumable=True, ge=0)
    concurrency: int = setting(16, "requests under way at once", resumable=True, ge=1)
    max_tokens: int = setting(8, "of an answer; a judge that reasons before it answers needs thousands", ge=1)
