"""How clean a cut is: noise, crosstalk between the channels, clipping."""

import numpy as np
from numpy.typing import NDArray

from segkit.audio import Samples
from segkit.schemas import Intervals
from segkit.segmenters.timeline import merged

FRAME_S = 0.02
GUARD_S = 0.2
"""Frames this near to speech do not count as background: VAD cuts the tails of words."""
RAMP_S = 0.005
"""How long a masked track takes from silence to speech, so that it does not click."""
MIN_FRAMES = 10
QUANTISATION = 2.0**-30 / 12
"""Power of the rounding noise of 16-bit samples; nothing is quieter than that."""
CLIP_LEVEL = 0.98

Powers = NDArray[np.float64]


def frame_powers(audio: Samples, rate_hz: int) -> Powers:
    """Mean power of consecutive frames of 20 ms, (tracks, frames), of audio (tracks, samples)."""
    size = round(FRAME_S * rate_hz)
    whole = audio[:, : audio.shape[1] // size * size]
    return np.square(whole, dtype=np.float64).reshape(len(audio), -1, size).mean(axis=2)


def spoken(activity: Intervals, frames: int, guard_s: float = 0.0) -> NDArray[np.bool_]:
    """Which frames have their centre in an interval of `activity`, widened by a guard; (frames,)."""
    centres = (np.arange(frames) + 0.5) * FRAME_S
    begun = np.searchsorted(activity[:, 0] - guard_s, centres, side="right")
    over = np.searchsorted(activity[:, 1] + guard_s, centres, side="right")
    return begun > over


def snr_db(powers: Powers, activity: tuple[Intervals, Intervals]) -> tuple[float | None, float | None]:
    """Speech over background of each track.

    Background is what a track holds where nobody speaks; speech is the rest's power less that. None where
    there is less than 0.2 s of either.

    Args:
        powers: of both tracks, (2, frames).
        activity: of both, relative to the first frame.
    """
    frames = powers.shape[1]
    silent = ~(spoken(activity[0], frames, GUARD_S) | spoken(activity[1], frames, GUARD_S))
    noise = [_mean(track, silent) for track in powers]
    speech = [_mean(track, spoken(a, frames)) for track, a in zip(powers, activity, strict=True)]
    first, second = (_db(_excess(s, n), n) for s, n in zip(speech, noise, strict=True))
    return first, second


def bleed_db(powers: Powers, activity: tuple[Intervals, Intervals]) -> float | None:
    """Level of a lone speaker in the other's channel, relative to his own; the worse of both ways.

    -inf dB (nothing above the background) is given as the level of the rounding noise. Arguments as for
    `snr_db`; None where nobody speaks alone for 0.2 s, or it is never quiet.
    """
    frames = powers.shape[1]
    near = [spoken(a, frames, GUARD_S) for a in activity]
    silent = ~(near[0] | near[1])
    levels = []
    for speaker, other in ((0, 1), (1, 0)):
        alone = spoken(activity[speaker], frames) & ~near[other]
        leaked = _excess(_mean(powers[other], alone), _mean(powers[other], silent))
        level = _db(leaked, _mean(powers[speaker], alone))
        levels += [] if level is None else [level]
    return max(levels, default=None)


def gate(activity: Intervals, samples: int, rate_hz: int) -> Samples:
    """1 where a speaker speaks and 0 elsewhere, with short ramps outside of the speech, (samples,)."""
    knots = merged(activity + np.array([-RAMP_S, RAMP_S]))
    edges = np.stack([knots[:, 0], knots[:, 0] + RAMP_S, knots[:, 1] - RAMP_S, knots[:, 1]], axis=1)
    levels = np.tile([0.0, 1.0, 1.0, 0.0], len(edges))
    times_s = np.arange(samples) / rate_hz
    return np.interp(times_s, edges.ravel(), levels).astype(np.float32) if len(edges) else np.zeros(samples, np.float32)


def is_clipped(audio: Samples) -> bool:
    """Whether a track of audio (tracks, samples), at its native rate, has flat tops.

    A flat top is three equal samples in a row at 98 % of full scale or above (the largest u-law value
    is 98.1 % of it); resampling would round it off.
    """
    flat = (np.abs(audio[:, 1:]) >= CLIP_LEVEL) & (audio[:, 1:] == audio[:, :-1])
    return bool((flat[:, 1:] & flat[:, :-1]).any())


def _mean(powers: Powers, mask: NDArray[np.bool_]) -> float | None:
    return float(powers[mask].mean()) if np.count_nonzero(mask) >= MIN_FRAMES else None


def _excess(power: float | None, background: float | None) -> float | None:
    return None if power is None or background is None else power - background


def _db(power: float | None, reference: float | None) -> float | None:
    if power is None or reference is None:
        return None
    return float(10 * np.log10(max(power, QUANTISATION) / max(reference, QUANTISATION)))
