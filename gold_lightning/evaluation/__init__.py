"""Baselines, experiments and their comparison."""
