"""A stretch of two tracks to look at and to listen to, for a page: places in percent, outlines, and an MP3.

The user's lane is above and on the left ear, the agent's below and on the right. Times are seconds from the start of
the segment; what lies before it, the context, is negative.
"""

import base64
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from segkit.audio import decode_flac_at, sample_at
from segkit.dataset.statistics import is_known
from segkit.errors import SegkitError
from segkit.reporting.picture import SHOWN_CONTEXT_S, events

SOUND_HZ, SOUND_KBIT_S = 16_000, 40
"""A constant bit rate, so that every browser seeks exactly; below 40 kbit/s LAME's tag does not fit, and with it the
length of the silence that MP3 puts in front."""
SHOWN_S = 50.0
"""At most this much of a segment is drawn and heard: with 10 s of context, 40 segments stay below 20 MB."""
COLUMNS = 600
PIXELS_PER_S = 44
"""A picture is at least this wide, and scrolls on a narrow screen."""
WORD_ROWS, EVENT_ROWS = 5, 3
LETTER_PX, LONGEST_PX = 6.6, 150
"""Of a text in a picture: the width of a letter, and what a word may take of the room before the right edge."""
ROLES = ("user", "agent")


@dataclass(frozen=True)
class Span:
    """Something with a place in a picture, in percent of its width, in one of several rows; with or without a text."""

    left: float
    width: float
    text: str = ""
    row: int = 0


@dataclass(frozen=True)
class Lane:
    """What one speaker does: the outline of the waveform in an SVG of COLUMNS x 200, speech, words, events."""

    role: str
    wave: str = ""
    speech: tuple[Span, ...] = ()
    words: tuple[Span, ...] = ()
    events: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Clip:
    """A picture of two lanes with its sound: base64 of an MP3, empty where there is none.

    Attributes:
        start_s: where the picture begins; negative by the shown context.
        length_s: of the picture, and of the sound.
        facts: names and values to print beside it.
    """

    id: str
    axis: str
    title: str
    start_s: float
    length_s: float
    lanes: tuple[Lane, Lane]
    sound: str
    facts: dict[str, str]
    corpus: str = ""

    @property
    def ticks(self) -> list[Span]:
        """Round seconds, at most 14 of them."""
        step = next(step for step in (1, 2, 5, 10, 30, 600) if self.length_s / step <= 14 or step == 600)
        first, last = math.ceil(self.start_s / step), math.floor((self.start_s + self.length_s) / step)
        return [Span(self._place(i * step), 0, f"{i * step}") for i in range(first, last + 1)]

    @property
    def label(self) -> str:
        """What a screen reader says of it."""
        return f"{self.axis.replace('_', ' ')}, {self.title}, {self.length_s:.1f} seconds"

    @property
    def context(self) -> float:
        """Percent of the width that is context."""
        return self._place(0.0)

    def _place(self, time_s: float) -> float:
        return round(100 * (time_s - self.start_s) / self.length_s, 2)


def of_segment(row: Mapping[str, Any]) -> Clip:
    """A row of a dataset with its audio, if it has any.

    Raises:
        SegkitError: the audio cannot be decoded.
    """
    context_s, length_s = min(row["context_s"], SHOWN_CONTEXT_S), min(row["duration_s"], SHOWN_S)
    start_s, total_s = -context_s, max(context_s + length_s, 1e-3)
    tracks = _tracks(row, row["context_s"] - context_s, total_s)
    words, marks = row["words"] or [], list(events(row))
    lanes = [
        Lane(
            role,
            outline(tracks[i]) if tracks is not None and row[role] else "",
            tuple(_spans([(a, b, "") for a, b in row[f"{role}_activity"]], start_s, total_s)),
            tuple(place_words([word for word in words if word["speaker"] == role], start_s, total_s)),
            tuple(place_marks([mark[1:] for mark in marks if mark[0] == role], start_s, total_s)),
        )
        for i, role in enumerate(ROLES)
    ]
    title = f"{row['corpus']}/{row['recording_id']}"
    sound = mp3(tracks) if tracks is not None else ""
    pair = (lanes[0], lanes[1])
    return Clip(row["id"], row["axis"], title, start_s, total_s, pair, sound, _facts(row), row["corpus"])


def _tracks(row: Mapping[str, Any], first_s: float, length_s: float) -> NDArray[np.float32] | None:
    """Both tracks (2, samples) at SOUND_HZ; silence for one that is missing, None where there is no sample."""
    try:
        found = {role: decode_flac_at(row[role]["bytes"], SOUND_HZ) for role in ROLES if row[role]}
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise SegkitError(
            f"The audio of segment {row['id']} cannot be decoded: {reason}. Extract or hydrate the dataset again."
        ) from error
    silence = np.zeros(max(map(len, found.values()), default=0), np.float32)
    first = sample_at(first_s, SOUND_HZ)
    tracks = np.stack([found.get(role, silence) for role in ROLES])[:, first : first + sample_at(length_s, SOUND_HZ)]
    return tracks if tracks.size else None


def _facts(row: Mapping[str, Any]) -> dict[str, str]:
    """What to print about a row: only what is known."""
    heard = [role for role in ROLES if row[role]]
    levels = {"SNR user": "user_snr_db", "SNR agent": "agent_snr_db", "crosstalk": "bleed_db"}
    facts = {"split": row["split"], "in the recording": f"{row['start_s']:.2f} to {row['end_s']:.2f} s"}
    facts |= {name: f"{row[column]:.0f} dB" for name, column in levels.items() if is_known(row[column])}
    facts |= {"both speak": f"{row['overlap_share']:.0%}"} if is_known(row["overlap_share"]) else {}
    facts |= {"clipped": "yes"} if row["clipped"] else {}
    facts |= {"tracks": row["derived"]} if row["derived"] else {}
    facts |= {"audio": f"{heard[0]} only"} if len(heard) == 1 else {}
    facts |= {"shown": f"first {SHOWN_S:.0f} s"} if row["duration_s"] > SHOWN_S else {}
    return facts


def of_file(path: Path, name: str, axis: str, title: str, facts: dict[str, str]) -> Clip:
    """A stereo file of a completion: the user left, the model right."""
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    stereo = samples[: sample_at(SHOWN_S, rate_hz), [0, -1]]
    tracks = soxr.resample(stereo, rate_hz, SOUND_HZ).T
    lanes = Lane("user", outline(tracks[0])), Lane("agent", outline(tracks[1]))
    return Clip(name, axis, title, 0.0, len(stereo) / rate_hz, lanes, mp3(tracks), facts)


def _spans(stretches: list[tuple[float, float, str]], start_s: float, total_s: float) -> Iterator[Span]:
    """Stretches of time as places in the picture; those outside of it are left out."""
    for a, b, text in stretches:
        left, right = (min(max((t - start_s) / total_s, 0), 1) * 100 for t in (min(a, b), max(a, b)))
        if right > left or 0 < left < 100:
            yield Span(round(left, 2), round(right - left, 2), text)


def place_marks(stretches: list[tuple[float, float, str]], start_s: float, total_s: float) -> Iterator[Span]:
    """Events with their texts in rows, each in the middle of its event."""
    spans = list(_spans(stretches, start_s, total_s))
    pixels = PIXELS_PER_S * total_s
    middles = [(span, (span.left + span.width / 2) / 100 * pixels) for span in spans]
    places = [(x - len(span.text) * LETTER_PX / 2, x + len(span.text) * LETTER_PX / 2) for span, x in middles]
    for span, row in zip(spans, _rows(places, EVENT_ROWS), strict=True):
        yield replace(span, row=row)


def place_words(words: list[dict[str, Any]], start_s: float, total_s: float) -> Iterator[Span]:
    """Words in rows; `width` is the room up to the next word of the row. One at the right edge moves to the left."""
    pixels = PIXELS_PER_S * total_s
    placed = []
    for word in words:
        left_px, width_px = (word["start_s"] - start_s) * PIXELS_PER_S, len(word["text"]) * LETTER_PX + 6
        if 0 <= left_px < pixels and word["text"].strip():
            placed.append((max(min(left_px, pixels - min(width_px, LONGEST_PX)), 0.0), width_px, word["text"]))
    placed.sort()
    rows = list(_rows([(left_px, left_px + width_px) for left_px, width_px, _ in placed], WORD_ROWS))
    for i, (left_px, _, text) in enumerate(placed):
        end_px = next(
            (other[0] for other, row in zip(placed[i + 1 :], rows[i + 1 :], strict=True) if row == rows[i]), pixels
        )
        yield Span(round(100 * left_px / pixels, 2), round(100 * (end_px - left_px) / pixels, 2), text, rows[i])


def _rows(places: Iterable[tuple[float, float]], count: int) -> Iterator[int]:
    """For texts from left to right, each from one pixel to another: the first of `count` rows that has room.

    Where none has, the one that is free soonest.
    """
    free_px = [-math.inf] * count
    for left_px, right_px in places:
        row = next((i for i, edge in enumerate(free_px) if edge <= left_px), free_px.index(min(free_px)))
        free_px[row] = right_px
        yield row


def outline(samples: NDArray[np.float32]) -> str:
    """The waveform as points of an SVG polygon: the highest samples from left to right, the lowest back."""
    if not len(samples):
        return ""
    edges = np.unique(np.linspace(0, len(samples), COLUMNS, endpoint=False).astype(int))
    scale = 96 / max(float(np.abs(samples).max(initial=0.0)), 0.05)
    high, low = (100 - scale * extreme.reduceat(samples, edges) for extreme in (np.maximum, np.minimum))
    columns = np.linspace(0, COLUMNS, len(edges))
    corners = [*zip(columns, high, strict=True), *zip(columns[::-1], low[::-1], strict=True)]
    return " ".join(f"{x:.0f},{y:.0f}" for x, y in corners)


def mp3(tracks: NDArray[np.float32]) -> str:
    """Two tracks (2, samples) at SOUND_HZ as base64 of a stereo MP3."""
    buffer = io.BytesIO()
    level = (160 - SOUND_KBIT_S) / (160 - 8)  # libsndfile's scale from 160 down to 8 kbit/s
    stereo = np.clip(tracks.T, -1, 1)
    kind = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT"}
    soundfile.write(buffer, stereo, SOUND_HZ, compression_level=level, **kind)
    return base64.b64encode(buffer.getvalue()).decode()
