"""Performers that follow rules instead of data: the baselines."""
