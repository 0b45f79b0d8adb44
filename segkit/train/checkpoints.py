"""The checkpoints of a run, which it resumes from: originals and moments of the optimiser, and the step.

All chance is a function of the seed, the step, the segment and the completion, so a checkpoint holds no
generator's state.
"""

import json
import shutil

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from segkit.errors import SegkitError
from segkit.runs import RunFolder
from segkit.storage import whole
from segkit.train.optimiser import MasterAdamW

STATE, WEIGHTS = "state.json", "optimiser.safetensors"


def save(folder: RunFolder, optimiser: MasterAdamW, done: int, keep: int) -> None:
    """Write the checkpoint after `done` steps, and remove all but the last `keep`."""
    with whole(folder.checkpoint(done)) as draft:
        draft.mkdir()
        save_file({k: t.contiguous().cpu() for k, t in optimiser.state().items()}, draft / WEIGHTS)
        (draft / STATE).write_text(json.dumps({"done": done}))
    for old in folder.checkpoints()[:-keep]:
        shutil.rmtree(old)


def restore(folder: RunFolder, optimiser: MasterAdamW) -> int:
    """Load the last checkpoint; returns how many steps were done, 0 without one.

    Raises:
        SegkitError: it does not fit this model.
    """
    if not (found := folder.checkpoints()):
        return 0
    try:
        optimiser.load(load_file(found[-1] / WEIGHTS))
        return int(json.loads((found[-1] / STATE).read_text())["done"])
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise SegkitError(
            f"{str(found[-1])!r} cannot be resumed from: {error}. Remove it to use the one before."
        ) from None
