"""ComfyUI-Referee: make an image obey its text by letting a vision-language referee play.

What ComfyUI loads; everything heavy is imported where it is used.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    from .nodes import RefereeExtension

    return RefereeExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
