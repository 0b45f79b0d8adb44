"""Full-duplex models: what they can do, and where their files are."""
