"""The methods of the pack in plain PyTorch. Nothing here imports ComfyUI."""
