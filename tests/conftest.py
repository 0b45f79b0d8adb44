"""Fixtures: synthetic conversations with known truth, and the folder of real dialogues."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from openai_server import server  # noqa: F401 - a fixture

from segkit import corpora
from segkit.corpora.synthetic import SyntheticOptions
from segkit.extract.job import Job
from segkit.extract.run import run
from segkit.schemas import PRESETS, Conversation
from segkit.schemas.settings import with_overrides

os.environ["HF_HUB_OFFLINE"] = "1"
SHARED = Path(__file__).parents[2] / "shared" / "data"

EASY = with_overrides(
    PRESETS["paper"],
    {
        "pause.tau_min_s": "2",
        "turn_taking.tau_min_s": "1.5",
        "backchannel.tau_min_s": "2",
        "interruption.tau_min_s": "1",
    },
)
"""Thresholds low enough for every axis to occur in a few minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, with the reason."""
    import torch

    for item in items:
        if item.get_closest_marker("shared_data") and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason="the real dialogues of ../shared/data are not here"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real dialogues; for tests marked `shared_data`."""
    return SHARED


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SyntheticOptions]:
    """Six rendered conversations of two minutes at 8 kHz: root and options of the corpus `synthetic`."""
    root = tmp_path_factory.mktemp("made")
    options = SyntheticOptions(hours=0.2, minutes=2.0, rate_hz=8000, speakers=16)
    corpus = corpora.get("synthetic")(root, options)
    for conversation in corpus.find():
        assert isinstance(conversation, Conversation)
        corpus.prepare(conversation)
    return root, options


@pytest.fixture(scope="session")
def recordings(made: tuple[Path, SyntheticOptions]) -> list[Path]:
    """The wav files of `made`."""
    return sorted(made[0].rglob("*.wav"))


@pytest.fixture(scope="session")
def dataset(made: tuple[Path, SyntheticOptions], tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A finished dataset of `made` in one process; tests only read it."""
    job = make_job(made, tmp_path_factory.mktemp("dataset") / "out")
    run(job)
    return job


def make_job(made: tuple[Path, SyntheticOptions], out: Path, **changes: object) -> Job:
    """A job on the synthetic conversations with thresholds at which every axis occurs."""
    root, options = made
    return Job(**{"corpus": "synthetic", "root": root, "out": out, "options": options, "settings": EASY, **changes})


def rows(job: Job) -> pa.Table:
    """All segments of a dataset with their audio, in the order of the files."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(job.data_dir.rglob("*.parquet"))])


def write_wav(path: Path, samples: np.ndarray, rate_hz: int) -> Path:
    """A 16-bit file of (samples, channels)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, subtype="PCM_16")
    return path
