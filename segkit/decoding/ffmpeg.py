"""Decode by FFmpeg, through PyAV: video containers, m4a, and whatever libsndfile does not open."""

import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from segkit.decoding.decoders import Cannot, Source
from segkit.decoding.headers import ends_too_early, head
from segkit.errors import BadInputError

DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,"
    "nut,ogg,qcp,rm,tta,voc,w64,wav,wtv,wv,xwma"
)
"""Formats that are asked; none that names other files or addresses, as a playlist does."""
COUNTING = {"aiff", "ape", "au", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "tta", "w64", "wav", "wv"}
"""Those that say how long each stream is."""
COUNTING_ALL = {"asf", "flv"}
"""Those that say how long the longest stream is."""
CLOCKS = {
    "asf",
    "avi",
    "flv",
    "matroska,webm",
    "mov,mp4,m4a,3gp,3g2,mj2",
    "mpeg",
    "mpegts",
    "mxf",
    "nut",
    "ogg",
    "rm",
    "wtv",
}
"""Those whose time stamps may leave a stretch out on purpose."""
AHEAD_S = 60
"""One stream may come so much earlier than the other; then the other one is silent."""
ROUNDING_S = 0.05
"""By so much they may be wrong: what the codec adds in front, and whole frames."""
MIN_GAP_S, MAX_GAP_S = 0.04, 600
"""Less is jitter. If silence is so much longer than what is heard, time stamps are broken: a file of a few kilobytes
could say that it lasts a day."""

Block = NDArray[np.int16]


@contextmanager
def by_ffmpeg(path: Path) -> Iterator[Source]:
    """The audio of a file: its first stream, or both where there are two of one channel.

    Raises:
        Cannot: FFmpeg does not know the format.
        BadInputError: there is no audio in it.
    """
    try:
        # as a URL, for a relative path can look like one: http:/host/file
        options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
        container = av.open(f"file:{path.absolute()}", options=options)
    except (av.FFmpegError, ValueError) as error:
        raise Cannot(f"FFmpeg: {getattr(error, 'strerror', error)}") from error
    with container:
        if not container.streams.audio:
            raise BadInputError("no audio", f"{path.name} holds no audio stream")
        if any(stream.codec_context is None for stream in container.streams.audio):
            raise Cannot("FFmpeg: it has no decoder for the codec")
        yield _Container(path, container)


class _Lane:
    """One stream on its way from packets to samples, on the clock of its time stamps."""

    def __init__(self, stream: Any, rate_hz: int, start_s: float, length_s: float | None) -> None:
        self.stream, self.rate_hz, self.start_s = stream, rate_hz, start_s
        self.length = None if length_s is None else round(length_s * rate_hz)
        self.frames = self.ready = self.silence = self.lost = self.silent_until = 0
        self.waiting: deque[Block] = deque()
        self.has_clock = stream.container.format.name in CLOCKS
        self.form: Any = None
        self.resampler: Any = None

    def take(self, packet: Any) -> None:
        """Decode a packet; a broken one is silence, and counted."""
        try:
            frames = packet.decode()
        except av.FFmpegError:
            length = round(self.rate_hz * float((packet.duration or 0) * packet.time_base))
            self.lost += length or 1
            self._put_silence(length)
            return
        for frame in frames:
            at = self.frames if frame.time is None else round((frame.time - self.start_s) * self.rate_hz)
            if at < self.silent_until:  # too late: silence was handed over in its place
                self.lost += frame.samples
                continue
            self._fill_up(at - self.frames, frame.samples)
            form = frame.format.name, frame.layout.name, frame.sample_rate
            if form != self.form:  # the links of a chain may differ
                self.form = form
                self.resampler = av.AudioResampler(format="s16", layout=self.stream.layout, rate=self.rate_hz)
            for part in self.resampler.resample(frame):
                self._put(part.to_ndarray().reshape(-1, self.stream.channels))

    def _fill_up(self, late: int, samples: int) -> None:
        """Put silence where time stamps jump ahead; they are wrong if they jump too far.

        Only a container has a clock of its own; elsewhere, they count frames, and what is jumped over is lost.
        """
        heard = self.frames - self.silence
        room = MAX_GAP_S * self.rate_hz + heard - self.silence
        if self.length is not None:
            room = min(room, self.length - self.frames)
        if max(samples, MIN_GAP_S * self.rate_hz) <= late <= room:  # less is jitter
            self.lost += 0 if self.has_clock else late
            self._put_silence(late)

    def _put_silence(self, frames: int) -> None:
        self.silence += frames
        second = np.zeros((self.rate_hz, self.stream.channels), np.int16)  # one, however long the silence is
        for _ in range(frames // self.rate_hz):
            self._put(second)
        self._put(second[: frames % self.rate_hz])

    def _put(self, samples: Block) -> None:
        self.waiting.append(samples)
        self.frames += len(samples)
        self.ready += len(samples)

    def hand_over(self, frames: int) -> Block:
        """The next frames; silence where there are no more."""
        out = np.zeros((frames, self.stream.channels), np.int16)
        filled = 0
        while filled < frames and self.waiting:
            part = self.waiting.popleft()
            used = part[: frames - filled]
            out[filled:][: len(used)] = used
            filled += len(used)
            if len(used) < len(part):
                self.waiting.appendleft(part[len(used) :])
        self.ready -= filled
        if filled < frames:
            self.frames += frames - filled
            self.silent_until = self.frames
        return out


class _Container:
    """The audio of a container: one stream, or one of each speaker."""

    subtype = "PCM_16"

    def __init__(self, path: Path, container: Any) -> None:
        streams = container.streams.audio
        each_one = len(streams) == 2 and all(stream.channels == 1 for stream in streams)
        self.container, self.streams = container, streams if each_one else streams[:1]
        self.channels = sum(stream.channels for stream in self.streams)
        self.samplerate = max(stream.rate or 0 for stream in self.streams)
        start_s = max(container.start_time or 0, 0) / av.time_base
        self.lanes = {s.index: _Lane(s, self.samplerate, start_s, _length_s(path, container, s)) for s in self.streams}
        self.frames = max(lane.length or 0 for lane in self.lanes.values())
        self.path, self.whole = path, True

    def blocks(self) -> Iterator[Block]:
        """The samples of all streams, side by side, about a second at a time."""
        lanes = list(self.lanes.values())
        for packet in self._packets():
            self.lanes[packet.stream.index].take(packet)
            ready = [lane.ready for lane in lanes]
            while min(ready) >= self.samplerate or max(ready) >= AHEAD_S * self.samplerate:
                ready = [each - self.samplerate for each in ready]
                yield np.concatenate([lane.hand_over(self.samplerate) for lane in lanes], axis=1)
        while rest := min(max(lane.ready for lane in lanes), self.samplerate):
            yield np.concatenate([lane.hand_over(rest) for lane in lanes], axis=1)

    def _packets(self) -> Iterator[Any]:
        try:
            yield from self.container.demux(self.streams)
        except (av.FFmpegError, IndexError):  # PyAV's own, for a stream that begins later
            self.whole = False

    def missing_s(self, held: int) -> float:
        """By the length that the container says, or what was broken; inf if the end is not found, nor known."""
        lanes = self.lanes.values()
        if not self.frames and (not self.whole or ends_too_early(self.path, self.container.format.name)):
            return inf
        short = max((lane.length or 0) - held for lane in lanes)
        lost = max(lane.lost for lane in lanes)
        return max(short if short > ROUNDING_S * self.samplerate else 0, lost) / self.samplerate


def _length_s(path: Path, container: Any, stream: Any) -> float | None:
    """How long a container says that a stream is; None where it does not, or only estimates it."""
    name = container.format.name
    if name == "caf" and stream.codec_context.name.startswith("pcm") and stream.rate:  # its duration is the file's
        return float(stream.frames / stream.rate)
    if name in COUNTING and stream.duration:
        return float(stream.duration * stream.time_base)
    said = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if name == "matroska,webm" and said:
        return int(said[1]) * 3600 + int(said[2]) * 60 + float(said[3])
    alone = len(container.streams) == len(container.streams.audio)  # a picture may go on after the sound
    says = name in COUNTING_ALL or (
        name == "matroska,webm" and any(key in head(path) for key in (b"D\x89\x84", b"D\x89\x88"))
    )
    return container.duration / av.time_base if alone and says and container.duration else None
