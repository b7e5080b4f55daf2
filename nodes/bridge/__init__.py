"""ComfyUI's ways, apart from the nodes: leaving inference mode, patchers, guiders, previews."""
