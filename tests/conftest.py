"""Fixtures: synthetic conversations with known truth, and the folder of real dialogues."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported, which reads it once

from pathlib import Path

import pytest
from hub_server import hub  # noqa: F401 - a fixture
from openai_server import server  # noqa: F401 - a fixture
from support import make_job

from segkit import corpora
from segkit.corpora.synthetic import SyntheticOptions
from segkit.extraction.job import Job
from segkit.extraction.run import run
from segkit.schemas import Conversation

SHARED = Path(__file__).parents[2] / "shared" / "data"


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


@pytest.fixture(scope="session")
def small(made: tuple[Path, SyntheticOptions], tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A dataset of four conversations of `made` at their own rate, for pages and pictures; tests only read it.

    Most contexts are longer than the 10 s that are shown.
    """
    job = make_job(made, tmp_path_factory.mktemp("small") / "out", rate_hz=None, context_s=12, limit=4)
    run(job)
    return job
