"""Training: the LightningModule, its reference, and `fit`, which runs a recipe into a run folder."""
