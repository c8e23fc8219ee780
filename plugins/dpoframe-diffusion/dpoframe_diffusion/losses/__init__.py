"""Losses that are images' own. The score of an image is -MSE/2, MSE its denoising error averaged over the latent.

Notation in the docstrings: w is the chosen (winning) and l the rejected (losing) image, MSE the policy's and MSEref the
reference's error on it at one noise and timestep, s the logistic function, LS = log s.
"""
