"""A dataset folder: read it, write it, say what is in it and under which terms."""
