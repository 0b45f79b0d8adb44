"""The plan of a conversation: who speaks when, drawn from published distributions.

All times are samples from the start of the recording. The plan keeps two promises, which make a
planned turn an utterance in the sense of arXiv 2606.11167 (section 3.3): silences inside a turn are
at most 1.0 s, and every two utterances of one speaker are more than 1.0 s apart. Nothing comes
within `GUARD_S` of a threshold, so rounding decides no label.

Where the numbers come from (as the literature states them; nothing was fitted to recordings):

- Floor transfer offset (start of a turn minus end of the one before): normal, mean 0.2 s, standard
  deviation 0.45 s, so 50 % lie below 0.2 s and 33 % are overlaps; with the interruptions, 40 %.
  Stivers et al. 2009: about 0.2 s on average over ten languages. Heldner & Edlund 2010: 51-55 % of
  the transitions take less than 0.2 s, about 40 % overlap. Levinson & Torreira 2015: the most
  frequent offset is 0.1-0.2 s. Real offsets have a longer right tail.
- Pauses inside a turn: Campione & Veronis 2002 find brief (below 0.2 s), medium (0.2-1.0 s) and long
  ones; these are the medium ones. Log-normal, as in Demol et al. 2007; median and spread are ours.
- Backchannels: Jurafsky et al. 1997 count 19 % of the utterances of Switchboard, Knudsen et al. 2020
  16-19 % in German and Dutch; here they are 24 %, for the sake of that axis. Most start around the
  end of a phrase, where Ward & Tsukahara 2000 found the prosody that invites them.
- Ours, so that all four axes occur often: the mixture of turn lengths (most real turns are
  shorter), the length of phrases, the share of interruptions and lapses, how fast the interrupted
  one yields, and how soon a speaker comes back.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from segkit.synthesis.voices import Clip

OFFSET_S = (0.2, 0.45)  # mean, standard deviation; cut to OFFSET_RANGE_S
OFFSET_RANGE_S = (-0.9, 1.6)
PAUSE_S = (0.45, 0.5)  # median, sigma of the logarithm; cut to PAUSE_RANGE_S
PAUSE_RANGE_S = (0.2, 1.0)
PHRASE_S = (1.8, 0.45)  # median, sigma of the logarithm
PHRASE_RANGE_S = (0.6, 4.5)
TURNS = ((0.25, 0.8, 2.5), (0.30, 3.0, 5.5), (0.45, 5.0, 13.0))  # share, shortest, longest (uniform), in s
BACKCHANNELS_PER_MINUTE = 5.0
BACKCHANNEL_AT_PHRASE_END = 0.7  # the share of them that starts around the end of a phrase
BACKCHANNEL_LATE = 0.3  # the share of lapses that are answered by one that outlasts the turn
INTERRUPTION_SHARE = 0.18  # of the transitions from turns that are long enough for one
INTERRUPTED_AFTER_S = 3.3
YIELD_S = (0.3, 1.0)  # how long both go on
LAPSE_SHARE = 0.08  # the same speaker goes on after more than 1.0 s
LAPSE_S = (1.1, 2.2)

APART_S = 1.0  # paper 3.3: more silence than this separates utterances
RECOVERY_S = 0.5  # mean of what is added to it: else many silences would last 1.0 s exactly
GUARD_S = 0.001
GAP_LIMITS_S = (-0.2, 0.0, 0.4)
TURN_LIMITS_S = (1.0, 3.0, 4.0, 5.0)
CUT_FADE_S = 0.012


class Mouth(Protocol):
    """Makes the sound of one speaker; `Speaker` in `segkit.synthesis.render`."""

    def begin(self) -> None:
        """Start the words of a new turn."""

    def say(self, seconds: float) -> Clip:
        """The next words of the turn, of about that length."""

    def backchannel(self) -> Clip:
        """A short acknowledgement."""


@dataclass
class Ipu:
    """One clip at its place."""

    start: int
    clip: Clip

    @property
    def end(self) -> int:
        return self.start + len(self.clip)


@dataclass
class Utterance:
    """A turn or a backchannel: the phrases of one speaker, with a pause between each two."""

    channel: int
    ipus: list[Ipu]
    backchannel: bool = False

    @property
    def start(self) -> int:
        return self.ipus[0].start

    @property
    def end(self) -> int:
        return self.ipus[-1].end

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def pauses(self) -> list[tuple[int, int]]:
        return [(a.end, b.start) for a, b in zip(self.ipus[:-1], self.ipus[1:], strict=True)]

    def move(self, start: int) -> None:
        """Shift the whole utterance to `start`."""
        by = start - self.start
        for ipu in self.ipus:
            ipu.start += by


@dataclass
class Script:
    """Composes one conversation of `length` samples.

    Attributes:
        free: per channel, the first sample at which its speaker may begin a new utterance.
    """

    rng: np.random.Generator
    mouths: tuple[Mouth, Mouth]
    rate_hz: int
    length: int
    utterances: list[Utterance] = field(default_factory=list)
    free: list[int] = field(default_factory=lambda: [0, 0])

    def compose(self) -> list[Utterance]:
        """The utterances of both speakers, sorted by start."""
        turn = self._turn(int(self.rng.integers(2)))
        turn.move(self._n(self.rng.uniform(0.2, 1.5)))
        while turn.end <= self.length:
            following = self._next(turn)  # may cut `turn` short
            self._add(turn)
            lapse = following.channel == turn.channel
            self._backchannels(turn, until=following.start if lapse else following.start - self._n(APART_S))
            if lapse and self._happens(BACKCHANNEL_LATE):
                self._late_backchannel(turn, until=min(following.start, self.length))
            turn = following
        return sorted(self.utterances, key=lambda u: u.start)

    def _next(self, turn: Utterance) -> Utterance:
        """The turn that follows, at its place."""
        other = 1 - turn.channel
        if self._happens(LAPSE_SHARE):
            following = self._turn(turn.channel)
            following.move(turn.end + self._n(self.rng.uniform(*LAPSE_S)))
            return following
        if self._happens(INTERRUPTION_SHARE):
            start = self._interrupt(turn)
            if start is not None:
                following = self._turn(other, shortest_s=2.5)
                following.move(start)
                return following
        following = self._turn(other)
        offset = self._n(np.clip(self.rng.normal(*OFFSET_S), *OFFSET_RANGE_S))
        offset = max(offset, -len(turn) // 2, -len(following) // 2)
        self._place(following, turn.end + offset, turn)
        return following

    def _place(self, following: Utterance, start: int, turn: Utterance) -> None:
        """Move `following` to `start`, but not before its speaker is free, nor too near a limit."""
        start = max(start, self.free[following.channel])
        following.move(turn.end + self._clear(start - turn.end, GAP_LIMITS_S))

    def _turn(self, channel: int, shortest_s: float = 0.0) -> Utterance:
        """A turn of drawn length that starts at 0."""
        shares, shortest, longest = zip(*TURNS, strict=True)
        kind = int(self.rng.choice(len(TURNS), p=shares))
        left = max(shortest_s, float(self.rng.uniform(shortest[kind], longest[kind])))
        mouth = self.mouths[channel]
        mouth.begin()
        ipus: list[Ipu] = []
        at = 0
        while left > 0:
            seconds = self._lognormal(PHRASE_S, PHRASE_RANGE_S)
            if left - seconds < 1.0:  # no phrase of a single word at the end
                seconds = left
            clip = mouth.say(seconds)
            ipus.append(Ipu(at, clip))
            pause = self._n(self._lognormal(PAUSE_S, PAUSE_RANGE_S))
            pause = self._within(pause, PAUSE_RANGE_S)
            at += len(clip) + pause
            left -= (len(clip) + pause) / self.rate_hz
        return self._off_limits(Utterance(channel, ipus))

    def _interrupt(self, turn: Utterance) -> int | None:
        """Where the other one breaks into `turn`, which stops soon after; None where it cannot."""
        other = 1 - turn.channel
        earliest = max(turn.start + self._n(INTERRUPTED_AFTER_S), self.free[other])
        for i, ipu in enumerate(turn.ipus):
            low, high = max(earliest, ipu.start + self._n(0.3)), ipu.end - self._n(0.4)
            if low < high:
                start = int(self.rng.integers(low, high))
                stop = start + self._n(self.rng.uniform(*YIELD_S))
                del turn.ipus[i + 1 :]
                if stop < ipu.end - self._n(0.1):
                    ipu.clip = ipu.clip.cut(stop - ipu.start, self._n(CUT_FADE_S))
                self._off_limits(turn)
                return start
        return None

    def _backchannels(self, turn: Utterance, until: int) -> None:
        """Put the listener's backchannels inside `turn`, over before `until`."""
        listener, edge = 1 - turn.channel, self._n(0.1)
        if len(turn) < self._n(2.5):
            return
        at = turn.start
        while True:
            at += self._n(self.rng.exponential(60.0 / BACKCHANNELS_PER_MINUTE))
            start = self._snap(turn, at) if self._happens(BACKCHANNEL_AT_PHRASE_END) else at
            start = max(start, turn.start + self._n(0.5), self.free[listener])
            clip = self.mouths[listener].backchannel()
            if start + len(clip) >= min(until - self._n(GUARD_S), turn.end - edge):
                return
            self._add(Utterance(listener, [Ipu(start, clip)], backchannel=True))
            at = start

    def _late_backchannel(self, turn: Utterance, until: int) -> None:
        """In a lapse: the listener acknowledges while the speaker ends, and outlasts the turn."""
        listener = 1 - turn.channel
        clip = self.mouths[listener].backchannel()
        start = turn.end - len(clip) // 2
        if start >= self.free[listener] and start + len(clip) < until - self._n(0.1):
            self._add(Utterance(listener, [Ipu(start, clip)], backchannel=True))

    def _snap(self, turn: Utterance, at: int) -> int:
        """A place around the end of the phrase of `turn` that is nearest to `at`."""
        end = min((ipu.end for ipu in turn.ipus), key=lambda end: abs(end - at))
        return end + self._n(self.rng.uniform(-0.2, 0.3))

    def _add(self, utterance: Utterance) -> None:
        self.utterances.append(utterance)
        apart = self._n(APART_S + self.rng.exponential(RECOVERY_S)) + 2 * self._n(GUARD_S)
        self.free[utterance.channel] = max(self.free[utterance.channel], utterance.end + apart)

    def _off_limits(self, turn: Utterance) -> Utterance:
        """Shorten `turn` a little where its length is on a threshold."""
        guard = self._n(GUARD_S)
        if any(abs(len(turn) - self._n(limit)) < guard for limit in TURN_LIMITS_S):
            last = turn.ipus[-1]
            last.clip = last.clip.cut(len(last.clip) - 2 * guard, 2 * guard)
        return turn

    def _clear(self, n: int, limits_s: tuple[float, ...]) -> int:
        """`n`, or just above the limit that it is too near."""
        guard = self._n(GUARD_S)
        for limit in limits_s:
            if abs(n - self._n(limit)) < guard:
                return self._n(limit) + guard
        return n

    def _within(self, n: int, range_s: tuple[float, float]) -> int:
        guard = self._n(GUARD_S)
        return min(max(n, self._n(range_s[0]) + guard), self._n(range_s[1]) - guard)

    def _lognormal(self, law: tuple[float, float], range_s: tuple[float, float]) -> float:
        """A draw within `range_s`: outside ones are drawn again."""
        while True:
            seconds = float(self.rng.lognormal(math.log(law[0]), law[1]))
            if range_s[0] <= seconds <= range_s[1]:
                return seconds

    def _happens(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def _n(self, seconds: float) -> int:
        return round(float(seconds) * self.rate_hz)
