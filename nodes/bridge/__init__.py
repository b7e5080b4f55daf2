"""ComfyUI's ways, apart from the nodes and the methods."""
