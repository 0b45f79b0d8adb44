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
BLEED = "tests/test_bleed.py"
AXES = "tests/test_axes.py"
READING = "tests/test_readers.py"
FILES = "tests/test_words.py"
DECODING, RECORDINGS = "tests/test_decoding.py", "tests/test_recordings.py"
OBJECTIVE = "tests/test_objective.py"
MOSHI = "tests/test_moshi.py"
ALIGN = "tests/test_align.py"
CHECKPOINTS, CORPORA = "tests/test_checkpoints.py", "tests/test_corpora.py"
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
    # --- crosstalk, and the end of speech ---
    Mutant("leaks exchanged", "segmenters/bleed.py", "return _leak(found, 0), _leak(found, 1)", "return _leak(found, 1), _leak(found, 0)", f"{BLEED}::test_one_way_only"),
    Mutant("hum is a leak", "segmenters/bleed.py", "cross = heard * (voice - excess * background).conj()", "cross = heard * voice.conj()", f"{BLEED}::test_what_is_no_leak"),
    Mutant("chance is a leak", "segmenters/bleed.py", "if abs(first - second) > MAX_APART_S * rate_hz:", "if False:", f"{BLEED}::test_what_is_no_leak"),
    Mutant("an early leak is a late one", "segmenters/bleed.py", "return Leak(float(level_db), delay / rate_hz,", "return Leak(float(level_db), -delay / rate_hz,", f"{BLEED}::test_clocks_apart_and_the_echo_of_a_call"),
    Mutant("the border is at equal levels", "segmenters/bleed.py", "border_db = _border(", "border_db = 0 * _border(", f"{BLEED}::test_level_and_delay_are_found_again"),
    Mutant("the response one block late", "segmenters/bleed.py", "before, here = here[:, -edge:], after", "before, here = before, after", f"{BLEED}::test_a_leak_is_taken_away_across_blocks"),
    Mutant("nothing after a block", "segmenters/bleed.py", "else after[:, :edge]", "else 0 * after[:, :edge]", f"{BLEED}::test_a_leak_is_taken_away_across_blocks"),
    Mutant("the own voice leaks", "segmenters/bleed.py", "_through(both[1 - i], leak)", "_through(both[i], leak)", f"{BLEED}::test_a_leak_is_taken_away_across_blocks"),
    Mutant("whatever lies under a leak goes", "segmenters/bleed.py", "GATE_FACTOR = 3.0", "GATE_FACTOR = 300.0", f"{BLEED}::test_quiet_speech_under_a_loud_leak_survives"),
    Mutant("two people are one signal", "segmenters/bleed.py", "and high_db - low_db <= SAME_CONTRAST_DB", "", f"{BLEED}::test_two_people_are_never_one_signal"),
    Mutant("all leaks are audible", "segmenters/bleed.py", "return self.level_db >= AUDIBLE_DB", "return True", f"{BLEED}::test_without_crosstalk_the_gate_changes_nothing"),
    Mutant("the gate is always on", "extraction/listen.py", "if gate and paths:", "if paths:", f"{BLEED}::test_the_gate_takes_leaks_for_what_they_are"),
    Mutant("the gate is on one channel", "extraction/listen.py", "for channel, track in zip(paths, ", "for channel, track in zip(reversed(paths), ", f"{BLEED}::test_the_gate_takes_leaks_for_what_they_are"),
    Mutant("the quieter of two leaks counts", "extraction/words.py", 'bleed_db=max((leak["level_db"]', 'bleed_db=min((leak["level_db"]', f"{BLEED}::test_crosstalk_drops_segments"),
    Mutant("speech that ends before it starts", "segmenters/decision.py", "starts[ends > starts], ends[ends > starts]", "starts, ends", f"{BLEED}::test_the_end_bias_comes_off_the_ends_only"),
    Mutant("the end of a recording is late", "segmenters/decision.py", "np.where(ends < samples, ends - late, ends)", "ends - late", f"{BLEED}::test_the_end_bias_comes_off_the_ends_only"),
    # --- words beside audio ---
    Mutant("a word without a speaker is channel 0's", "corpora/transcripts.py", "channel_of.get(entry.label), entry)", "channel_of.get(entry.label, 0), entry)", READING),
    Mutant("speakers in the order of the file", "corpora/transcripts.py", "speakers[0]: 0, speakers[1]: 1}", "**dict(zip(labels, (0, 1)))}", READING),
    Mutant("channels 1 and 2 are 0 and 1 and more", "corpora/transcripts.py", "if each.keys() == labels", "if each.keys() & labels", READING),
    Mutant("half a file of other speakers is used", "corpora/transcripts.py", "others > MAX_OF_OTHERS * len(entries)", "others > len(entries)", READING),
    Mutant("words of a side on the clock of the other", "corpora/transcripts.py", "sum_s(entry.end_s, late_s)", "sum_s(entry.end_s)", FILES),
    Mutant("every tier of words is one of utterances", "corpora/transcripts.py", "len(text) > 1 for text", "len(text) > 0 for text", READING),
    Mutant("what cannot be read is not told", "corpora/transcripts.py", "    if lost:", "    if False:", READING),
    Mutant("the times of an interval are those of its tier", "corpora/readers.py", "numbers[first + 2] = numbers[first + 2][3:]", "numbers[first + 2] = numbers[first + 2][:2]", READING),
    Mutant("silence is a word", "corpora/readers.py", "not in SILENCE", "!= None", READING),
    Mutant("a duration is an end", "corpora/readers.py", "row[4], row[2], sum_s(row[2], row[3])", "row[4], row[2], row[3]", READING),
    Mutant("cues in whole seconds", "corpora/readers.py", "time.in_milliseconds() / 1000", "time.in_seconds()", READING),
    Mutant("the voice of a cue is the word before a colon", "corpora/readers.py", "    if caption.voice:", "    if caption.voice and not names:", READING),
    Mutant("a cue is of one speaker", "corpora/readers.py", "in NAME.finditer(text) if", "in [*NAME.finditer(text)][:1] if", READING),
    Mutant("any colon in a cue is after a name", "corpora/readers.py", "(match[1] or match[2] in names)]", "match]", READING),
    Mutant("every arrow is a cue", "corpora/readers.py", "map(TIMING.match, text", 'map(re.compile(".*-->").match, text', READING),
    Mutant("a word has no speaker but its own", "corpora/readers.py", 'item.get("speaker", segment.get("speaker"))', 'item.get("speaker")', READING),
    Mutant("words of all recordings of a table", "corpora/readers.py", "        return [row for row in rows if normalize", "        return [row for row in rows if True or normalize", READING),
    Mutant("UTF-16 the other way round", "corpora/base.py", '(data[1::2], "utf-16-le")', '(data[1::2], "utf-16-be")', READING),
    Mutant("one wrong byte makes UTF-8 Windows-1252", "corpora/base.py", "return text if some_utf8 or not wrong else", "return text if not wrong else", READING),
    Mutant("accents in one form only", "corpora/transcripts.py", 'return normalize("NFC", name)', "return name", FILES),
    Mutant("suffixes of patterns in one case", "corpora/pairs.py", "(?i:", "(?:", FILES),
    Mutant("words elsewhere before those beside", "corpora/stereo.py", "best_of(beside or candidates)", "best_of(candidates)", FILES),
    Mutant("one number too many costs all words", "extraction/words.py", "max(1, MAX_OUTSIDE", "max(0, MAX_OUTSIDE", FILES),
    Mutant("speech of another recording", "extraction/words.py", "if _of_another(outside, len(spoken)):", "if False:", FILES),
    Mutant("backwards is outside", "extraction/words.py", "if not w.end_s < w.start_s]", "]", FILES),
    Mutant("words on the wrong channels are right", "extraction/words.py", "outside - swapped > MIN", "swapped - outside > MIN", FILES),
    Mutant("a word is enough to tell the channels", "extraction/words.py", "MIN_COMPARED_S = 5.0", "MIN_COMPARED_S = 0.1", FILES),
    Mutant("words of which none is good are an empty transcript", "extraction/words.py", "if transcript.dropped and not inside:", "if False:",
           "tests/test_bad_input.py::test_a_bad_transcript_costs_the_words_not_the_recording"),
    Mutant("no words are the same words", "extraction/words.py", 'if not row["words"]:', "if False:", FILES),
    # --- how a file is read ---
    Mutant("lengths of MP3 believed", "decoding/headers.py", 'return file.format == "MP3" and _has_index(path)', "return True", DECODING),
    Mutant("the index of the first of two MP3", "decoding/headers.py", "size < 0.9 *", "size < 0 *", DECODING),
    Mutant("a tag taken for the first frame", "decoding/headers.py", '10 + tag if start.startswith(b"ID3") else 0', "0", DECODING),
    Mutant("seeking in Vorbis", "decoding/headers.py", ' and file.subtype != "VORBIS"', "", DECODING),
    Mutant("a seek after every block", "decoding/decoders.py", "self.file.seekable = lambda: False", "pass", DECODING),
    Mutant("the first link of a chain", "decoding/headers.py", 'return file.format != "OGG" or not _is_chained(path)', "return True", DECODING),
    Mutant("half an Ogg is whole", "decoding/headers.py", 'return inf if file.format == "OGG" and', 'return 0.0 if file.format == "OGG" and', DECODING),
    Mutant("lengths of pipes believed", "decoding/headers.py", "not any(claimed in sizes for sizes in UNKNOWN_BYTES)", "True", DECODING),
    Mutant("half of what went through a pipe is whole", "decoding/headers.py", "if key not in (SEGMENT, CLUSTER):", "if True:", DECODING),
    Mutant("half an AVI is whole", "decoding/headers.py", '> int.from_bytes(data[4:8], "little") > len(data)', "> len(data) > 1 << 60", DECODING),
    Mutant("long files are pipes", "decoding/headers.py", "range(0x7FFFF000, 0x80001000)", "range(0x7FFFF000, 1 << 64)", DECODING),
    Mutant("half a SPHERE is whole", "decoding/headers.py", "max(int(count[1]) - file.frames, 0.0)", "0.0", f"{DECODING} tests/test_audio.py"),
    Mutant("decoded again for every stage", "decoding/probe.py", "{facts.st_mtime_ns} {anew}", "{facts.st_atime_ns} {anew}", f"{DECODING} {RECORDINGS}"),
    Mutant("another file of the same name", "decoding/probe.py", "{facts.st_size} {facts.st_mtime_ns}", "{facts.st_size}", DECODING),
    Mutant("FFmpeg for shorten", "decoding/decoders.py", 'if b"embedded-" in head(path)', "if False", DECODING),
    Mutant("the same decoder again", "decoding/decoders.py", "[by_ffmpeg] if anew else", "[_by_libsndfile, by_ffmpeg] if anew else", DECODING,
           "libsndfile fails as before, and FFmpeg comes next"),
    Mutant("no limit of length", "decoding/limits.py", "if frames > settings.max_length_s * rate_hz:", "if False:", DECODING),
    Mutant("the time of the reader counts", "decoding/limits.py", "        spent_s += monotonic() - began_s", "        spent_s += 0", DECODING),
    Mutant("a playlist is opened", "decoding/ffmpeg.py", '{"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}', "{}", DECODING),
    Mutant("a path is an address", "decoding/ffmpeg.py", 'av.open(f"file:{path.absolute()}"', "av.open(str(path)", DECODING),
    Mutant("one stream waits for the other", "decoding/ffmpeg.py", " or max(ready) >= AHEAD_S * self.samplerate", "", DECODING),
    Mutant("a full disk is the file's fault", "decoding/decoders.py", "except (SoundFileError, AssertionError) as error:", "except ZeroDivisionError as error:", DECODING),
    Mutant("the second speaker's stream left out", "decoding/ffmpeg.py", "streams if each_one else streams[:1]", "streams[:1]", DECODING),
    Mutant("what is lost moves the rest", "decoding/ffmpeg.py", "<= late <= room:", "<= late <= -1:", f"{DECODING} tests/test_audio.py"),
    Mutant("a day of a few seconds", "decoding/ffmpeg.py", "MAX_GAP_S * self.rate_hz + heard - self.silence", "1 << 60", DECODING),
    Mutant("gaps are losses", "decoding/ffmpeg.py", "0 if self.has_clock else late", "late", "tests/test_audio.py"),
    Mutant("half a container is whole", "decoding/ffmpeg.py", "short if short > ROUNDING_S * self.samplerate else 0", "0", DECODING),
    Mutant("any shortfall is used", "decoding/file.py", "if info.missing_s > max(self.settings.max_missing_s", "if info.missing_s > 1e9 * max(self.settings.max_missing_s", DECODING),
    Mutant("a shortfall is not told", "decoding/file.py", "if info.missing_s > 0:", "if False:", DECODING),
    Mutant("files of a killed run stay", "decoding/scratch.py", "        for path in place.iterdir():", "        for path in ():", DECODING),
    Mutant("decoded files without bound", "decoding/scratch.py", "if size > limit and", "if False and", DECODING),
    Mutant("silence of the unrecorded", "extraction/annotate.py", 'row["activity"] = [clip(as_intervals(track), start_s, end_s)', 'row["activity"] = [clip(as_intervals(track), 0.0, 1e9)', RECORDINGS),
    Mutant("notes of files forgotten", "extraction/annotate.py", "for reason, detail in recording.notes:", "for reason, detail in ():", RECORDINGS),
    Mutant("limits of files not passed on", "extraction/annotate.py", "Recording(conversation.tracks, job.settings.audio, corpus.channels)", "Recording(conversation.tracks, None, corpus.channels)", RECORDINGS),
    Mutant("failed cuts are nobody's problem", "extraction/run.py", 'for each in report.get("problems", []))', "for each in [])", RECORDINGS),
    # --- what changes nothing ---
    Mutant("each sign clipped on its own side", "alignment/objective.py", "ratio.clamp(1 - clip, 1 + clip) * advantage",
           "torch.where(advantage > 0, ratio.clamp(max=1 + clip), ratio.clamp(min=1 - clip)) * advantage", ORACLE,
           "of the two bounds, only one can make the clipped term the smaller"),
    # --- which files a policy is, and what a corpus says ---
    Mutant("an adapter beside is left alone", "models/files.py", "if config.lora and not config.lora_name and file_of(place, ADAPTER)",
           "if False", CHECKPOINTS),
    Mutant("whole weights beside other weights", "models/files.py", "if others := [", "if False and [", CHECKPOINTS),
    Mutant("whole weights taken without a word", "models/files.py",
           """        _assume(f"{str(place)!r} has no {weights}, and {WHOLE} is taken instead", f'moshi_name to "{WHOLE}"')\n""", "", CHECKPOINTS),
    Mutant("the base taken for what was trained", "models/files.py", 'origin.pop("moshi_weights", None)', "pass", CHECKPOINTS),
    Mutant("the repository before the given path", "models/files.py", "    origin |= {", "    {", CHECKPOINTS),
    Mutant("export names itself from anywhere", "models/export.py", '"file://tokenizer.model"', 'f"file://{folder / \'tokenizer.model\'}"', CHECKPOINTS),
    Mutant("base within the run named from anywhere", "models/export.py", "path.is_relative_to(folder.absolute().parent)", "False", CHECKPOINTS),
    Mutant("base of the Hub named by its place in the cache", "models/export.py", "checkpoint.weights_on_hub or", "", CHECKPOINTS),
    Mutant("command in another folder", "models/export.py", 'there = f"(cd {shlex.quote(str(folder))} && python', 'there = f"(python', CHECKPOINTS),
    Mutant("PINs before audited calls", "corpora/fisher.py", 'if "pindata" in path.name.lower()', "if False", CORPORA),
    Mutant("voice activity thrown away", "extraction/words.py", 'row["activity"] = [clip(merged(track), 0.0, duration_s)', "_ = [clip(merged(track), 0.0, duration_s)", CORPORA),
    Mutant("diarization where the corpus knows", "extraction/annotate.py", 'if rows[key]["activity"] is not None]', "if False]", CORPORA),
    Mutant("parts of a recording in two splits", "corpora/miami.py", 'f"{whole[name]}/{i}"', 'f"{name}/{i}"', "tests/test_adapters.py -k miami"),
    Mutant("speakers of Dutch dialogues apart", "corpora/ifadv.py", "(self.name(), self.name())", "(None, None)", "tests/test_adapters.py -k ifadv"),
    Mutant("labels in the order of the file", "corpora/oto_speech.py", 'labels = sorted({label for segment in segments if (label := label_of(segment.get("speaker")))})',
           'labels = list(dict.fromkeys(label_of(segment.get("speaker")) for segment in segments))', "tests/test_adapters.py -k oto"),
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
