"""segkit: segments of real two-party conversations, and the alignment of full-duplex speech models with them.

    import segkit

    dataset = segkit.extract("stereo", "calls", "segments", settings={"pause.tau_min_s": 3})
    run = segkit.align(dataset, "run")
    run.metrics["axes/turn_taking/reward/timing"].plot()

What is here is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from segkit.api import align, extract, hydrate, merge, open_dataset, open_run, publish, report
    from segkit.dataset.dataset import Dataset, SegmentRow
    from segkit.errors import NothingUsableError, SegkitError, SegkitWarning, TrainingError, UsageError
    from segkit.models.open import open_model
    from segkit.runs import Run
    from segkit.schemas import Axis
    from segkit.settings import AlignSettings, ExtractionSettings, ModelSettings, RewardSettings, SamplingSettings

_HOMES = {
    "segkit.api": "align extract hydrate merge open_dataset open_run publish report",
    "segkit.dataset.dataset": "Dataset SegmentRow",
    "segkit.errors": "NothingUsableError SegkitError SegkitWarning TrainingError UsageError",
    "segkit.models.open": "open_model",
    "segkit.runs": "Run",
    "segkit.schemas": "Axis",
    "segkit.settings": "AlignSettings ExtractionSettings ModelSettings RewardSettings SamplingSettings",
}

__all__ = [
    "AlignSettings",
    "Axis",
    "Dataset",
    "ExtractionSettings",
    "ModelSettings",
    "NothingUsableError",
    "RewardSettings",
    "Run",
    "SamplingSettings",
    "SegkitError",
    "SegkitWarning",
    "SegmentRow",
    "TrainingError",
    "UsageError",
    "align",
    "extract",
    "hydrate",
    "merge",
    "open_dataset",
    "open_model",
    "open_run",
    "publish",
    "report",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for, once."""
    for home, names in _HOMES.items():
        if name in names.split():
            found = globals()[name] = getattr(import_module(home), name)
            return found
    raise AttributeError(f"module 'segkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
