"""Two evaluations of one suite, matched and compared sample by sample."""
