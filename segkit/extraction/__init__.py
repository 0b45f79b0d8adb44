"""`segkit extract`: from a corpus to a dataset folder. `run` is the way in."""
