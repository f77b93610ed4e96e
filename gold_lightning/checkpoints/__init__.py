"""Checkpoints: saving them as a whole, and keeping the best student."""

from gold_lightning.checkpoints.best import BestCheckpoint, WholeCheckpointIO

__all__ = ["BestCheckpoint", "WholeCheckpointIO"]
