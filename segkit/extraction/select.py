"""Second stage: which of the segments that were found go into the dataset, and into which split.

Nothing here depends on the order or number of workers: chance comes from hashes of names and the seed.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segkit.schemas import SPLITS, Axis, Intervals
from segkit.segmenters.axes import Patterns
from segkit.settings import fingerprint


@dataclass(frozen=True, slots=True, eq=False)
class Annotated:
    """What the selection knows of a usable recording.

    Attributes:
        part: the file that holds its annotation.
        patterns: its segments, by axis and track of the user.
        dropped: counts of what was no segment, by axis and reason.
    """

    recording_id: str
    part: Path
    speakers: tuple[str, str]
    duration_s: float
    patterns: dict[tuple[Axis, int], Patterns]
    dropped: dict[Axis, Counter[str]]


@dataclass(frozen=True, slots=True, eq=False)
class Pick:
    """A selected segment, not yet cut: its recording, the axis, the user's track, the pattern (k, 2)."""

    id: str
    recording_id: str
    part: Path
    axis: Axis
    user: int
    pattern: Intervals


def select(recordings: Sequence[Annotated], axis: Axis, per_axis: int, seed: int, settings_hash: str) -> list[Pick]:
    """At most `per_axis` segments of an axis, spread evenly over speakers, then over recordings.

    The next segment always comes from the recording whose busier speaker has the fewest so far; among
    those, from the one with the fewest itself; then chance decides, as it does within a recording.
    """
    waiting = {r.recording_id: _shuffled(r, axis, seed, settings_hash) for r in recordings}
    speakers = {r.recording_id: r.speakers for r in recordings}
    by_speaker: dict[str, int] = defaultdict(int)
    by_recording: dict[str, int] = defaultdict(int)

    def load(name: str) -> tuple[int, int, str]:
        busier = max(by_speaker[speaker] for speaker in speakers[name])
        return busier, by_recording[name], fingerprint(seed, axis, name)

    queue = [(load(name), name) for name, segments in waiting.items() if segments]
    heapq.heapify(queue)
    picks: list[Pick] = []
    while queue and len(picks) < per_axis:
        key, name = heapq.heappop(queue)
        if key != load(name):  # a speaker of it was busy elsewhere: loads only grow, so look again
            heapq.heappush(queue, (load(name), name))
            continue
        picks.append(waiting[name].pop())
        by_recording[name] += 1
        for speaker in speakers[name]:
            by_speaker[speaker] += 1
        if waiting[name]:
            heapq.heappush(queue, (load(name), name))
    return picks


def _shuffled(recording: Annotated, axis: Axis, seed: int, settings_hash: str) -> list[Pick]:
    picks = []
    for user in (0, 1):
        for pattern in recording.patterns[axis, user]:
            times = pattern.round(6).tolist()
            segment_id = fingerprint(settings_hash, recording.recording_id, axis, user, times)
            picks.append(Pick(segment_id, recording.recording_id, recording.part, axis, user, pattern))
    return sorted(picks, key=lambda pick: fingerprint(seed, pick.id))


def assign_splits(recordings: Iterable[Annotated], shares: tuple[float, float, float], seed: int) -> dict[str, str]:
    """A split for every recording, such that no speaker is in two of them.

    Recordings that share speakers stay together. Groups go, longest first, to the split that is
    furthest below its share of the hours; a split that got none although it wants some takes the
    shortest group of a split that has several.
    """
    groups = _connected(recordings)
    hours = {key: sum(r.duration_s for r in group) for key, group in groups.items()}
    wanted = {split: share * sum(hours.values()) for split, share in zip(SPLITS, shares, strict=True) if share}
    placed: dict[str, list[str]] = {split: [] for split in wanted}
    order = sorted(groups, key=lambda key: (-hours[key], fingerprint(seed, key)))
    for key in order:
        split = max(wanted, key=lambda name: wanted[name] - sum(hours[k] for k in placed[name]))
        placed[split].append(key)
    for split in wanted:
        donor = max(placed, key=lambda name: len(placed[name]))
        if not placed[split] and len(placed[donor]) > 1:
            placed[split].append(placed[donor].pop())
    return {r.recording_id: split for split, keys in placed.items() for key in keys for r in groups[key]}


def _connected(recordings: Iterable[Annotated]) -> dict[str, list[Annotated]]:
    """Groups of recordings that are linked by speakers, keyed by one of the group's speakers."""
    parent: dict[str, str] = {}

    def find(speaker: str) -> str:
        root = speaker
        while parent.setdefault(root, root) != root:
            root = parent[root]
        while parent[speaker] != root:
            parent[speaker], speaker = root, parent[speaker]
        return root

    recordings = list(recordings)
    for recording in recordings:
        first, second = map(find, sorted(recording.speakers))
        parent[max(first, second)] = min(first, second)
    groups = defaultdict(list)
    for recording in recordings:
        groups[find(recording.speakers[0])].append(recording)
    return groups
