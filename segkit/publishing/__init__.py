"""Share a dataset: what may be passed on, what is sent, and how a reader rebuilds the rest."""
