"""What is optimised, as pure functions: rewards, judge, advantages, objective (arXiv 2606.11167, section 3)."""
