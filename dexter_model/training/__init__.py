"""What all systems share of training: checkpoints, moving averages, the loop."""
