"""Benchmark suites: what a model is asked, read strictly from YAML."""
