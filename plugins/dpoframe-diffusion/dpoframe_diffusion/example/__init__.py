"""The embedded example: real handwritten digits, a small Stable-Diffusion-shaped base trained on them, bolder strokes preferred.

Nothing is downloaded: the 1,797 digits come in scikit-learn's wheel. The base is made on this machine in about a minute or
two, by `base.py`, and no part of it was trained before. What the example shows holds for digits of 8x8 cells and a model
of a few hundred thousand weights; it is there to be run and looked at, not to be quoted for anything larger.
"""
