"""How it is optimised: policies, rollouts, the loop, checkpoints. Needs the extra `train`."""
