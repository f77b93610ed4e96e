"""Checkpoints: which are kept, how they get onto the disk, which student is the best."""

from gold_lightning.checkpoints.best import BestCheckpoint, WholeCheckpointIO

__all__ = ["BestCheckpoint", "WholeCheckpointIO"]
