"""Training of user towers: objective, trainer, checkpoints."""
