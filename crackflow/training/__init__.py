"""Augmentation, optimisation, the training loop, checkpoints and run folders."""
