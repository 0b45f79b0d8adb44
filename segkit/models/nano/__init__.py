"""nano: a small Moshi over Codec2 that learns on a CPU; its checkpoint, and `pretrain.py`, which made it."""
