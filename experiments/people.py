"""What the agents of recordings get from the rewards: one by which people do badly is wrong.

Each of some datasets is read three ways: segkit extract switchboard ms98 -o F/switchboard --vad transcript
--annotations-only, then python experiments/people.py F/switchboard F/train.
"""

from pathlib import Path

import numpy as np
import typer
from typer import echo

from segkit import Axis, Dataset, RewardSettings
from segkit.alignment.rewards import human
from segkit.settings import LITERAL

READINGS = {
    "sustained": RewardSettings(),
    "onset": RewardSettings(response="onset"),
    "the text": LITERAL,
}


def people(datasets: list[Path]) -> None:
    """Mean and standard error of the reward, and the means of what it came from."""
    echo("| axis | dataset | reading | segments | reward | what it came from |\n|" + 6 * "---|")
    for axis in Axis:
        for dataset in datasets:
            rows = Dataset(dataset).table(axis).to_pylist()
            for name, reading in READINGS.items():
                found = [human(row, reading) for row in rows]
                if not found:
                    continue
                values = np.concatenate([each.value for each in found])
                parts = {key: np.concatenate([each.diagnostics[key] for each in found]) for key in found[0].diagnostics}
                told = [f"{key} {np.nanmean(of):.2f}" for key, of in parts.items() if not np.isnan(of).all()]
                error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
                echo(
                    f"| {axis} | {dataset.name} | {name} | {len(values)} | {values.mean():+.2f} ± {error:.2f} | "
                    f"{', '.join(told)} |"
                )


if __name__ == "__main__":
    typer.run(people)
