"""Noise, crosstalk and clipping, measured on signals made to measure."""

import numpy as np
import pytest

from segkit.extraction import quality

RATE_HZ = 8000
USER = np.array([[1.0, 4.0], [9.0, 12.0]])
AGENT = np.array([[5.0, 8.0], [13.0, 16.0]])
DURATION_S = 18.0


def conversation(snr_db: float, crosstalk_db: float) -> np.ndarray:
    """Two noise-like speakers of power 0.01, background noise, and leakage between the channels."""
    rng = np.random.default_rng(0)
    clean = np.zeros((2, round(DURATION_S * RATE_HZ)))
    for track, activity in enumerate((USER, AGENT)):
        for start_s, end_s in activity:
            here = slice(round(start_s * RATE_HZ), round(end_s * RATE_HZ))
            clean[track, here] = rng.normal(0, 0.1, here.stop - here.start)
    noise = rng.normal(0, 0.1 * 10 ** (-snr_db / 20), clean.shape)
    return clean + clean[::-1] * 10 ** (crosstalk_db / 20) + noise


@pytest.mark.parametrize("snr_db", [5.0, 20.0, 40.0])
@pytest.mark.parametrize("crosstalk_db", [-60.0, -25.0, -10.0])
def test_levels_are_found_again(snr_db, crosstalk_db):
    powers = quality.frame_powers(conversation(snr_db, crosstalk_db), RATE_HZ)
    for found in quality.snr_db(powers, (USER, AGENT)):
        assert found == pytest.approx(snr_db, abs=0.3)
    bleed = quality.bleed_db(powers, (USER, AGENT))
    if crosstalk_db > -snr_db - 8:
        assert bleed == pytest.approx(crosstalk_db, abs=1.0)
    else:  # it drowns in the noise
        assert bleed < -snr_db - 8


def test_without_noise_the_rounding_of_16_bits_is_the_floor():
    powers = quality.frame_powers(conversation(np.inf, -np.inf), RATE_HZ)
    assert quality.bleed_db(powers, (USER, AGENT)) == pytest.approx(-81, abs=1)
    assert quality.snr_db(powers, (USER, AGENT))[0] == pytest.approx(81, abs=1)


def test_what_cannot_be_measured_is_none():
    powers = quality.frame_powers(conversation(20, -60), RATE_HZ)
    always, never = np.array([[0.0, DURATION_S]]), np.zeros((0, 2))
    assert quality.snr_db(powers, (always, never)) == (None, None)
    assert quality.bleed_db(powers, (always, never)) is None


def test_gain_does_not_matter():
    audio = conversation(20, -25)
    powers, louder = (quality.frame_powers(audio * gain, RATE_HZ) for gain in (1.0, 3.0))
    assert quality.snr_db(powers, (USER, AGENT)) == pytest.approx(quality.snr_db(louder, (USER, AGENT)))
    assert quality.bleed_db(powers, (USER, AGENT)) == pytest.approx(quality.bleed_db(louder, (USER, AGENT)))


def test_clipping():
    loud = np.stack([np.sin(np.arange(8000) * 0.05)] * 2).astype(np.float32)
    assert not quality.is_clipped(loud * 0.999)
    assert quality.is_clipped(np.clip(loud * 1.3, -1, 1))
    ulaw_peak = np.float32(32124 / 32768)
    assert quality.is_clipped(np.clip(loud * 1.3, -ulaw_peak, ulaw_peak))
    assert not quality.is_clipped(np.ones((2, 1), np.float32))


def test_gate_lets_through_what_is_said():
    rate_hz = 8000
    activity = np.array([[0.5, 1.0], [1.004, 1.5], [1.9, 2.0]])
    found = quality.gate(activity, 2 * rate_hz, rate_hz)
    times_s = np.arange(len(found)) / rate_hz
    inside = ((times_s[:, None] >= activity[:, 0]) & (times_s[:, None] <= activity[:, 1])).any(axis=1)
    near = ((times_s[:, None] > activity[:, 0] - 0.006) & (times_s[:, None] < activity[:, 1] + 0.006)).any(axis=1)
    assert found.dtype == np.float32 and (found[inside] > 0.999).all() and not found[~near].any()
    assert np.abs(np.diff(found)).max() < 0.03  # no click
    assert not quality.gate(np.zeros((0, 2)), 100, rate_hz).any()
