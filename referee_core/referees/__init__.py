"""Referees: what they read of a picture, and one module or package each."""
