"""Makes preference pairs from several answers to one prompt, by what an evaluator says of each."""
