"""One method under ComfyUI each: what a node hands over, run to its end."""
