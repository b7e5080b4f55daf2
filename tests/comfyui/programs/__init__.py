"""Programs that tests run inside ComfyUI's process: each leaves what it has found in its dictionary ``found``."""

given = {}
"""What the test passes in."""
