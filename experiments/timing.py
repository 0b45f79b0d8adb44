"""Gaps, overlaps and pauses of whole corpora, from the annotations of dataset folders: a picture and a table.

    python experiments/timing.py PNG NAME=FOLDER [NAME=FOLDER ...]

After Heldner and Edlund (2010): speech of one speaker with silences under 180 ms is one inter-pausal unit (IPU). Where
the next IPU is the other's and ends later, the floor is transferred: by a gap, or, with a negative offset, an overlap.
Where it is the same speaker's, there is a pause.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from segkit.dataset.folder import Folder
from segkit.dataset.rows import activity_of, read
from segkit.segmenters.axes import consecutive
from segkit.segmenters.timeline import count_touching, durations, speech
from segkit.settings import TimelineSettings

IPU_SILENCE_S = 0.18
BIN_S = 0.1
SHOWN_S = (-1.5, 3.0)
LITERATURE_MODE_S = 0.2


def intervals(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Floor transfer offsets and pauses of all recordings of a dataset folder, seconds."""
    settings = TimelineSettings(max_pause_s=IPU_SILENCE_S)
    offsets, pauses = [], []
    table = pa.concat_tables(read(path, ["activity", "problem"]) for path in Folder(folder).parts())
    for spoken in table.filter(pc.is_null(table["problem"]))["activity"]:
        ipus = [speech(track, settings) for track in activity_of(spoken)]
        for x, y in (ipus, ipus[::-1]):
            change = consecutive(x, y, 2)
            offsets.append((change[:, 1, 0] - change[:, 0, 1])[change[:, 1, 1] > change[:, 0, 1]])
            silences = np.stack([x.utterances[:-1, 1], x.utterances[1:, 0]], axis=1)
            pauses.append(durations(silences[count_touching(y.utterances, silences) == 0]))
    return np.concatenate(offsets), np.concatenate(pauses)


def main(png: str, *sources: str) -> None:
    """Draw the histograms, and print what describes them."""
    figure = Figure(figsize=(10, 3.6), dpi=120, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    columns = ("corpus", "floor transfers", "overlaps", "under 0.2 s", "median s", "mode s", "pauses", "median s")
    table = Table(*columns)
    bins = np.arange(*SHOWN_S, BIN_S)
    for source in sources:
        name, _, folder = source.partition("=")
        offsets, pauses = intervals(Path(folder))
        counts, _ = np.histogram(offsets, bins)
        mode = bins[counts.argmax()]
        for ax, values in zip(axes, (offsets, pauses), strict=True):
            weights = np.full(len(values), 100 / len(values))
            ax.hist(values, bins, weights=weights, histtype="step", lw=1.6, label=f"{name} ({len(values):,})")
        shares = [f"{100 * (offsets < limit).mean():.0f} %" for limit in (0, 0.2)]
        spread = f"{mode:.1f} to {mode + BIN_S:.1f}"
        medians = f"{np.median(offsets):.2f}", spread, f"{len(pauses):,}", f"{np.median(pauses):.2f}"
        table.add_row(name, f"{len(offsets):,}", *shares, *medians)
    axes[0].axvline(LITERATURE_MODE_S, color="#888888", ls="--", lw=1)
    axes[0].text(LITERATURE_MODE_S + 0.05, axes[0].get_ylim()[1] * 0.94, "mode in the literature", fontsize=8)
    for ax, title in zip(axes, ("floor transfers: overlaps < 0 < gaps", "pauses of one speaker"), strict=True):
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("seconds")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8, loc="upper right" if ax is axes[1] else "center right")
    axes[1].set_xlim(0, SHOWN_S[1])
    axes[0].set_ylabel(f"% per {BIN_S:g} s")
    figure.savefig(png)
    Console(width=120).print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
