"""Training: two objectives, one loop, checkpoints that survive a crash."""
