"""Checks every sample before it is accepted."""
