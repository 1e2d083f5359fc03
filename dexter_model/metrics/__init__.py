"""Measures of performances, one module a family."""
