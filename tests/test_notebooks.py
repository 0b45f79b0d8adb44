"""The notebooks run from scratch, and what is committed of them is what they say.

Each is executed in an empty folder, offline, as a reader would. A cell at the end of the copy asks the notebook's own
variables whether what its text says is so.
"""

import re
import warnings
from pathlib import Path

import nbformat
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Jupyter's own, on import
    from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
MACHINE = re.compile(r"/(root|home|tmp|work|Users|private|var|mnt|opt)\b|site-packages|ipykernel_\d|[A-Z]:\\")
MAX_BYTES = 500_000

SMALLER = {
    "03_align_nano": {
        "HOURS = 0.5": "HOURS = 0.25",
        "STEPS = 10": "STEPS = 2",
        "GROUPS = 4": "GROUPS = 2",
        "COMPLETIONS = 8": "COMPLETIONS = 4",
        "LONGEST_S = 14": "LONGEST_S = 8",
        "HELD_OUT = 10": "HELD_OUT = 2",
    },
}
"""What is changed in the first cell of a notebook, to be done sooner."""

CLAIMS = {
    "01_explore_a_dataset": """
from segkit.corpora.synthetic import read_truth

assert set(segments.axis) == {"pause", "turn_taking", "backchannel", "interruption"} and len(segments) > 100
assert len(segments) == len(clean) + len(noisy) and all(len(opened[name]) == len(tables[name]) for name in DATASETS)
assert len(turns) == clean.record.segments["turn_taking"].splits["train"]
medians = segments.groupby("dataset")[["user_snr_db", "bleed_db"]].median()
assert medians.user_snr_db["clean"] > medians.user_snr_db["noisy"] + 15
assert medians.bleed_db["clean"] < -50 and abs(medians.bleed_db["noisy"] + 26) < 3
assert pauses.pause_s.max() <= 1 and segments.gap_s.max() <= 0.4
found_twice = twins.groupby("axis").size()
assert len(found_twice) == 4 and (found_twice > 5).all()
assert len(segments) / 4 < len(twins) < len(segments) / 2
dropped = pd.DataFrame(reasons)
assert dropped["pause", "no pause inside"]["noisy"] > dropped["pause", "no pause inside"]["clean"]
assert dropped["turn_taking", "overlap too long"]["noisy"] > dropped["turn_taking", "overlap too long"]["clean"]
assert suspects.bleed_db.max() > -30  # somebody was heard, and is shown
truth = read_truth(next(Path("work/conversations").rglob(f"{odd.recording_id}.json")))
role = ("user", "agent")[(np.abs(tracks) * outside).max(axis=1).argmax()]
assert any(start < at_s + odd.start_s < end for start, end in truth.activity[odd[f"{role}_channel"]])
assert page == Path("work/report.html") and page.stat().st_size > 1e6
""",
    "02_tune_the_segmenters": """
paper = census(PAPER)
kept = {axis: dataset.record.segments[axis].kept for axis in COLOURS}
assert kept == {axis: paper[axis, "kept"] for axis in COLOURS} and min(kept.values()) > 20
assert all(table[axis].min() < table[axis].max() for table in [moved["timeline.max_pause_s"]] for axis in COLOURS)
assert moved["turn_taking.max_gap_s"].turn_taking.is_monotonic_increasing
assert all(moved[f"{axis}.tau_min_s"][axis].is_monotonic_decreasing for axis in ("pause", "turn_taking"))
assert census(PAPER.changed(shorter))["turn_taking", "kept"] > 2 * paper["turn_taking", "kept"]
assert planned.recordings == len(activity) == len(webrtc) and planned.to_annotate == 0
assert (new.gap_s > 0.4).all() and (new.gap_s <= 1).all() and len(new) > 5
assert all(0.05 < late < 0.15 for late in boundaries.loc["ends", "median, s"])
assert all(abs(late) < 0.02 for late in boundaries.loc["starts", "median, s"])
assert all(scores.precision.min() > 0.6) and all(scores.recall.min() > 0.7)
recalled, precise = (scores.true * scores.recall).sum(), (scores.found * scores.precision).sum() / scores.found.sum()
assert recalled.silero > recalled.webrtc and precise.silero > precise.webrtc
assert (scores.recall.silero >= scores.recall.webrtc).all()
""",
    "03_align_nano": """
assert list(metrics.index) == list(range(STEPS + 1)) and metrics.kl.iloc[-1] > 0
assert set(validation.index) == {0, STEPS} and run.steps == STEPS
assert set(change.index.get_level_values(0)) == set(AXES) and change.people["pause", "takeovers"] == 0
heard = [sample for sample in run.samples if (sample.split, sample.axis) == ("validation", "pause")]
assert [sample.step for sample in heard] == [0, STEPS] and len({sample.segment_id for sample in heard}) == 1
before, after = (soundfile.read(run.path / sample.file)[0] for sample in heard)
assert (before[:, 0] == after[:, 0]).all() and (before[:, 1] != after[:, 1]).any()  # one user, another answer
assert len(nano) == len(user) > segment["duration_s"] * speaker.rate_hz and np.abs(nano).max() > 0.05
sampling = {"sampling": run.settings.sampling, "device": "cpu", "training": True}
trained, original = (segkit.open_model(str(name), **sampling).parameters() for name in (run.export, "nano"))
assert trained.keys() == original.keys() and not all(torch.equal(trained[name], original[name]) for name in trained)
""",
}
"""What is so after a notebook has run, in its own names; by the numbers of `SMALLER` where it has any."""


def kinds(notebook: nbformat.NotebookNode) -> dict[str, list[str]]:
    """What each cell put out: pictures, tables, sounds, text; by the id of the cell."""
    found = {}
    for cell in notebook.cells:
        names = set()
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            sound = "<audio" in data.get("text/html", "")
            names |= {"sound"} if sound else {output.output_type, *data}
        found[cell.id] = sorted(names)
    return found


def readable(notebook: nbformat.NotebookNode) -> str:
    """All that a reader can read: sources and outputs, without pictures and sounds."""
    texts = []
    for cell in notebook.cells:
        texts.append(cell.source)
        for output in cell.get("outputs", []):
            texts.append(output.get("text", ""))
            texts += [data for kind, data in output.get("data", {}).items() if kind.startswith("text/")]
    return re.sub(r"base64,[\w+/=\s]*", "", "\n".join(texts))


def load(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_there_are_three_notebooks():
    assert [path.stem for path in NOTEBOOKS] == list(CLAIMS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_whole_and_runs_from_scratch_and_shows_what_it_says(path, tmp_path, monkeypatch):
    committed, notebook = load(path), load(path)
    expect_whole_and_small_and_of_no_machine(committed, path)
    for old, new in SMALLER.get(path.stem, {}).items():
        settings = next(cell for cell in notebook.cells if cell.cell_type == "code")
        assert old in settings.source
        settings.source = settings.source.replace(old, new)
    claims = nbformat.v4.new_code_cell(CLAIMS[path.stem])
    notebook.cells.append(claims)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")  # tqdm, where there are no ipywidgets
    folder = tmp_path / "empty"
    folder.mkdir()
    NotebookClient(notebook, timeout=600, coalesce_streams=True, resources={"metadata": {"path": folder}}).execute()
    notebook.cells.remove(claims)
    assert kinds(notebook) == kinds(committed)
    assert not MACHINE.search(readable(notebook))
    assert {entry.name for entry in folder.iterdir()} == {"work"}


def expect_whole_and_small_and_of_no_machine(notebook: nbformat.NotebookNode, path: Path) -> None:
    """What is committed was executed from top to bottom, by the library alone, and shows nothing of the machine."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum(bool(cell.outputs) for cell in code) >= len(code) - 1  # the first only imports and sets
    assert not any(re.search(r"^\s*(!|%%)", cell.source, re.MULTILINE) for cell in code), "no other programs"
    assert path.stat().st_size < MAX_BYTES
    assert not MACHINE.search(readable(notebook))
    assert not any(output.get("name") == "stderr" for cell in code for output in cell.outputs)
    assert set(notebook.metadata) == {"kernelspec", "language_info"} and not any(cell.metadata for cell in code)
    assert all(cell.id[0].isalpha() for cell in notebook.cells), "ids are words"
