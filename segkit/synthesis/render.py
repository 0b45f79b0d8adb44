"""From a plan to a stereo wav and its truth.

The wav holds 16-bit samples, channel 0 and 1 the two speakers. Without noise and crosstalk a
channel is digitally silent outside its activity. The truth is JSON; all times are samples divided
by the rate:

    {"rate_hz": 24000, "num_samples": 7200000, "speakers": ["speaker0000", "speaker0001"],
     "activity": [[[0.5, 2.1], ...], [...]],
     "words": [{"channel": 0, "text": "well", "start_s": 0.5, "end_s": 0.71}, ...],
     "events": [{"axis": "pause", "user": 0, "start_s": 0.5, "end_s": 6.2, "pauses": [[2.1, 2.5]]}, ...]}

A backchannel event has `backchannels`; a turn_taking one `turn_end_s` and `gap_s`; an interruption
`interruption_start_s` and `interruption_end_s`. Everything is in seconds of the recording.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from segkit.storage import whole, write_text
from segkit.synthesis.labels import events
from segkit.synthesis.phrases import BACKCHANNELS, TOPICS, talk
from segkit.synthesis.script import Script, Utterance
from segkit.synthesis.voices import Clip, Espeak, Samples, Voice, phrase

WORDS_PER_S = 0.0237  # words per second and word per minute of espeak's rate, measured
BACKCHANNEL_RATE = 0.8  # spoken slower, so that most last 0.3-0.8 s
BACKCHANNEL_RANGE_S = (0.3, 0.9)
BACKCHANNEL_DB = -3.0  # softer than a turn


class Speaker:
    """One voice in one conversation: a `Mouth` for the script."""

    def __init__(self, engine: Espeak, voice: Voice, rng: np.random.Generator, topic: str, rate_hz: int) -> None:
        self.engine, self.voice, self.rng, self.topic, self.rate_hz = engine, voice, rng, topic, rate_hz
        self.words: Iterator[str] = iter(())

    def begin(self) -> None:
        self.words = talk(self.rng, self.topic)

    def say(self, seconds: float) -> Clip:
        num_words = max(2, round(seconds * self.voice.rate_wpm * WORDS_PER_S))
        text = " ".join(islice(self.words, num_words))
        return phrase(self.engine, self.voice, text, self.rate_hz, float(self.rng.normal(0.0, 0.7)))

    def backchannel(self) -> Clip:
        voice = replace(self.voice, rate_wpm=round(self.voice.rate_wpm * BACKCHANNEL_RATE))
        while True:
            text = BACKCHANNELS[int(self.rng.integers(len(BACKCHANNELS)))]
            clip = phrase(self.engine, voice, text, self.rate_hz, BACKCHANNEL_DB)
            if BACKCHANNEL_RANGE_S[0] <= len(clip) / self.rate_hz <= BACKCHANNEL_RANGE_S[1]:
                return clip


def compose(voices: tuple[Voice, Voice], seed: tuple[int, ...], rate_hz: int, length: int) -> list[Utterance]:
    """Plan and speak a conversation of `length` samples; the same one for the same arguments."""
    draws = [np.random.default_rng([*seed, i]) for i in range(3)]
    topic = sorted(TOPICS)[int(draws[2].integers(len(TOPICS)))]
    with Espeak() as engine:
        first, second = (Speaker(engine, v, r, topic, rate_hz) for v, r in zip(voices, draws[:2], strict=True))
        return Script(draws[2], (first, second), rate_hz, length).compose()


def mix(
    utterances: list[Utterance],
    voices: tuple[Voice, Voice],
    length: int,
    snr_db: float,
    crosstalk_db: float,
    seed: tuple[int, ...],
    crosstalk_delay: int = 0,
) -> NDArray[np.int16]:
    """The audio of a plan, shape (length, 2).

    Noise is white; `snr_db` is the level of a channel's active speech over it, inf for none.
    `crosstalk_db` is the gain at which each speaker leaks into the other's channel, -inf for none, and
    `crosstalk_delay` how many samples later.
    """
    speech = np.zeros((2, length), dtype=np.float32)
    for utterance in utterances:
        for ipu in utterance.ipus:
            speech[utterance.channel, ipu.start : ipu.end] = ipu.clip.samples
    late = np.pad(speech[::-1], ((0, 0), (crosstalk_delay, 0)))[:, :length]
    audio: Samples = speech + np.float32(_gain(crosstalk_db)) * late
    if snr_db < math.inf:
        rng = np.random.default_rng([*seed, 3])
        for channel, voice in enumerate(voices):
            noise = rng.standard_normal(length, dtype=np.float32)
            audio[channel] += np.float32(_gain(voice.level_db - snr_db)) * noise
    return np.asarray(np.round(np.clip(audio, -1.0, 1.0).T * 32767), dtype=np.int16)


def _gain(db: float) -> float:
    return float(10 ** (db / 20))


def truth(utterances: list[Utterance], voices: tuple[Voice, Voice], rate_hz: int, length: int) -> dict[str, Any]:
    """The truth of a plan, ready for JSON."""
    activity: list[list[list[float]]] = [[], []]
    words = []
    for utterance in utterances:
        for ipu in utterance.ipus:
            activity[utterance.channel].append([ipu.start / rate_hz, ipu.end / rate_hz])
            for text, a, b in ipu.clip.words:
                start_s, end_s = (ipu.start + a) / rate_hz, (ipu.start + b) / rate_hz
                words.append({"channel": utterance.channel, "text": text, "start_s": start_s, "end_s": end_s})
    return {
        "rate_hz": rate_hz,
        "num_samples": length,
        "speakers": [voice.name for voice in voices],
        "activity": activity,
        "words": words,
        "events": events(utterances, rate_hz),
    }


def write(wav: Path, audio: NDArray[np.int16], rate_hz: int, truth_path: Path, facts: dict[str, Any]) -> None:
    """Write both files whole or not at all, the truth last."""
    with whole(wav) as draft:
        soundfile.write(draft, audio, rate_hz, subtype="PCM_16", format="WAV")
    write_text(truth_path, json.dumps(facts))
