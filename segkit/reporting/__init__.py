"""What a dataset folder holds, to look at: statistics and pictures."""
