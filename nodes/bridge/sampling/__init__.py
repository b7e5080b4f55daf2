"""ComfyUI's samplers, guiders and latents, as the methods need them."""
