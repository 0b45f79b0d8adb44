"""What a model says in a segment, and how good that is: for training and for evaluation."""
