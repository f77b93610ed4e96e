"""The student's weights: where they come from, whether they fit their task, how they are sharded."""
