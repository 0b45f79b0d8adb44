"""Codec2 as a codec of tokens: exact in its bits, a function of nothing but its input, and on the clock."""

import subprocess
import sys

import numpy as np
import pycodec2
import pytest
import soundfile
import soxr
import torch
from hypothesis import given
from hypothesis import strategies as st

from segkit.models.codec2 import BITS, CODEBOOKS, ORDER, Codec2, pack, unpack
from segkit.segmenters import vad
from segkit.settings import VadSettings

FRAME, RATE_HZ = Codec2.frame_size, Codec2.sample_rate


@pytest.fixture(scope="module")
def codec():
    return Codec2()


@pytest.fixture(scope="module")
def speech(recordings):
    """A minute of both channels, (2, 1, samples)."""
    samples, _ = soundfile.read(recordings[0], dtype="float32", frames=60 * RATE_HZ)
    return torch.from_numpy(samples.T[:, None].copy())


@given(st.binary(min_size=14, max_size=14 * 5).filter(lambda data: len(data) % 7 == 0))
def test_every_code_is_a_frame_and_back(data):
    codes = np.frombuffer(data, np.uint8).reshape(CODEBOOKS, -1).astype(np.int64)
    frames = unpack(codes)
    assert np.array_equal(pack(frames), codes)
    assert not (frames[:, 3] & 0x0F).any()  # 28 bits
    assert sorted(ORDER) == list(range(2 * BITS))


def test_the_bits_are_those_of_pycodec2(codec, speech):
    pcm = np.rint(speech[0, 0].numpy() * 32767).astype(np.int16)
    own = pycodec2.Codec2(700)
    expected = b"".join(own.encode(pcm[i : i + 320]) for i in range(0, len(pcm), 320))
    codes = codec.encode(speech[:1])
    assert codes.shape == (1, CODEBOOKS, len(pcm) // FRAME) and codes.min() >= 0 and codes.max() < 256
    assert unpack(codes[0].numpy()).tobytes() == expected


def test_the_audio_is_that_of_pycodec2_in_a_fresh_process(codec, speech, tmp_path):
    """In a used process it is not: its noise goes on where it was."""
    codes = codec.encode(speech[:1, :, : 10 * RATE_HZ])
    np.save(tmp_path / "frames.npy", unpack(codes[0].numpy()))
    program = (
        "import numpy as np, pycodec2; c = pycodec2.Codec2(700); frames = np.load('frames.npy'); "
        "np.save('pcm.npy', np.concatenate([c.decode(frame.tobytes()) for frame in frames]))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    decoded = codec.decode(codes)
    assert np.array_equal(np.rint(decoded[0, 0].numpy() * 32768), np.load(tmp_path / "pcm.npy"))


def test_the_audio_of_a_code_depends_on_nothing_else(codec, speech):
    codes = codec.encode(speech)
    both, again, second = codec.decode(codes), codec.decode(codes), Codec2().decode(codes[1:])
    assert torch.equal(both, again) and torch.equal(both[1:], second)
    assert torch.equal(codec.encode(speech.transpose(0, 2).contiguous().transpose(0, 2)), codes)  # other strides


def test_a_code_is_of_the_past_and_the_present_and_heard_in_the_present_and_the_future(codec, speech):
    quiet, loud = speech[:1].clone(), speech[:1].clone()
    loud[..., 31 * FRAME :][..., :400] += 0.3
    changed = (codec.encode(quiet) != codec.encode(loud))[0].any(0).nonzero()[:, 0]
    assert changed[0] == 31 and changed[-1] < 36
    codes = codec.encode(quiet)
    other = codes.clone()
    other[:, 0, 40] = 255 - other[:, 0, 40]
    first = (codec.decode(codes) != codec.decode(other))[0, 0].nonzero()[0, 0]
    assert 40 * FRAME <= first < 41 * FRAME


def test_speech_comes_back_less_than_a_frame_late(codec, speech):
    """30 ms by the envelopes' correlation; a frame has 80."""
    heard = codec.decode(codec.encode(speech))
    step = RATE_HZ // 200
    for before, after in zip(speech[:, 0].numpy(), heard[:, 0].numpy(), strict=True):
        envelopes = [np.log(np.square(x.reshape(-1, step)).mean(1) + 1e-6) for x in (before, after)]
        likeness = [np.corrcoef(envelopes[0], np.roll(envelopes[1], -lag))[0, 1] for lag in range(-10, 20)]
        assert max(likeness) > 0.9 and 4 <= np.argmax(likeness) - 10 <= 8  # 5 ms each


def agreement(codec, audio):
    """Share of 10 ms in which Silero decides the same before and after the codec, (C, samples)."""
    audio = audio[:, : audio.shape[1] // FRAME * FRAME]
    coded = codec.decode(codec.encode(torch.from_numpy(audio[:, None])))[:, 0].numpy()
    detector = vad.load(VadSettings())
    masks = []
    for channels in (audio, coded):
        clock = np.arange(0, audio.shape[1] / RATE_HZ, 0.01)
        spoken = vad.detect_array(detector, np.ascontiguousarray(channels), RATE_HZ)
        masks.append([((clock[:, None] >= s[:, 0]) & (clock[:, None] < s[:, 1])).any(1) for s in spoken])
    return np.mean(np.array(masks[0]) == np.array(masks[1]))


def test_the_detector_hears_the_same_speech(codec, speech):
    assert agreement(codec, speech[:, 0].numpy()) > 0.95


@pytest.mark.shared_data
def test_the_detector_hears_the_same_speech_in_real_calls(codec, shared):
    for path in sorted((shared / "spokenwoz_sample" / "audio").glob("*.wav")):
        samples, rate_hz = soundfile.read(path, dtype="float32")
        assert agreement(codec, soxr.resample(samples, rate_hz, RATE_HZ).T.copy()) > 0.94
