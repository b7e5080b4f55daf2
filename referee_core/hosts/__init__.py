"""Adapters that let the methods run outside ComfyUI."""
