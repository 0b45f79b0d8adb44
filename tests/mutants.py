"""Mistakes that a person could make, put into a copy of segkit one at a time; the tests that should notice have to.

    python tests/mutants.py            # all of them: a quarter of an hour on two cores
    python tests/mutants.py clip late  # those whose names hold one of the words

Not part of `make test`. Prints a table, and how many survived; exits with 1 if any did. A mistake that changes nothing
is named as such, with the reason, and has to survive.
"""

import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).parents[1]


class Mutant(NamedTuple):
    """A mistake: in a file of the package, `old`, which stands there once, becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    changes_nothing: str = ""


ORACLE = "tests/test_update_oracle.py"
REWARDS = "tests/test_rewards.py"
SCORING = "tests/test_scoring.py"
EVENTS = "tests/test_events.py"
AXES = "tests/test_axes.py"
OBJECTIVE = "tests/test_objective.py"
MOSHI = "tests/test_moshi.py"
ALIGN = "tests/test_align.py"
COMPANY = f"{MOSHI}::test_a_completion_is_the_same_alone_and_in_any_company"
DEPTH = f"{MOSHI}::test_audio_tokens_are_those_that_their_numbers_draw_from_the_depth_transformer"
KEPT = f"{MOSHI}::test_what_is_kept_between_passes_is_not_heard"
CLOCK = (
    f"{MOSHI}::test_moshi_itself_is_on_the_same_clock {MOSHI}::test_what_the_user_says_in_a_frame_is_heard_in_the_next"
)
SAME = f"{MOSHI}::test_streaming_and_teacher_forced_text_logits_are_the_same"
ECHO = "tests/test_rollout.py::test_what_is_said_is_scored_where_it_is_heard"
EVALUATION = f"{ALIGN}::test_every_evaluation_has_the_same_segments_and_the_same_chance"

UPDATE, OPTIMISER = "train/update.py", "train/optimiser.py"
LORA = "adapter.requires_grad_(True).frozen_W.requires_grad_(False)"
COSINE = "0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))"
MUTANTS = [
    # --- the update: which frames, whose advantages, which probabilities ---
    Mutant("context and opening in the loss", UPDATE, "(clock >= scenes[g].start_frame) & ", "", ORACLE),
    Mutant("loss mask one frame late", UPDATE, "clock >= scenes[g].start_frame", "clock > scenes[g].start_frame", ORACLE),
    Mutant("padding in the loss", UPDATE, " & (clock < scenes[g].frames)", "", ORACLE),
    Mutant("padding in front", UPDATE, "(0, frames - scenes[g].frames)", "(frames - scenes[g].frames, 0)", ORACLE),
    Mutant("advantages of another group", UPDATE, "advantages[g][i]", "advantages[(g + 1) % len(advantages)][i]", ORACLE),
    Mutant("advantages of another completion", UPDATE, "advantages[g][i]", "advantages[g][i - 1]", ORACLE),
    Mutant("every minibatch the first", UPDATE, "range(first, first + settings.minibatch)", "range(settings.minibatch)", ORACLE),
    Mutant(
        "old log-probabilities of each minibatch anew",
        UPDATE,
        "            for batch, log_probs in zip(batches, before, strict=True):\n                share",
        "            before = [_old_log_probs(policy, each, settings) for each in batches]\n"
        "            for batch, log_probs in zip(batches, before, strict=True):\n                share",
        ORACLE,
    ),
    Mutant("microbatches summed", UPDATE, "len(batch.axes) / (len(groups) * settings.minibatch)", "1.0", ORACLE),
    Mutant("reference is the policy itself", UPDATE, "_grad(), policy.reference():\n        ref", "_grad():\n        ref", ORACLE),
    Mutant("learning rate of the next step", UPDATE, "optimiser.step(step)", "optimiser.step(step + 1)", ORACLE),
    Mutant(
        "reference not checked before the first update",
        UPDATE,
        "if off > (0 if",
        "if off > (1e9 if",
        f"{ALIGN}::test_weights_that_nobody_trained_are_noticed_before_the_first_update",
    ),
    # --- the optimiser ---
    Mutant("linear schedule", OPTIMISER, COSINE, "(1 - min(progress, 1.0))", ORACLE),
    Mutant("no clipping of the gradient", OPTIMISER, "self.settings.max_grad_norm)", "float('inf'))", ORACLE),
    Mutant("beta2 of 0.999", OPTIMISER, "(settings.beta1, settings.beta2)", "(settings.beta1, 0.999)", ORACLE),
    Mutant("no weight decay", OPTIMISER, "weight_decay=settings.weight_decay", "weight_decay=0.0", ORACLE),
    Mutant("gradients never forgotten", OPTIMISER, "        self.adam.zero_grad()\n", "", ORACLE),
    # --- objective and advantages ---
    Mutant("KL with the wrong sign", "alignment/objective.py", "beta * (kl +", "-beta * (kl +", ORACLE),
    Mutant("KL without a gradient", "alignment/objective.py", "(kl + kl_gradient - kl_gradient.detach())", "kl", ORACLE),
    Mutant("ratio not clipped", "alignment/objective.py", "ratio.clamp(1 - clip, 1 + clip)", "ratio", ORACLE),
    Mutant("maximum for minimum", "alignment/objective.py", "torch.minimum(free", "torch.maximum(free", ORACLE),
    Mutant("mean over all frames at once", "alignment/objective.py", "scored.sum(1, keepdim=True))[scored] / len(scored)",
           "scored.sum())[scored]", ORACLE),
    Mutant("reference at another temperature", "alignment/objective.py", "(reference_logits[scored].float() / temperature)",
           "reference_logits[scored].float()", ORACLE),
    Mutant("ratio may overflow", "alignment/objective.py", "LARGEST_LOG_RATIO = 20.0", "LARGEST_LOG_RATIO = 1e9", OBJECTIVE),
    Mutant("a held ratio has no gradient", "alignment/objective.py",
           "log_ratio + (log_ratio.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO) - log_ratio).detach()",
           "log_ratio.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)", OBJECTIVE),
    Mutant("deviation divided by G - 1", "alignment/advantages.py", "centred.std(axis=-1,", "centred.std(ddof=1, axis=-1,", OBJECTIVE),
    Mutant("rewards summed, then normalised", "alignment/advantages.py",
           "np.sum([standardise(scores) for scores in components if np.isfinite(scores).all()], axis=0)",
           "standardise(np.sum([scores for scores in components if np.isfinite(scores).all()], axis=0))", OBJECTIVE),
    # --- the policy ---
    Mutant("LoRA's A frozen", "models/training.py", LORA,
           "adapter.requires_grad_(True).frozen_W.requires_grad_(False)\n                adapter.lora_A.requires_grad_(False)", ORACLE),
    Mutant("LoRA's base trained", "models/training.py", LORA, "adapter.requires_grad_(True)", ORACLE),
    Mutant("text logits one frame late", "models/training.py", "return logits[:, 0]", "return logits[:, 0].roll(1, 1)", SAME),
    Mutant("user not fed twice at first", "models/moshi.py", "heard[row, :, start + 1 : start + 1 + user.shape[1]]",
           "heard[row, :, start : start + user.shape[1]]", CLOCK),
    Mutant("late streams taken at once", "models/moshi.py", "frames.start + delay : frames.stop + delay", "frames", CLOCK),
    Mutant("text of the next frame", "models/moshi.py", "text[row, frames], torch", "text[row].roll(-1)[frames], torch", CLOCK),
    # --- chance ---
    Mutant("chance of the step left out", "rollouts/rollout.py", "fingerprint(chance, scene", "fingerprint(scene", COMPANY),
    Mutant("chance of the number left out", "rollouts/rollout.py", "scene.repeat, number)", "scene.repeat)", COMPANY),
    Mutant("a segment drawn twice says the same", "rollouts/rollout.py", "scene.repeat, number)", "number)", COMPANY),
    Mutant("chance by the place in the row", "models/moshi.py", "numbers[row, start : start + last] = chance(seed, last,",
           "numbers[row, start : start + last] = chance(row, start + last,", COMPANY),
    Mutant("chance of the row's first completion", "models/streaming.py", "numbers.copy_(numbers[:, step])",
           "numbers.copy_(numbers[:, step % longest])", COMPANY),
    Mutant("all streams drawn by one number", "models/streaming.py", "self.numbers[:, 1 + k]", "self.numbers[:, 1]", DEPTH),
    Mutant("audio at the temperature of text", "models/streaming.py", "temp=sampling.audio_temperature",
           "temp=sampling.text_temperature", DEPTH),
    Mutant("text at temperature 1", "models/streaming.py", "draw(self.logits, self.text_temperature,", "draw(self.logits, 1.0,",
           f"{MOSHI}::test_text_is_drawn_at_its_temperature"),
    Mutant("the likeliest tokens by rank", "models/streaming.py", "place if tokens is None else tokens.gather(-1, place)", "place",
           f"{MOSHI}::test_tokens_are_drawn_with_their_probabilities"),
    Mutant("rows keep what was before them", "models/streaming.py", "            self.reset_streaming()", "            pass", KEPT),
    Mutant("a model left streaming", "models/streaming.py", "self.lm.set_streaming_state(dict.fromkeys(self.lm.get_streaming_state()))", "pass", KEPT),
    Mutant("evaluation with other chance", "train/loop.py", "seed=settings.seed,", "seed=settings.seed + step,", EVALUATION),
    Mutant("evaluation on other segments", "train/loop.py", "        stage.validation,\n",
           "        stage.train if step else stage.validation,\n", EVALUATION),
    Mutant("training with one chance for all steps", "train/loop.py", "SAMPLING, settings.seed, step", "SAMPLING, settings.seed, 0",
           f"{ALIGN}::test_every_step_has_chance_of_its_own"),
    # --- on the clock, and who gets what ---
    Mutant("speech on the clock of the scene", "rollouts/hearing.py", "speech - scene.start_frame * frame_s", "speech", ECHO),
    Mutant("speech one frame early", "rollouts/hearing.py", "scene.start_frame * frame_s", "(scene.start_frame + 1) * frame_s", ECHO),
    Mutant("context begins one frame late", "rollouts/scenes.py", "heard = user[before - context * frame :]",
           "heard = user[before - context * frame + frame :]", ECHO),
    Mutant("marks of another completion", "rollouts/scoring.py", "np.split(marks, len(asked))", "np.split(np.roll(marks, 1), len(asked))", SCORING),
    Mutant("marks of another group", "rollouts/scoring.py", "for i in asked for text", "for i in asked[::-1] for text", SCORING),
    Mutant("words on the clock of the scene", "rollouts/scoring.py", "(at_s - start_s, text) for at_s, text in words_said if",
           "(at_s, text) for at_s, text in words_said if", SCORING),
    Mutant("the user's answer to the recorded agent is read", "rollouts/scoring.py", "-scene.context_s <= at_s < end_s",
           "-scene.context_s <= at_s", SCORING),
    Mutant("words from before the context are read", "rollouts/scoring.py", "-scene.context_s <= at_s < end_s", "at_s < end_s", SCORING),
    Mutant("the model's opening is read", "rollouts/scoring.py", " if at_s - start_s >= -scene.context_s]", "]", SCORING),
    Mutant("words of the first utterance", "rollouts/judging.py", "away_s.argmin()", "0", SCORING),
    Mutant("the recorded agent's words are read", "rollouts/scoring.py", ' if word["speaker"] == "user"]', "]", SCORING),
    Mutant("a line for every word", "rollouts/judging.py", "said.setdefault(begun_s, [])", "said.setdefault(start_s, [])", SCORING),
    Mutant("people are scored by the user's speech", "alignment/rewards.py", 'as_intervals(segment["agent_activity"])',
           'as_intervals(segment["user_activity"])', f"{SCORING} {REWARDS}"),
    # --- rewards ---
    Mutant("stammering is a response", "alignment/rewards.py", "begins_here & (turns.longest_s > settings.max_backchannel_s)",
           "begins_here & long", REWARDS),
    Mutant("any sound answers an interruption", "alignment/rewards.py", "~meanwhile & (units.longest_s > settings.max_backchannel_s)",
           "~meanwhile", REWARDS),
    Mutant("an early answer is free", "alignment/rewards.py", "np.where(early, np.minimum(-delay_s, rest_s), delay_s)", "delay_s", REWARDS),
    Mutant("what never stops answers an interruption", "alignment/rewards.py", "(seconds(units.spans[..., 0] - start_s) <= 0) | ", "", REWARDS),
    Mutant("barging in with pieces is free", "alignment/rewards.py", "_first(turns.spans, long) - turn_end_s) <",
           "_first(turns.spans, long & (turns.longest_s > 1)) - turn_end_s) <", REWARDS),
    Mutant("who was talking when the turn began barges in", "alignment/rewards.py", "begins_here = turns.spans[..., 0] >= 0", "begins_here = turns.spans[..., 0] >= -9", REWARDS),
    Mutant("talking on over the user is free", "alignment/rewards.py", "(begins_here | (turns.spans[..., 1] > settings.max_carry_over_s))", "begins_here", REWARDS),
    Mutant("the segment's start cuts utterances", "alignment/rewards.py", "settings.timeline.max_pause_s if looks_back else 0.0", "0.0", REWARDS),
    Mutant("the longest IPU is the last one", "alignment/rewards.py", "np.maximum.at(longest_s, (np.nonzero(real)[0], rank[real]), durations(speech[real]))",
           "longest_s[np.nonzero(real)[0], rank[real]] = durations(speech[real])", REWARDS),
    Mutant("takeovers are no false positives", "alignment/rewards.py", "short.sum(axis=1) - hits + takeovers", "short.sum(axis=1) - hits", REWARDS),
    Mutant("a backchannel is hit as often as one likes", "alignment/rewards.py", "        left &= ~taken\n", "", REWARDS),
    Mutant("silence costs the whole segment", "alignment/rewards.py", "duration_s - turn_end_s, turns", "duration_s, turns", REWARDS),
    # --- settings, memory, devices ---
    Mutant("differences are kept quiet", "settings/training.py", "if own != theirs]", "if own is None]",
           f"{ALIGN}::test_rewards_measure_as_the_dataset_did_unless_told_otherwise"),
    Mutant("stages of memory added up", "train/memory.py", "max(by_stage.values(), default=0)", "sum(by_stage.values())",
           f"{ALIGN}::test_memory_is_what_always_stays_and_the_largest_stage"),
    Mutant("a device without its number", "models/devices.py", "return names[torch.cuda.current_device()]", 'return "cuda"',
           f"{ALIGN}::test_a_device_is_named_with_its_number"),
    Mutant("keys and values for too few frames", "models/streaming.py", "-(-frames // FRAMES_AT_ONCE)", "(frames // FRAMES_AT_ONCE or 1)",
           f"{MOSHI}::test_segments_of_different_lengths_in_one_pass_are_what_they_are_alone"),
    Mutant("every run has learnt nothing", "cli/align.py", 'if not any(line["zero_std"] < 1', 'if any(line["zero_std"] < 2',
           "tests/test_nano.py::test_a_killed_and_resumed_run_ends_the_same_bit_for_bit"),
    Mutant("the dataset's settings are ignored", "settings/training.py", "if dataset is not None:", "if False:",
           f"{ALIGN}::test_rewards_measure_as_the_dataset_did_unless_told_otherwise"),
    # --- rows, axes, timeline ---
    Mutant("interruption is the pattern's first utterance", "extraction/row.py", "= pattern[2].tolist()", "= pattern[0].tolist()", EVENTS),
    Mutant("the turn ends with the agent's", "extraction/row.py", "float(pattern[0, 1]),", "float(pattern[1, 1]),", EVENTS),
    Mutant("gap with the wrong sign", "extraction/row.py", "float(pattern[1, 0] - pattern[0, 1])", "float(pattern[0, 1] - pattern[1, 0])", EVENTS),
    Mutant("events on the recording's clock", "extraction/row.py", "pattern = segment.pattern - segment.start_s", "pattern = segment.pattern", EVENTS),
    Mutant("activities exchanged", "extraction/row.py", '"user_activity": from_start[user]', '"user_activity": from_start[agent]', EVENTS),
    Mutant("true backchannels are IPUs", "segmenters/axes.py", "touching(y.utterances, *window)", "touching(y.ipus, *window)", EVENTS),
    Mutant("true backchannels of the user", "segmenters/axes.py", "touching(y.utterances, *window)", "touching(x.utterances, *window)", EVENTS),
    Mutant("pauses of the agent", "segmenters/axes.py", "touching(x.pauses, *window)", "touching(y.pauses, *window)", EVENTS),
    Mutant("roles exchanged", "segmenters/axes.py", "for track in (user, 1 - user))", "for track in (1 - user, user))", EVENTS),
    Mutant("an interruption after the agent's end", "segmenters/axes.py", "quads[:, 2, 0] < quads[:, 1, 1]", "quads[:, 2, 0] < quads[:, 3, 1]", AXES),
    Mutant("a gap of any length", "segmenters/axes.py", "gap_s <= criteria.max_gap_s", "gap_s < np.inf", AXES),
    Mutant("one of two utterances is long enough", "segmenters/axes.py", "durations(pairs).min(axis=1)", "durations(pairs).max(axis=1)", AXES),
    Mutant("a pause of exactly 1 s ends an utterance", "segmenters/timeline.py", "silence_s > settings.max_pause_s", "silence_s >= settings.max_pause_s", AXES),
    Mutant("a pause of exactly 0.2 s is none", "segmenters/timeline.py", "silence_s >= settings.min_pause_s", "silence_s > settings.min_pause_s", AXES),
    Mutant("times not rounded", "segmenters/timeline.py", "return np.round(difference_s, 6)", "return difference_s", AXES),
    # --- what changes nothing ---
    Mutant("each sign clipped on its own side", "alignment/objective.py", "ratio.clamp(1 - clip, 1 + clip) * advantage",
           "torch.where(advantage > 0, ratio.clamp(max=1 + clip), ratio.clamp(min=1 - clip)) * advantage", ORACLE,
           "of the two bounds, only one can make the clipped term the smaller"),
]  # fmt: skip


def main(words: list[str]) -> int:
    """Try those whose names hold a word; returns the exit code."""
    chosen = [each for each in MUTANTS if not words or any(word in each.name for word in words)]
    for each in chosen:
        found = (ROOT / "segkit" / each.file).read_text().count(each.old)
        assert found == 1, f"{each.name}: {each.old!r} stands {found} times in {each.file}. Expected once."
    for name in (
        "matplotlib.pyplot",
        "moshi.models",
        "pyarrow.parquet",
        "pytest",
        "soundfile",
        "torch.utils.tensorboard",
    ):
        import_module(name)  # what takes long is imported once; segkit by every child anew
    survivors = 0
    print(f"{'mistake':55} {'in':26} noticed by")
    with ProcessPoolExecutor(os.cpu_count(), get_context("fork")) as pool:
        for each, noticed in zip(chosen, pool.map(notice, chosen), strict=True):
            wanted = not each.changes_nothing
            survivors += wanted != bool(noticed)
            told = noticed or ("survives, as it changes nothing: " + each.changes_nothing if not wanted else "SURVIVED")
            print(f"{each.name:55} {each.file:26} {told}", flush=True)
    print(f"{len(chosen)} mutants, {survivors} survived")
    return int(survivors > 0)


def notice(mutant: Mutant) -> str:
    """The first test that fails with it, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in ("segkit", "tests"):
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        path = tree / "segkit" / mutant.file
        path.write_text(path.read_text().replace(mutant.old, mutant.new))
        log = tree / "log.txt"
        child = os.fork()
        if not child:
            _run(tree, log, mutant.tests.split())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        told = log.read_text()
        if code not in (0, 1):
            raise RuntimeError(f"{mutant.name}: pytest ended with {code}:\n{told[-2000:]}")
        failed = re.search(r"^(?:FAILED|ERROR) \S+?(?:::(\S+))?(?: |$)", told, re.MULTILINE)
        return "" if code == 0 else (failed[1] if failed and failed[1] else told[-300:])


def _run(tree: Path, log: Path, tests: list[str]) -> None:
    """In a process of its own: run the tests on the tree, and end."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(tree)
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(tree), str(tree / "tests")]
    import pytest

    import segkit

    assert Path(segkit.__file__).is_relative_to(tree)
    options = [
        "-x",
        "-q",
        "--tb=no",
        "-rfE",
        "-p",
        "no:cacheprovider",
        f"--rootdir={tree}",
        f"--basetemp={tree / 'tmp'}",
    ]
    code = pytest.main([*tests, *options])
    os._exit(int(code))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
