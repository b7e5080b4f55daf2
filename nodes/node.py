"""What the pack's nodes that ask for hidden inputs have in common."""

from comfy_api.latest import io


class Node(io.ComfyNode):
    """A node whose hidden inputs are None, each of them, where another node calls it and ComfyUI fills in nothing."""

    hidden = io.HiddenHolder.from_dict(None)
