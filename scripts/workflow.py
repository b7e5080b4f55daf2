"""ComfyUI's two ways to write a graph: the UI's (what the editor saves, version 0.4) and the API's (what POST /prompt takes).

Standard library only. ``object_info`` is the answer of a server's GET /object_info: the schema of every node.
"""

from collections.abc import Iterator

DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", DYNAMIC_COMBO}
NOTES = {"Note", "MarkdownNote"}


def inputs_of(schema: dict, chosen: dict, prefix: str = "") -> Iterator[tuple[str, str, dict]]:
    """(name, type, options) of each input in the order in which the editor makes sockets and widgets.

    Args:
        schema: a node's ``object_info[...]["input"]``.
        chosen: input values by name. A dynamic combo's value is looked up there after the combo itself was yielded; the
            inputs of the option that it names follow, as ``combo.input``.
    """
    for kind in ("required", "optional"):
        for name, (type_, *rest) in schema.get(kind, {}).items():
            options = rest[0] if rest else {}
            if isinstance(type_, list):  # the older way to write a combo
                type_, options = "COMBO", {"options": type_, **options}
            yield prefix + name, type_, options
            if type_ == DYNAMIC_COMBO:
                option = next((o for o in options["options"] if o["key"] == chosen[prefix + name]), None)
                if option is None:
                    raise ValueError(f"{prefix + name!r} has no option {chosen[prefix + name]!r}")
                yield from inputs_of(option["inputs"], chosen, f"{prefix}{name}.")


def is_widget(type_: str, options: dict) -> bool:
    """Whether the input is a field on the node, which may also be fed by a link, and not only a socket."""
    return type_ in WIDGETS and not options.get("forceInput")


def companions(options: dict) -> list[str]:
    """What the editor saves after a widget's value: the state of the seed's control, the name of the upload button."""
    seed, upload = options.get("control_after_generate"), options.get("image_upload")
    return ["fixed"] * bool(seed) + ["image"] * bool(upload)


def to_api(workflow: dict, object_info: dict) -> dict:
    """A graph in the UI's format into the API's. Notes are left out.

    Raises:
        ValueError: the graph has what this does not translate (subgraphs, muted or bypassed nodes), a node that the server
            does not know, or a node whose number of widget values does not fit its schema.
    """
    if workflow.get("definitions", {}).get("subgraphs"):
        raise ValueError("subgraphs are not supported: unpack them in the editor first")
    source = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    api = {}
    for node in workflow["nodes"]:
        kind, inputs, values = node["type"], {}, list(node.get("widgets_values") or [])
        if kind in NOTES:
            continue
        if kind not in object_info or node.get("mode", 0) != 0:
            raise ValueError(f"node {node['id']} ({kind}) is unknown to the server, muted or bypassed")
        try:
            for name, type_, options in inputs_of(object_info[kind]["input"], inputs):
                if is_widget(type_, options):
                    inputs[name] = values.pop(0)
                    del values[: len(companions(options))]
        except IndexError:
            raise ValueError(f"node {node['id']} ({kind}) has no value for {name!r}") from None
        if values:
            raise ValueError(f"node {node['id']} ({kind}) has values too many: {values}")
        inputs |= {slot["name"]: source[slot["link"]] for slot in node.get("inputs", []) if slot.get("link") is not None}
        title = node.get("title") or object_info[kind].get("display_name") or kind
        api[str(node["id"])] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}
    return api
