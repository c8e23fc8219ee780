"""Evaluators that look at pictures. Each stands in a file of its own; weights are found, never fetched, by `weights`."""
