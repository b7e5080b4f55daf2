"""Priors: what keeps a picture natural, one module each."""
