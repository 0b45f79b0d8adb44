"""Reading: one clock for both tracks, any rate, any format, and every way a file can be broken."""

import shutil

import av
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from support import write_wav

from segkit.audio import Recording, decode_flac, encode_flac
from segkit.decoding.probe import probe
from segkit.errors import BadInputError
from segkit.schemas import Track

RNG = np.random.default_rng(0)


def noise(seconds: float, rate_hz: int, channels: int = 1) -> np.ndarray:
    """Band-limited noise at 16 bits, so that wav and flac hold it exactly."""
    coarse = RNG.normal(0, 0.1, (int(seconds * 4000), channels))
    return np.round(soxr.resample(coarse, 4000, rate_hz)[: round(seconds * rate_hz)] * 32768) / 32768


@pytest.fixture(scope="module")
def stereo(tmp_path_factory):
    return write_wav(tmp_path_factory.mktemp("audio") / "a.wav", noise(21.3, 8000, 2), 8000)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(start_s=st.floats(0, 20), length_s=st.floats(0.01, 2), rate_hz=st.sampled_from([8000, 16_000, 24_000, 22_050]))
def test_a_window_is_a_cut_of_the_whole(stereo, start_s, length_s, rate_hz):
    recording = Recording([Track(stereo, 0), Track(stereo, 1)])
    source, _ = soundfile.read(stereo, dtype="float32")
    whole = source if rate_hz == 8000 else soxr.resample(source, 8000, rate_hz)
    first, last = round(start_s * rate_hz), round((start_s + length_s) * rate_hz)
    found = recording.window(start_s, start_s + length_s, rate_hz)
    expected = np.zeros((2, last - first), np.float32)
    inside = whole[first:last].T
    expected[:, : inside.shape[1]] = inside
    safe = min(last, len(whole) - rate_hz // 20) - first  # the filter rings at the very end of a file
    np.testing.assert_allclose(found[:, :safe], expected[:, :safe], atol=2e-6)


@pytest.mark.parametrize("rate_hz", [8000, 16_000])
@pytest.mark.parametrize("block_samples", [1, 777, 512 * 512, 10**7])
def test_blocks_make_the_whole(stereo, rate_hz, block_samples):
    if block_samples == 1:
        stereo = write_wav(stereo.with_name("short.wav"), noise(0.05, 8000, 2), 8000)
    recording = Recording([Track(stereo, 0), Track(stereo, 1)])
    blocks = list(recording.blocks(rate_hz, block_samples))
    assert all(block.shape == (2, block_samples) for block in blocks[:-1])
    joined = np.concatenate(blocks, axis=1)
    source, _ = soundfile.read(stereo, dtype="float32")
    assert joined.shape[1] == len(source) * rate_hz // 8000
    whole = source if rate_hz == 8000 else soxr.resample(source, 8000, rate_hz)
    np.testing.assert_allclose(joined[:, :-800], whole.T[:, :-800], atol=2e-6)


@pytest.mark.parametrize("rates", [(8000, 8000), (8000, 16_000), (48_000, 16_000)])
def test_offsets_put_both_files_on_one_clock(tmp_path, rates):
    """An impulse at 2.0 s of the shared clock, in files that start at 0.75 s and at -0.5 s."""
    tracks = []
    for i, (rate_hz, offset_s) in enumerate(zip(rates, (0.75, -0.5), strict=True)):
        samples = np.zeros((4 * rate_hz, 1))
        samples[round((2.0 - offset_s) * rate_hz)] = 0.5
        tracks.append(Track(write_wav(tmp_path / f"{i}.wav", samples, rate_hz), offset_s=offset_s))
    recording = Recording(tracks)
    assert recording.duration_s == 4.75
    assert recording.rate_hz == max(rates)
    window = recording.window(1.0, 3.0, 16_000)
    assert np.abs(window).argmax(axis=1).tolist() == [16_000, 16_000]
    streamed = np.concatenate(list(recording.blocks(16_000, 5000)), axis=1)
    assert np.abs(streamed).argmax(axis=1).tolist() == [32_000, 32_000]
    assert streamed.shape == (2, 76_000)
    beyond = recording.window(4.6, 6.0, 16_000)
    assert beyond.shape == (2, 22_400) and not beyond[:, 4000:].any()


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "sph", "aiff"])
def test_windows_of_other_formats_equal_their_whole(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(12, 16_000, 2), 16_000, format="NIST" if suffix == "sph" else None)
    recording = Recording([Track(path, 0), Track(path, 1)])
    whole = np.concatenate(list(recording.blocks(16_000, 9999)), axis=1)
    np.testing.assert_allclose(recording.window(7.3, 9.9, 16_000), whole[:, 116_800:158_400], atol=1e-6)


@pytest.mark.shared_data
def test_real_formats(shared):
    lengths = {}
    for path in sorted((shared / "formats").glob("stereo.*")):
        recording = Recording([Track(path, 0), Track(path, 1)])
        lengths[path.suffix] = sum(block.shape[1] for block in recording.blocks(8000, 1000))
    assert lengths == {".mp3": 8000, ".opus": 8043, ".sph": 8000, ".wav": 8000}


@pytest.mark.shared_data
def test_sphere_with_shorten(shared):
    """The seven files hold one signal: twins of one coding are equal, u-law and a-law are near."""
    read = {}
    for path in sorted((shared / "sphere").glob("*.sph")):
        tracks = [Track(path, channel) for channel in range(probe(path).channels)]
        recording = Recording(tracks)
        assert recording.infos[0].rate_hz == 20_000 and recording.infos[0].frames == 37_120
        read[path.stem] = recording.window(0, recording.duration_s, 20_000)
    assert len(read) == 7
    for channels in "12":
        assert np.array_equal(read[f"123_{channels}pcbe_shn"], read[f"123_{channels}pcle_shn"])
    pcm = read["123_2pcbe_shn"]
    assert not np.array_equal(pcm[0], pcm[1])
    for coding in ("123_2ulaw_shn", "123_2alaw"):
        assert np.abs(read[coding] - pcm).max() < 0.03
        assert all(np.corrcoef(read[coding][i], pcm[i])[0, 1] > 0.999 for i in (0, 1))
    assert np.array_equal(read["123_1ulaw_shn"][0], read["123_2ulaw_shn"][0])


def test_what_is_in_a_container_keeps_its_clock(tmp_path):
    """m4a, with a stretch that its time stamps leave out; decoded once for many windows."""
    rate_hz = 48_000
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz)).astype(np.int16)
    samples = np.stack([tone, tone // 2], axis=1).reshape(1, -1)
    path = tmp_path / "call.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate_hz, layout="stereo")
        for second in (0, 2):  # nothing from 1 to 2 s
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
            frame.rate, frame.pts = rate_hz, second * rate_hz
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    recording = Recording([Track(path, 0), Track(path, 1)])
    assert recording.duration_s == pytest.approx(3, abs=0.05)
    loud = [np.abs(recording.window(at, at + 0.5, rate_hz)).max(axis=1) for at in (0.2, 1.25, 2.2)]
    assert loud[0] == pytest.approx([0.244, 0.122], abs=0.02) and loud[2] == pytest.approx(loud[0], abs=0.02)
    assert loud[1].max() < 0.01


def test_half_a_sphere_file_is_truncated(tmp_path):
    path = tmp_path / "call.sph"
    soundfile.write(path, noise(1.0, 8000, 2), 8000, format="NIST", subtype="ULAW")
    assert probe(path).frames == 8000
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(BadInputError, match=r"truncated audio: call\.sph: its header says 8000 samples"):
        Recording([Track(path, 0), Track(path, 1)])


def test_containers_that_cannot_be_read_say_why(tmp_path):
    for name, content, reason in [
        ("a.mp4", b"ftypisom", "unreadable audio"),
        ("a.sph", b"NIST_1A\n   1024\nsample_count -i 10\n", "unreadable audio"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInputError, match=f"{reason}: {name}"):
            probe(tmp_path / name)


def read_all(path):
    return list(Recording([Track(path, 0), Track(path, 1)]).blocks(8000, 4096))


def test_broken_files_say_how(tmp_path, stereo):
    def broken(name: str, data: bytes):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    wav = stereo.read_bytes()
    flac, mp3 = tmp_path / "a.flac", tmp_path / "a.mp3"
    for path in (flac, mp3):
        soundfile.write(path, noise(8, 8000, 2), 8000)
    holes = noise(1, 8000, 2)
    holes[100, 1] = np.nan
    soundfile.write(tmp_path / "nan.wav", holes, 8000, subtype="FLOAT")
    cases = {
        "empty audio": [broken("zero.wav", b""), write_wav(tmp_path / "none.wav", np.zeros((0, 2)), 8000)],
        "truncated audio": [
            broken("cut.wav", wav[:50_000]),
            broken("cut.mp3", mp3.read_bytes()[:9000]),
            broken("cut.flac", flac.read_bytes()[:9000]),
        ],
        "unreadable audio": [broken("text.wav", b"this is no audio")],
        "file cannot be opened": [tmp_path / "gone.wav"],
        "NaN in audio": [tmp_path / "nan.wav"],
        "missing channel": [write_wav(tmp_path / "mono.wav", noise(1, 8000), 8000)],
    }
    for reason, paths in cases.items():
        for path in paths:
            with pytest.raises(BadInputError) as caught:
                read_all(path)
            assert caught.value.reason == reason
            assert path.name in caught.value.detail


def test_the_name_does_not_matter_but_the_content(tmp_path, stereo):
    path = tmp_path / "really_a.mp3"
    shutil.copy(stereo, path)
    assert probe(path).rate_hz == 8000


def test_flac_keeps_16_bits_and_clips_the_rest():
    samples = np.array([-1.5, -1.0, 12345 / 32768, 0.0, 1.0], np.float32)
    found, rate_hz = decode_flac(encode_flac(samples, 44_100))
    assert rate_hz == 44_100
    assert found.tolist() == [-1.0, -1.0, 12345 / 32768, 0.0, 32767 / 32768]
