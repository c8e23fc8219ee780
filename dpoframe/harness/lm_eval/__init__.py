"""Tasks of lm-evaluation-harness as suites."""
