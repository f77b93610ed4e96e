"""Files that users hand in: their paths, pipes and tables."""
