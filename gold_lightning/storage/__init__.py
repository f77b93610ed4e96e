"""Files of a run folder: stored completions, samples by round, and the lock."""
