"""All that can be set: each field with its meaning, source, unit and range.

`base.py` has how settings work; each other file holds the settings of one matter. Those of a corpus stand with its
adapter.
"""

from segkit.settings.base import Settings, setting
from segkit.settings.extraction import (
    AsrSettings,
    AudioSettings,
    BackchannelCriteria,
    ExtractionSettings,
    InterruptionCriteria,
    PauseCriteria,
    SegmentSettings,
    TimelineSettings,
    TrustCriteria,
    TurnTakingCriteria,
    VadSettings,
)
from segkit.settings.identity import as_json, fingerprint
from segkit.settings.models import ModelSettings, SamplingSettings
from segkit.settings.rewards import LITERAL, JudgeSettings, RewardSettings
from segkit.settings.training import AlignSettings, OptimiserSettings

__all__ = [
    "LITERAL",
    "AlignSettings",
    "AsrSettings",
    "AudioSettings",
    "BackchannelCriteria",
    "ExtractionSettings",
    "InterruptionCriteria",
    "JudgeSettings",
    "ModelSettings",
    "OptimiserSettings",
    "PauseCriteria",
    "RewardSettings",
    "SamplingSettings",
    "SegmentSettings",
    "Settings",
    "TimelineSettings",
    "TrustCriteria",
    "TurnTakingCriteria",
    "VadSettings",
    "as_json",
    "fingerprint",
    "setting",
]
