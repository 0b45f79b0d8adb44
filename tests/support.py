"""What several tests need: the command line, jobs, datasets, runs, models, pages."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from segkit import cli
from segkit.corpora.synthetic import SyntheticOptions
from segkit.extraction.job import Job
from segkit.models.protocols import Completions
from segkit.models.streaming import Generator, Sampler
from segkit.reporting.page import write_report
from segkit.runs import RunFolder
from segkit.schemas import Axis
from segkit.settings import ExtractionSettings

EASY = {
    "pause.tau_min_s": 2,
    "turn_taking.tau_min_s": 1.5,
    "backchannel.tau_min_s": 2,
    "interruption.tau_min_s": 1,
}
"""Thresholds low enough for every axis to occur in a few minutes."""

QUICK = {"rate_hz": None, "context_s": 2.0}
"""Settings of a job that has little to resample and to encode, where the audio does not matter."""

AXES = [str(axis) for axis in Axis]

TIMES = "frames_per_s", "sampling_share", "memory_gib"
"""What depends on the machine, among metrics."""


def segkit(*arguments: object, capsys=None) -> tuple[int, str, str]:
    """Run the command line in this process: exit code, standard output, standard error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["segkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    printed = capsys.readouterr() if capsys else ("", "")
    return stopped.value.code, printed[0], printed[1]


def make_job(made: tuple[Path, SyntheticOptions], out: Path, corpus: str = "synthetic", **changes: object) -> Job:
    """A job on the synthetic conversations with thresholds at which every axis occurs.

    Changes are `root` and `options` of the job, and settings, with __ in the place of a dot.
    """
    root, options = made
    given = {"root": root, "options": options if corpus == "synthetic" else None} | {
        name: changes.pop(name) for name in ("root", "options") if name in changes
    }
    values = EASY | {name.replace("__", "."): value for name, value in changes.items()}
    return Job(corpus, out=out, settings=ExtractionSettings().changed(values), **given)


def rows(job: Job) -> pa.Table:
    """All segments of a dataset with their audio, in the order of the files."""
    return pa.concat_tables([pq.read_table(path) for path in job.folder.shards()])


def write_wav(path: Path, samples: np.ndarray, rate_hz: int) -> Path:
    """A 16-bit file of (samples, channels)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, subtype="PCM_16")
    return path


def rewritten(job, out, change):
    """A copy of a dataset whose shards went through `change`."""
    for path in sorted(job.out.rglob("*")):
        target = out / path.relative_to(job.out)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            if path.suffix == ".parquet" and path.parent.parent.name == "data":
                change(target)
    return out


def report_on_changed(job, folder, change, per_axis=3):
    """The page `changed.html` about the copy `changed` of a dataset whose rows were changed by a function."""

    def change_rows(path):
        table = pq.read_table(path)
        pq.write_table(pa.Table.from_pylist([row | change(row) for row in table.to_pylist()], table.schema), path)

    write_report(rewritten(job, folder / "changed", change_rows), folder / "changed.html", per_axis=per_axis)
    return Page(folder / "changed.html")


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def result(folder):
    """Weights, moments and metrics of a finished run, without what depends on the machine's mood."""
    last = RunFolder(folder).checkpoints()[-1]
    metrics = [{k: v for k, v in line.items() if k not in TIMES} for line in lines(folder)]
    return load_file(last / "optimiser.safetensors"), metrics


def disturb(policy, by=0.05):
    """Weights somewhere else than at the beginning, where an adapter is nothing."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in policy.parameters().values():
            weight += by * torch.randn_like(weight)


def sample(policy, user, force=None):
    """Completions and the text logits that sampling saw, (B, steps, V); `force` may overwrite audio tokens."""
    logits, steps = [], iter(range(10_000))
    with pytest.MonkeyPatch.context() as patch:
        see, hear = Generator.on_logits, Generator.on_audio

        def on_audio(generator, tokens):
            if force:
                force(next(steps), tokens)
            hear(generator, tokens)

        patch.setattr(Generator, "on_logits", lambda each, x: (logits.append(x[:, 0, 0].clone()), see(each, x)))
        patch.setattr(Generator, "on_audio", on_audio)
        policy.sampler = Sampler(policy.lm, policy.sampling)  # hooks are bound when a generator is made
        said = policy.sample(list(user), range(len(user)), len(user), lambda *_: None)
        policy.sampler = Sampler(policy.lm, policy.sampling)
        return Completions.concatenate(said), torch.stack(logits, 1)


@torch.no_grad()
def teacher_forced(policy, completions):
    with policy.updating():
        return policy.text_logits(completions)


def assert_streaming_is_teacher_forcing(policy, user, lengths):
    """In all text logits, to 1e-4: of the beginnings of completions, a row for each length, the first one whole."""
    completions, streamed = sample(policy, user)
    for row, length in enumerate(lengths):
        whole = completions[row : row + 1]
        parts = whole.user, whole.text, whole.audio, whole.log_probs
        begun = Completions(*(part[..., :length] for part in parts))
        assert (teacher_forced(policy, begun)[0] - streamed[row, :length]).abs().max() <= 1e-4
    late = Completions(user.roll(1, 2), completions.text, completions.audio, completions.log_probs)
    assert (
        teacher_forced(policy, late) - streamed[:, : lengths[0]]
    ).abs().max() > 0.1  # a slip of one frame would show


class Page(HTMLParser):
    """The elements of a page as (tag, attributes), and its text outside of styles and scripts."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.found, self.text, self.open = [], "", []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data

    def all(self, tag, name=None):
        """The attributes of the elements of a tag, and of a class."""
        return [a for t, a in self.found if t == tag and (name is None or name in a.get("class", "").split())]


def needs_nothing_else(page):
    assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(https?:)?//", page.source)
    assert not re.search(r"url\(|@import|https?://", "".join(re.findall(r"(?s)<(?:style|script)>.*?</", page.source)))
    links = [a[name] for _, a in page.found for name in ("src", "href") if name in a]
    assert all(link.startswith(("data:", "#")) for link in links)
    targets = {a.get("id") for _, a in page.found}
    assert {link[1:] for link in links if link.startswith("#")} <= targets
