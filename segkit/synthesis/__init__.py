"""Two-party conversations made from nothing: a plan, espeak-ng voices, and the exact truth.

`voices` speaks, `phrases` finds words, `script` plans who speaks when, `labels` reads the events off
the plan, `render` writes audio and truth. The corpus on top is `segkit.corpora.synthetic`.
"""
