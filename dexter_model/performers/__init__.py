"""Performers without a model: deadpan, and the KTH rules played by virtual pianists. Both are baselines to beat."""
