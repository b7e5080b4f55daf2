"""Gradients through the user's loaded models: one block in which weights, attention and memory are ready for them."""
