"""Annotators and the timeline: who speaks when, from activity to candidate segments."""

import os

os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")  # pyannote.audio reports to its makers otherwise
