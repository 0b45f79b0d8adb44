"""Every container and codec, written and read back: nothing is shortened, nothing rejected, half of it is told."""

import io
import os
import resource
import signal
import socket
import subprocess
import sys
from functools import cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import soundfile
from support import write_wav

from segkit import corpora
from segkit.audio import Recording
from segkit.decoding import decoders, scratch
from segkit.decoding.ffmpeg import _Lane
from segkit.decoding.probe import probe
from segkit.errors import BadInputError
from segkit.schemas import Conversation, Problem, Track
from segkit.settings import AudioSettings

BROKEN_IN_LIBSNDFILE = {"DWVW_12", "DWVW_16", "DWVW_24"}  # it cannot read what it writes
FIXED = {"SD2", "XI", "SDS"}  # a file beside the file; a rate of its own; the end is not written
COUNTS = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "SVX", "FLAC", "OGG", "MP3", "NIST", "CAF"}
ROUNDS_RATES = {"HTK", "VOC", "WVE"}
LOSSY = {
    *("GSM610", "IMA_ADPCM", "MS_ADPCM", "G721_32", "G723_24", "G723_40", "NMS_ADPCM_16", "NMS_ADPCM_24"),
    *("NMS_ADPCM_32", "VORBIS", "OPUS", "MPEG_LAYER_III"),
}
LAST_BLOCK = (
    {"GSM610": 640, "IMA_ADPCM": 4089, "MS_ADPCM": 4100, "ULAW": 1, "ALAW": 1}
    | {coding: 160 for coding in LOSSY if coding.startswith(("NMS", "G72"))}
    | {"VORBIS": 1024, "MPEG_LAYER_III": 2304}
)
"""Frames: codecs fill it up."""


def tones(seconds: float, rate_hz: int, channels: int) -> np.ndarray:
    """A tone of its own on each channel, (frames, channels)."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.stack([0.3 * np.sin(2 * np.pi * (300 + 150 * i) * t) for i in range(channels)], axis=1)


def read_all(path: Path, **settings: float) -> tuple[Recording, np.ndarray]:
    """All of a file, (channels, frames), at its own rate, in blocks."""
    channels = probe(path).channels
    recording = Recording([Track(path, i) for i in range(channels)], AudioSettings(**settings))
    return recording, np.concatenate(list(recording.blocks(recording.rate_hz, 4000)), axis=1)


@pytest.fixture
def own_scratch(tmp_path, monkeypatch):
    """A folder for decoded files that no other process uses."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch._entered.cache_clear()
    yield
    scratch._entered.cache_clear()


def half_of(path: Path) -> Path:
    half = path.with_name(f"half_{path.name}")
    data = path.read_bytes()
    half.write_bytes(data[: len(data) * 55 // 100])
    return half


@cache
def forms() -> list[tuple[str, str]]:
    """Every format and coding that libsndfile writes."""
    return [
        (form, coding)
        for form in soundfile.available_formats()
        if form != "RAW" and form not in FIXED
        for coding in soundfile.available_subtypes(form)
        if soundfile.check_format(form, coding) and coding not in BROKEN_IN_LIBSNDFILE
    ]


def written(path: Path, signal: np.ndarray, rate_hz: int, form: str, coding: str) -> bool:
    """Whether libsndfile writes this combination at all."""
    try:
        soundfile.write(path, signal, rate_hz, format=form, subtype=coding)
    except soundfile.SoundFileError:
        return False
    return True


@pytest.mark.parametrize("form", sorted({form for form, _ in forms()}))
@pytest.mark.parametrize("rate_hz", [8000, 24_000, 48_000])
def test_what_libsndfile_writes_is_read_whole(tmp_path, form, rate_hz):
    if rate_hz != 8000 and form in ROUNDS_RATES:
        pytest.skip("it writes another rate than it is told")
    for coding, channels, seconds in product([c for f, c in forms() if f == form], (1, 2), (0.03, 1.7)):
        path = tmp_path / f"{coding}-{channels}-{seconds}.bin"
        signal = tones(seconds, rate_hz, channels)
        if not written(path, signal, rate_hz, form, coding):
            continue
        recording, found = read_all(path)
        info = recording.infos[0]
        assert (info.rate_hz, info.channels) == (rate_hz, channels), path.name
        assert recording.notes == [], path.name
        assert 0 <= found.shape[1] - len(signal) <= LAST_BLOCK.get(coding, 0), path.name
        if coding not in LOSSY:
            coarse = 8 if coding in {"PCM_S8", "PCM_U8", "ULAW", "ALAW"} else 15
            assert np.abs(found[:, : len(signal)] - signal.T).max() <= 2.0**-coarse * 2, path.name
        if seconds > 1:
            first, last = round(1.234 * rate_hz), round(1.5 * rate_hz)
            window = recording.window(1.234, 1.5, rate_hz)
            np.testing.assert_allclose(window, found[:, first:last], atol=1e-6, err_msg=path.name)
            heard_hz = np.abs(np.fft.rfft(found[:, rate_hz // 2 : rate_hz * 3 // 2], axis=1)).argmax(axis=1)
            assert heard_hz.tolist() == [300, 450][:channels], path.name


@pytest.mark.parametrize("form", sorted(COUNTS))
def test_half_of_what_libsndfile_writes_is_told(tmp_path, form):
    for coding in [coding for each, coding in forms() if each == form]:
        path = tmp_path / f"{coding}.bin"
        if any(written(path, tones(3, 8000, channels), 8000, form, coding) for channels in (2, 1)):
            with pytest.raises(BadInputError, match=r"truncated audio|unreadable audio"):
                read_all(half_of(path))


def encode(path: Path, codec: str, form: str, *, pipe: bool = False, streams: int = 1, layout: str = "stereo") -> Path:
    """Four seconds of tones by FFmpeg; to a pipe, a writer cannot go back to the header."""
    signal = (tones(4, 48_000, 2) * 32768).astype(np.int16)
    buffer = io.BytesIO()
    target = _Pipe(buffer) if pipe else str(path)
    with av.open(target, "w", format=form) as container:
        lanes = [container.add_stream(codec, rate=48_000, layout=layout) for _ in range(streams)]
        for i, lane in enumerate(lanes):
            part = signal if layout == "stereo" else signal[:, i : i + 1]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part).reshape(1, -1), format="s16", layout=layout)
            frame.rate, frame.pts = 48_000, 0
            container.mux(lane.encode(frame))
            container.mux(lane.encode(None))
    if pipe:
        path.write_bytes(buffer.getvalue())
    return path


class _Pipe:
    """What can be written, but not sought in."""

    def __init__(self, target: io.BytesIO) -> None:
        self.write = target.write


CONTAINERS = {  # name: codec, format, whether half of it can be told from the whole
    "a.m4a": ("aac", "ipod", True),
    "a.m4b": ("aac", "ipod", True),
    "a.mp4": ("aac", "mp4", True),
    "a.3gp": ("aac", "3gp", True),
    "a.mov": ("pcm_s16le", "mov", True),
    "a.webm": ("libopus", "webm", True),
    "a.mka": ("aac", "matroska", True),
    "a.flv": ("aac", "flv", True),
    "a.tta": ("tta", "tta", True),
    "a.wv": ("wavpack", "wv", True),
    "a.caf": ("alac", "caf", True),
    "a.avi": ("pcm_s16le", "avi", True),
    "a.ts": ("aac", "mpegts", False),
    "a.aac": ("aac", "adts", False),
    "a.ac3": ("ac3", "ac3", False),
    "a.mp2": ("mp2", "mp2", False),
    "a.mpg": ("mp2", "mpeg", False),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_what_ffmpeg_writes_is_read_whole_whatever_its_name(tmp_path, name):
    codec, form, told = CONTAINERS[name]
    path = encode(tmp_path / name, codec, form).rename(tmp_path / "named.wav")
    recording, found = read_all(path)
    assert recording.duration_s == pytest.approx(4, abs=0.08)
    assert recording.notes == []
    middle = found[:, 96_000:144_000]
    loudest = np.abs(np.fft.rfft(middle, axis=1)).argmax(axis=1)
    assert loudest.tolist() == [300, 450]
    assert np.array_equal(recording.window(2, 3, 48_000), middle)
    if told:
        with pytest.raises(BadInputError, match=r"truncated audio|unreadable audio"):
            read_all(half_of(path))
    else:
        assert read_all(half_of(path))[0].duration_s == pytest.approx(2.2, abs=0.2)


@pytest.mark.parametrize(
    "name, codec, form",
    [
        ("a.wav", "pcm_s16le", "wav"),
        ("a.flac", "flac", "flac"),
        ("a.mp3", "libmp3lame", "mp3"),
        ("a.au", "pcm_s16be", "au"),
        ("a.aiff", "pcm_s16be", "aiff"),
        ("a.w64", "pcm_s16le", "w64"),
        ("a.caf", "pcm_s16be", "caf"),
        ("a.webm", "libopus", "webm"),
        ("a.opus", "libopus", "opus"),
        ("a.mkv", "flac", "matroska"),
    ],
)
def test_what_went_through_a_pipe_is_read_whole(tmp_path, name, codec, form):
    recording, found = read_all(encode(tmp_path / name, codec, form, pipe=True))
    assert found.shape[1] / 48_000 == pytest.approx(4, abs=0.06)
    assert recording.notes == []
    if form in ("webm", "opus", "matroska"):  # elsewhere, nothing tells
        with pytest.raises(BadInputError, match=r"truncated audio.*its end is missing"):
            read_all(half_of(recording.paths[0]))


def test_mp3_in_every_form_of_its_header(tmp_path):
    """With an index (Xing, Info), without one, after a tag, two files in one, in a wav; lengths as they are."""
    index = encode(tmp_path / "index.mp3", "libmp3lame", "mp3").read_bytes()
    plain = encode(tmp_path / "plain.mp3", "libmp3lame", "mp3", pipe=True).read_bytes()
    soundfile.write(tmp_path / "variable.mp3", tones(4, 48_000, 2), 48_000, bitrate_mode="VARIABLE")
    assert (b"Info" in index[:4096] or b"Xing" in index[:4096]) and b"Xing" in (tmp_path / "variable.mp3").read_bytes()
    assert b"Info" not in plain[:4096] and b"Xing" not in plain[:4096]
    tag = b"ID3\x04\0\0\0\0\x07\x68" + bytes(1000)  # its size in seven bits a byte: 7 * 128 + 104
    cover = b"ID3\x04\0\0\0\0\x7f\x7f" + bytes(16_383)  # a picture
    (tmp_path / "cover.mp3").write_bytes(cover + index)
    named = {"tag": tag + plain[plain.index(b"\xff\xfb") :], "two": index + index, "tagged two": tag + index + index}
    for name, data in named.items():
        (tmp_path / f"{name}.mp3").write_bytes(data)
    lengths_s = {path.stem: read_all(path)[1].shape[1] / 48_000 for path in tmp_path.glob("*.mp3")}
    expected_s = {"index": 4, "cover": 4, "plain": 4, "variable": 4, "tag": 4, "two": 8, "tagged two": 8}
    assert lengths_s == pytest.approx(expected_s, abs=0.08)
    recording, _ = read_all(tmp_path / "index.mp3")
    assert recording.notes == [] and recording.duration_s == 4.0
    for name in ("index", "variable", "cover"):
        with pytest.raises(BadInputError, match="truncated audio"):
            read_all(half_of(tmp_path / f"{name}.mp3"))


def test_ogg_streams_that_follow_each_other_are_all_read(tmp_path):
    one = encode(tmp_path / "one.opus", "libopus", "opus")
    (tmp_path / "two.opus").write_bytes(one.read_bytes() * 2)
    assert read_all(one)[0].duration_s == pytest.approx(4, abs=0.02)
    recording, found = read_all(tmp_path / "two.opus")
    assert recording.duration_s == pytest.approx(8, abs=0.02)
    assert np.abs(found[:, 200_000:]).max() > 0.2


@pytest.mark.parametrize("form, codec", [("mp4", "aac"), ("matroska", "pcm_s16le")])
def test_two_streams_of_one_channel_are_two_tracks(tmp_path, form, codec):
    recording, found = read_all(encode(tmp_path / "a.bin", codec, form, streams=2, layout="mono"))
    assert recording.infos[0].channels == 2
    assert np.abs(np.fft.rfft(found[:, 96_000:144_000], axis=1)).argmax(axis=1).tolist() == [300, 450]


def test_the_length_of_a_wav_that_says_none(tmp_path):
    """0, -1 and the like in the sizes of RIFF and data."""
    signal = tones(2, 8000, 2)
    whole = bytearray(write_wav(tmp_path / "whole.wav", signal, 8000).read_bytes())
    at = whole.index(b"data") + 4
    for riff, data in product((0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF), repeat=2):
        whole[4:8], whole[at : at + 4] = riff.to_bytes(4, "little"), data.to_bytes(4, "little")
        (tmp_path / "a.wav").write_bytes(whole)
        recording, found = read_all(tmp_path / "a.wav")
        assert found.shape == (2, 16_000) and recording.notes == [], (riff, data)


def test_sphere_may_give_its_rate_as_a_real_number(tmp_path):
    path = tmp_path / "a.sph"
    soundfile.write(path, tones(2, 8000, 2), 8000, format="NIST", subtype="ULAW")
    whole = read_all(path)[1]
    data = path.read_bytes()
    head = data[:1024].replace(b"sample_rate -i 8000\n", b"sample_rate -r 8000.0\n")[:1024]
    path.write_bytes(head + data[1024:])
    assert np.abs(read_all(path)[1] - whole).max() < 1e-4


def test_sphere_with_shorten_is_not_taken_for_plain_samples(tmp_path):
    """FFmpeg would; desphere says that this one is damaged. (Whole ones are among the shared data.)"""
    header = b"NIST_1A\n   1024\nchannel_count -i 2\nsample_count -i 8000\nsample_rate -i 8000\nsample_n_bytes -i 2\n"
    header += b"sample_byte_format -s2 01\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    noise = np.random.default_rng(0).integers(0, 256, 20_000, np.uint8).tobytes()
    (tmp_path / "a.sph").write_bytes(header.ljust(1024) + noise)
    with pytest.raises(BadInputError, match="unreadable audio"):
        probe(tmp_path / "a.sph")
    (tmp_path / "plain.sph").write_bytes(header.replace(b"26 pcm,embedded-shorten-v2.00", b"3 pcm").ljust(1024) + noise)
    assert probe(tmp_path / "plain.sph", AudioSettings(max_missing_s=60)).frames == 5000


@pytest.mark.parametrize("missing_s, used", [(0.4, True), (0.6, False)])
def test_a_small_shortfall_is_used_and_told(tmp_path, missing_s, used):
    for form, frame in (("WAV", 4), ("NIST", 4), ("AIFF", 4), ("AU", 4)):
        path = tmp_path / f"a.{form}"
        soundfile.write(path, tones(10, 8000, 2), 8000, format=form, subtype="PCM_16")
        path.write_bytes(path.read_bytes()[: -round(missing_s * 8000) * frame])
        if used:
            recording, found = read_all(path)
            assert found.shape[1] == 80_000 - 3200
            assert recording.notes == [
                ("audio is a little short", f"{path.name}: its header says 80000 samples, it holds 76800")
            ]
        else:
            with pytest.raises(BadInputError, match="truncated audio"):
                read_all(path)
            assert read_all(path, max_missing_s=0.7)[1].shape[1] == 80_000 - 4800
            assert read_all(path, max_missing_share=0.1)[1].shape[1] == 80_000 - 4800


def test_a_flac_file_that_is_damaged_is_read_around_the_damage(tmp_path):
    """Where one decoder gives up, another goes on; what is lost is silence, and the rest stays in its place."""
    signal = np.round(np.random.default_rng(0).normal(0, 0.1, (320_000, 2)) * 32768) / 32768
    path = tmp_path / "a.flac"
    soundfile.write(path, signal, 16_000)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(data)
    recording, found = read_all(path)
    wrong = np.flatnonzero(np.abs(found - signal.T).max(axis=0) > 1e-6)
    assert found.shape == (2, 320_000)
    assert 4000 < len(wrong) <= 4096 and wrong[-1] - wrong[0] < 4096  # one block of FLAC
    assert recording.notes == [("audio is a little short", "a.flac: 0.256 s of it cannot be decoded")]
    assert np.array_equal(recording.window(1, 19.5, 16_000), found[:, 16_000:312_000])
    with pytest.raises(BadInputError, match=r"truncated audio: a\.flac: 0\.256 s of it cannot be decoded"):
        read_all(path, max_missing_s=0.2)


def test_headers_that_no_recording_has(tmp_path):
    for i, (rate_hz, channels) in enumerate([(2_000_000, 1), (200, 1), (8000, 65)]):
        soundfile.write(tmp_path / f"{i}.wav", np.zeros((100, channels)), rate_hz)
        with pytest.raises(BadInputError, match="implausible header"):
            probe(tmp_path / f"{i}.wav")
    wav = write_wav(tmp_path / "long.wav", np.zeros((8000 * 11, 1)), 8000)
    m4a = encode(tmp_path / "long.m4a", "aac", "ipod")
    for path in (wav, m4a):
        with pytest.raises(BadInputError, match=r"recording too long.*audio\.max_length_s"):
            probe(path, AudioSettings(max_length_s=3))
    assert probe(wav, AudioSettings(max_length_s=11)).frames == 88_000


@pytest.mark.parametrize("name", ["a.wav", "a.m4a"])
def test_a_file_that_takes_too_long_is_left(tmp_path, monkeypatch, name):
    encode(tmp_path / name, "aac" if name == "a.m4a" else "pcm_s16le", "ipod" if name == "a.m4a" else "wav")
    later_s = iter(range(0, 10**6, 5))
    monkeypatch.setattr("segkit.decoding.limits.monotonic", lambda: next(later_s))
    with pytest.raises(BadInputError, match="decoding takes too long"):
        read_all(tmp_path / name, max_decoding_s=3)


def test_a_path_is_never_an_address(tmp_path, monkeypatch):
    """FFmpeg would take the relative path http:/127.0.0.1:PORT/a.m4a for one, and 12:30.m4a for a protocol."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        place = tmp_path / "http:" / f"127.0.0.1:{server.getsockname()[1]}"
        place.mkdir(parents=True)
        encode(tmp_path / "a.m4a", "aac", "ipod").rename(place / "12:30.m4a")
        monkeypatch.chdir(tmp_path)
        assert probe((place / "12:30.m4a").relative_to(tmp_path)).frames > 190_000
        with pytest.raises(TimeoutError):
            server.accept()


def test_two_streams_of_which_one_ends_early(tmp_path, monkeypatch):
    """The rest of the other is not kept in memory, and what comes too late does not move the rest."""
    monkeypatch.setattr("segkit.decoding.ffmpeg.AHEAD_S", 2)
    most = []
    hand_over = _Lane.hand_over
    monkeypatch.setattr(_Lane, "hand_over", lambda lane, n: most.append(lane.ready) or hand_over(lane, n))
    path, rate_hz = tmp_path / "a.mkv", 8000
    with av.open(str(path), "w") as container:
        lanes = [container.add_stream("pcm_s16le", rate=rate_hz, layout="mono") for _ in range(2)]
        for second in range(20):
            for i, lane in enumerate(lanes[: 1 if second >= 4 else 2]):
                samples = np.full((1, rate_hz), 1000 * (i + 1) + second, np.int16)
                frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                frame.rate, frame.pts = rate_hz, second * rate_hz
                container.mux(lane.encode(frame))
    _, found = read_all(path)
    assert found.shape == (2, 20 * rate_hz) and max(most) <= 4 * rate_hz
    seconds = np.rint(found[:, rate_hz // 2 :: rate_hz] * 32768)
    assert seconds[0].tolist() == [1000 + second for second in range(20)]
    assert seconds[1].tolist() == [2000, 2001, 2002, 2003, *[0] * 16]


@pytest.mark.parametrize("every_s", [3, 300, 500, 40_000])
def test_time_stamps_that_make_a_day_of_a_few_seconds_are_not_believed(tmp_path, own_scratch, every_s):
    """A second of sound every so many seconds; the header of the container says how long that would be."""
    path, rate_hz = tmp_path / "a.mkv", 8000
    with av.open(str(path), "w") as container:
        lane = container.add_stream("pcm_s16le", rate=rate_hz, layout="mono")
        for second in range(0, min(11 * every_s, 80_001), every_s):
            frame = av.AudioFrame.from_ndarray(np.full((1, rate_hz), 1000, np.int16), format="s16", layout="mono")
            frame.rate, frame.pts = rate_hz, second * rate_hz
            container.mux(lane.encode(frame))
    if every_s == 3:
        assert read_all(path)[0].duration_s == 31
    else:
        with pytest.raises(BadInputError, match="truncated audio"):
            read_all(path)
    assert sum(f.stat().st_size for f in scratch.folder().iterdir()) < 40_000_000


@pytest.mark.parametrize("claimed, whole", [(0x7FFFF000, True), (0x80000000, True), (3_000_000_000, False)])
def test_a_long_wav_that_is_cut_is_told_from_one_of_unknown_length(tmp_path, claimed, whole):
    data = bytearray(write_wav(tmp_path / "a.wav", tones(2, 8000, 2), 8000).read_bytes())
    at = data.index(b"data") + 4
    data[4:8], data[at : at + 4] = (claimed + 36).to_bytes(4, "little"), claimed.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    if whole:
        assert read_all(tmp_path / "a.wav")[0].notes == []
    else:
        with pytest.raises(BadInputError, match="truncated audio"):
            read_all(tmp_path / "a.wav")


def test_a_sound_by_the_suffix_of_bare_samples(tmp_path):
    path = write_wav(tmp_path / "a.wav", tones(1, 8000, 2), 8000).rename(tmp_path / "a.raw")
    assert read_all(path)[1].shape == (2, 8000)


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg"])
def test_where_reading_begins_does_not_matter(tmp_path, monkeypatch, own_scratch, name):
    """After seeking in these, libsndfile gives other samples, and python-soundfile seeks after every block."""
    monkeypatch.setattr(decoders, "BLOCK_FRAMES", 4001)
    path, rate_hz = tmp_path / name, 8000
    noise = np.random.default_rng(0).normal(0, 0.1, (rate_hz * 40, 1))
    noise[np.arange(len(noise)) % rate_hz > 0.6 * rate_hz] = 0  # in silence, MP3 saves bits for what comes next
    with soundfile.SoundFile(path, "w", rate_hz, 1) as out:
        for begin in range(0, len(noise), 4000):  # it cannot write much Vorbis at once
            out.write(noise[begin : begin + 4000])
    recording = Recording([Track(path)])
    whole = np.concatenate(list(recording.blocks(rate_hz, 12_345)), axis=1)
    again = np.concatenate(list(recording.blocks(rate_hz, 40_000)), axis=1)
    assert np.array_equal(whole, again)
    for start_s in np.linspace(0.1, 38, 60):
        first = round(start_s * rate_hz)
        assert np.array_equal(recording.window(start_s, start_s + 0.25, rate_hz), whole[:, first : first + 2000])
    at_once, _ = soundfile.read(path, dtype="float32")
    assert np.abs(whole[0] - at_once).max() <= 2.0**-16 + 1e-7


def test_a_playlist_is_no_recording(tmp_path):
    """It could name any file or address."""
    write_wav(tmp_path / "other.wav", tones(1, 8000, 2), 8000)
    for name, text in {
        "a.mp4": "ffconcat version 1.0\nfile other.wav\n",
        "b.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.wav\n#EXT-X-ENDLIST\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(BadInputError, match="unreadable audio"):
            probe(tmp_path / name)


def test_a_file_is_decoded_once(tmp_path, monkeypatch, own_scratch):
    path = encode(tmp_path / "a.m4a", "aac", "ipod")
    calls = []
    monkeypatch.setattr("segkit.decoding.probe.decode", lambda *args: calls.append(args) or decoders.decode(*args))
    with scratch.held():
        for _ in range(3):
            recording, _ = read_all(path)
            recording.window(1, 2, 16_000)
        assert len(calls) == 1
        wav = recording.infos[0].path
        wav.unlink()  # as if there had been no room
        assert recording.window(1, 2, 16_000).any()  # an open file outlasts its name
        assert read_all(path)[1].any() and len(calls) == 2
        os.utime(path, (1, 1))  # another file of the same name
        read_all(path)
        assert len(calls) == 3
    assert list(scratch.folder().iterdir()) == []


def test_decoded_files_take_half_of_the_disk_at_most(tmp_path, monkeypatch, own_scratch):
    def disk_of_4_mb(folder):
        return SimpleNamespace(free=4_000_000 - sum(path.stat().st_size for path in Path(folder).iterdir()))

    monkeypatch.setattr("segkit.decoding.scratch.shutil.disk_usage", disk_of_4_mb)
    with scratch.held():
        for i in range(5):
            read_all(encode(tmp_path / f"{i}.m4a", "aac", "ipod"))  # four seconds are 768 kB
            assert sum(path.stat().st_size for path in scratch.folder().iterdir()) <= 2_000_000
        assert len(list(scratch.folder().iterdir())) == 2


def test_processes_that_remove_each_others_files_read_theirs(tmp_path):
    """Each of three has room for one file, and reads three in turn."""
    names = [str(encode(tmp_path / f"{i}.m4a", "aac", "ipod")) for i in range(3)]
    script = f"""
import sys
from pathlib import Path
from segkit.audio import Recording
from segkit.decoding import scratch
from segkit.schemas import Track
scratch.MAX_SHARE = 0.0
for i in range(40):
    recording = Recording([Track(Path({names!r}[(i + int(sys.argv[1])) % 3]))])
    assert recording.window(1, 1.1, 48_000).any()
"""
    env = os.environ | {"TMPDIR": str(tmp_path)}
    runs = [subprocess.Popen([sys.executable, "-c", script, str(i)], env=env, stderr=subprocess.PIPE) for i in range(3)]
    said = [run.communicate()[1].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said


def test_a_full_disk_is_not_the_fault_of_the_file(tmp_path, own_scratch):
    path = encode(tmp_path / "a.m4a", "aac", "ipod")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    blocked = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(BadInputError, match=r"file cannot be opened: a\.m4a cannot be decoded to"):
            probe(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, blocked)
    assert probe(path).frames > 190_000


def test_what_a_killed_process_leaves_goes_when_the_next_one_begins(tmp_path):
    path = encode(tmp_path / "a.m4a", "aac", "ipod")
    env = os.environ | {"TMPDIR": str(tmp_path)}
    look = f"from segkit.decoding.probe import probe; from pathlib import Path; print(probe(Path({str(path)!r})).path)"
    stay = [sys.executable, "-c", f"{look.replace('print', 'w=')}; print(w, flush=True); input()"]
    with subprocess.Popen(stay, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        wav = Path(first.stdout.readline().strip())
        assert wav.is_relative_to(tmp_path) and wav.exists()
        left = wav.with_name("left.wav")
        left.touch()
        subprocess.run([sys.executable, "-c", look], env=env, check=True, capture_output=True)
        assert wav.exists() and left.exists()  # the first still uses them
        first.kill()
    assert wav.exists()
    subprocess.run([sys.executable, "-c", look], env=env, check=True, capture_output=True)
    assert list(wav.parent.iterdir()) == []


def test_a_folder_of_somebody_else_is_not_used(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"segkit-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    look = "from segkit.decoding import scratch; scratch.folder()"
    env = os.environ | {"TMPDIR": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", look], env=env, capture_output=True, text=True)
    assert found.returncode and "belongs to somebody else" in found.stderr


MUTANTS = 300


def test_300_mutated_files(tmp_path):
    """No crash, no hang, no memory taken away: a file is read, or its reason is told. In a process of its own."""
    kinds = [encode(tmp_path / f"{i}{Path(name).suffix}", *CONTAINERS[name][:2]) for i, name in enumerate(CONTAINERS)]
    kinds += [encode(tmp_path / "a.mp3", "libmp3lame", "mp3"), encode(tmp_path / "a.opus", "libopus", "opus")]
    for form in ("WAV", "FLAC", "NIST", "AIFF", "AU", "W64", "RF64"):
        soundfile.write(tmp_path / f"a.{form}", tones(2, 8000, 2), 8000, format=form)
        kinds.append(tmp_path / f"a.{form}")
    soundfile.write(tmp_path / "gsm.wav", tones(2, 8000, 1), 8000, subtype="GSM610")
    names = [str(path) for path in [*kinds, tmp_path / "gsm.wav"]]
    script = Path(__file__).with_name("mutated_audio.py")
    run = subprocess.run(
        [sys.executable, str(script), str(MUTANTS), *names], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-2000:]
    outcomes = dict(line.split("\t") for line in run.stdout.splitlines())
    assert sum(int(n) for reason, n in outcomes.items() if reason != "MB") == MUTANTS
    assert set(outcomes) <= {
        *("read", "MB", "unreadable audio", "truncated audio", "empty audio", "no audio", "NaN in audio"),
        *("implausible header", "recording too long"),
    }
    assert int(outcomes["read"]) > 50 and int(outcomes["truncated audio"]) > 20
    assert int(outcomes["MB"]) < 400


@pytest.mark.parametrize("corpus", ["stereo", "mono"])
def test_audio_under_a_suffix_of_nothing_is_named(tmp_path, corpus):
    for name in ("call.bin", "noname", "deep/call.x", "good.WAV", "video.wav", ".git/hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_wav(tmp_path / f"{name}.wav", tones(1, 8000, 2), 8000).rename(tmp_path / name)
    encode(tmp_path / "call.dat", "aac", "mp4")
    encode(tmp_path / "video.mp4", "aac", "mp4")  # its sound is beside it
    for name, content in {"a.x": b"text", "b.npy": b"\x93NUMPY", "call.txt": b"words", "notes.raw": b"words"}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "dead.bin").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.x")
    found = list(corpora.get(corpus)(tmp_path).find())
    conversations = {each.id: each.audio[0].name for each in found if isinstance(each, Conversation)}
    assert conversations == {"good": "good.WAV", "video": "video.wav"}
    problems = {each.source: each.reason for each in found if isinstance(each, Problem)}
    assert problems == dict.fromkeys(["call.bin", "noname", "deep/call.x", "call.dat"], "suffix is not of audio")
