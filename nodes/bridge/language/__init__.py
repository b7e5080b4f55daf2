"""Language models that ComfyUI has loaded as CLIP: asked about pictures, and for statements."""
