"""What every method shares: the run folder, the training loop, checkpoints, results, evidence, errors."""
