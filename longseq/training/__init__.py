"""The training loop, its engine, and what surrounds it: checkpoints, tracking, stopping."""
