"""ComfyUI's two formats of a graph: the UI's (what the editor saves; version 0.4) and the API's (POST /prompt).

``Workflow`` builds the first and ``to_api`` turns it into the second. ``object_info`` is what a server answers to
GET /object_info: the schema of every node. Standard library only.
"""

import json
import math
import re
import uuid
from collections.abc import Iterator
from typing import Any

from .arrange import SPACE, arrange, scale_of
from .flatten import nodes_of

DYNAMIC_COMBO, AUTOGROW = "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3"
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", DYNAMIC_COMBO}
NOTES = {"Note", "MarkdownNote"}

WIDTH, NOTE_WIDTH = 270, 400
RUNS = (
    "RefereeOptimizer", "RefereeSearch", "RefereeGuidance", "RefereeRounds", "RefereePromptOptimizer",
    "RefereePromptTrainer", "RefereeInverseSampler",
)  # fmt: skip
WIDER = dict.fromkeys((*RUNS, "PreviewAny"), 380)  # whose text takes more room
TITLE, SLOT, WIDGET = 30, 20, 24  # the editor's own sizes
GAP, WIDE_GAP = 26, 40  # room between nodes; they are a little higher in the editor's "Nodes 2.0"
PICTURE, CHART = 160, 160  # room below the fields; the chart with its status line
SHOWN = {
    "SaveImage": PICTURE,
    "PreviewImage": PICTURE,
    "LoadImage": PICTURE,
    **dict.fromkeys(RUNS, PICTURE + CHART),
    "PreviewAny": PICTURE,
    "RefereeStatements": 90,  # its lines
}
BLUE, GREY, GREEN = "#3f789e", "#6b7075", "#4c8f4c"
OURS, CORE = {"cnr_id": "referee", "ver": "0.1.0"}, {"cnr_id": "comfy-core", "ver": "0.30.0"}


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


def default_of(type_: str, options: dict) -> Any:
    """What the editor puts into a widget that nobody has touched."""
    first = (options.get("options") or [""])[0]
    return options.get("default", first["key"] if type_ == DYNAMIC_COMBO else first)


def companions(options: dict) -> list[str]:
    """What the editor saves after a widget's value: the state of the seed's control, the name of the upload button."""
    seed, upload = options.get("control_after_generate"), options.get("image_upload")
    return ["fixed"] * bool(seed) + ["image"] * bool(upload)


def to_api(workflow: dict, object_info: dict) -> dict:
    """A graph in the UI's format into the API's. Notes are left out.

    Raises:
        ValueError: the graph has muted or bypassed nodes, which this does not translate, a node that the server does
            not know, or a node whose number of widget values does not fit its schema.
    """
    api = {}
    for number, node, brought in nodes_of(workflow):
        kind, inputs, values = node["type"], {}, list(node.get("widgets_values") or [])
        if kind in NOTES:
            continue
        if kind not in object_info or node.get("mode", 0) != 0:
            raise ValueError(f"node {number} ({kind}) is unknown to the server, muted or bypassed")
        try:
            for name, type_, options in inputs_of(object_info[kind]["input"], inputs):
                if is_widget(type_, options):
                    inputs[name] = values.pop(0)
                    del values[: len(companions(options))]
        except IndexError:
            raise ValueError(f"node {number} ({kind}) has no value for {name!r}") from None
        if values:
            raise ValueError(f"node {number} ({kind}) has values too many: {values}")
        inputs |= {slot["name"]: brought[slot["link"]] for slot in node.get("inputs", []) if slot["link"] in brought}
        title = node.get("title") or object_info[kind].get("display_name") or kind
        api[number] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}
    return api


def height_in_note(line: str) -> int:
    """What a paragraph or list item of Markdown takes in the editor's "Nodes 2.0", which give it more room."""
    code = "".join(re.findall("`(.*?)`", line))
    rest = re.sub(r"`.*?`|\*|\[|\]\(.*?\)", "", line)
    in_a_row = 74 if re.match(r"- |\d\. ", line) else 77
    return 16 * math.ceil((len(rest) + 1.35 * len(code)) / in_a_row) + 8


class Node(dict):
    """A node as the file has it. Given as an input's value it means its first output."""

    def out(self, name: str) -> tuple["Node", int]:
        return self, [output["name"].lower() for output in self["outputs"]].index(name)


def _output(value: Any) -> tuple[Node, int] | None:
    """The node and the number of its output that a value stands for, if it does."""
    return value if isinstance(value, tuple) else (value, 0) if isinstance(value, Node) else None


def _box(one: dict) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a node with its title, or of a frame."""
    if "bounding" in one:
        x, y, width, height = one["bounding"]
    else:
        (x, y), (width, height) = one["pos"], one["size"]
        y, height = y - TITLE, height + TITLE
    return x, y, x + width, y + height


class Workflow:
    """A graph in the UI's format, version 0.4, laid out from left to right."""

    def __init__(self, name: str, info: dict, first: int = 1):
        """first: the number of the first node."""
        self.name, self.info, self.first = name, info, first
        self.nodes: list[Node] = []
        self.links: list[list] = []
        self.groups: list[dict] = []
        self.subgraphs: list[dict] = []
        self.blocks: list[list[dict]] = []  # nodes and frames that stay together
        self.right = 0

    def _node(self, type_: str, title: str, **rest) -> Node:
        order = len(self.nodes)
        size = [WIDER.get(type_, WIDTH), 0]
        node = Node(id=self.first + order, type=type_, pos=[0, 0], size=size, flags={}, order=order, mode=0)
        node.update(inputs=[], outputs=[], title=title, properties={}, widgets_values=[], **rest)
        self.nodes.append(node)
        return node

    def add(self, type_: str, title: str = "", **given) -> Node:
        """A node. ``given`` are its inputs: a value, a node or ``node.out("name")``; among sockets that grow
        "name.socket" and a node. An input of a combo's option goes by its own name, with or without "combo." before.

        Raises KeyError on an input that the node does not have."""
        definition = self.info[type_]
        node = self._node(type_, title or definition["display_name"] or type_)
        owner = OURS if definition["python_module"].startswith("custom_nodes") else CORE
        node["properties"] = {"Node name for S&R": type_, **owner}
        for name, kind in zip(definition["output_name"], definition["output"], strict=True):
            node["outputs"].append({"name": name, "type": kind, "links": []})
        values, sockets, fields, height = {}, [], [], 14
        for name, kind, options in inputs_of(definition["input"], values):
            if kind == AUTOGROW:
                ((_, (kind, *_)),) = options["template"]["input"]["required"].items()
                for grown in [key for key in given if key.startswith(f"{name}.")]:
                    sockets.append(({"name": grown, "type": kind}, (given.pop(grown), 0)))
                continue
            value = given.pop(name if name in given else name.rsplit(".", 1)[-1], None)
            link = _output(value)
            if not is_widget(kind, options):
                optional = name in definition["input"].get("optional", {})
                sockets.append(({"name": name, "type": kind} | ({"shape": 7} if optional else {}), link))
                continue
            default = default_of(kind, options)
            if link:
                default = link[0]["outputs"][link[1]].get("value", default)
            values[name] = default if link or value is None else value
            node["widgets_values"] += [values[name], *companions(options)]
            height += WIDGET * (1 + len(companions(options)) + options.get("multiline", False) * (2 if link else 4))
            if link:
                fields.append(({"name": name, "type": kind, "widget": {"name": name}}, link))
        if given:
            raise KeyError(f"{type_} has no input {', '.join(given)}")
        for slot, link in sockets + fields:  # the editor puts the sockets of widgets after all others
            node["inputs"].append(slot | {"link": self.link(link, node, len(node["inputs"])) if link else None})
        slots = max(len(sockets), len(node["outputs"]), 1) * SLOT
        node["size"][1] = slots + height + SHOWN.get(type_, 0)
        return node

    def link(self, source: Node | tuple[Node, int], node: Node, slot: int) -> int:
        """Join an output, by default the first, and the input at ``slot``; returns the link's number, for the input."""
        source, output = source if isinstance(source, tuple) else (source, 0)
        number = len(self.links) + 1
        socket = source["outputs"][output]
        socket["links"].append(number)
        self.links.append([number, source["id"], output, node["id"], slot, socket["type"]])
        return number

    def insert(self, file: dict, **given) -> Node:
        """A subgraph from its file, as one node. ``given`` are its sockets and fields, as for ``add``."""
        (outside,) = file["nodes"]
        node = self._node(outside["type"], outside["title"])
        node["properties"] = outside["properties"]
        node["outputs"] = [output | {"links": []} for output in outside["outputs"]]
        values = iter(outside["widgets_values"])
        for slot, entry in enumerate(outside["inputs"]):
            value = given.pop(entry["name"], None)
            link = _output(value)
            node["inputs"].append(entry | {"link": self.link(link, node, slot) if link else None})
            if "widget" in entry:
                default = next(values)
                node["widgets_values"].append(default if link or value is None else value)
        if given:
            raise KeyError(f"{node['title']} has no input {', '.join(given)}")
        self.subgraphs += [one for one in file["definitions"]["subgraphs"] if one not in self.subgraphs]
        fields, sockets = len(node["widgets_values"]), len(node["inputs"]) - len(node["widgets_values"])
        node["size"] = [WIDER["RefereeSearch"], SLOT * sockets + WIDGET * (fields + 3) + PICTURE + CHART]
        return node

    def notes(self, **texts: str) -> None:
        """Notes at the left edge, by title. Single line breaks are joined, except before list items."""
        self.place("", [self.note(title.replace("_", " "), text) for title, text in texts.items()])

    def note(self, title: str, text: str) -> Node:
        """A note, not yet placed."""
        node = self._node("MarkdownNote", title, color="#432", bgcolor="#653")
        text = re.sub(r"(?<!\n)\n(?!\n|- |\d\. )", " ", text.strip())
        node["widgets_values"] = [text]
        node["size"] = [NOTE_WIDTH, 30 + sum(height_in_note(line) for line in text.splitlines() if line)]
        return node

    def place(self, group: str, *columns: list[Node], colour: str = BLUE) -> None:
        """Stack nodes in columns, framed if ``group`` names a frame, to the right of the last call's."""
        margin, head = (12, 44) if group else (0, 0)
        x = self.right + (SPACE if self.right else 0)
        left, bottom = x + margin, 0
        for column in columns:
            top = head + TITLE
            for node in column:
                node["pos"], top = [left, top], top + node["size"][1] + GAP + TITLE
            left += max(node["size"][0] for node in column) + WIDE_GAP
            bottom = max(bottom, top - GAP - TITLE + margin)
        self.right = left - WIDE_GAP + margin
        self.blocks.append([node for column in columns for node in column])
        if group:
            frame = {"title": group, "bounding": [x, 0, self.right - x, bottom], "color": colour}
            self.groups.append({"id": len(self.groups) + 1, **frame, "font_size": 24, "flags": {}})
            self.blocks[-1].append(self.groups[-1])

    def fold(self) -> None:
        """Move what was placed together so that a window shows the whole as large as possible."""
        boxes = [[_box(one) for one in block] for block in self.blocks]
        edges = [[f(box[i] for box in block) for i, f in enumerate((min, min, max, max))] for block in boxes]
        places = arrange([(right - x, bottom - y) for x, y, right, bottom in edges])
        for block, edge, (x, y) in zip(self.blocks, edges, places, strict=True):
            for one in block:
                place = one.get("bounding", one.get("pos"))
                place[:2] = [place[0] + x - edge[0], place[1] + y - edge[1]]

    def text(self) -> str:
        """The file: a node, link or group a line, so that a change reads well in a diff."""
        _, _, right, bottom = (max(side) for side in zip(*map(_box, self.nodes), strict=True))
        scale = max(0.6, min(1.0, math.floor(100 * scale_of(right, bottom)) / 100))  # smaller ones hide all text
        rows = {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"referee/{self.name}")), "revision": 0,
            "last_node_id": self.nodes[-1]["id"], "last_link_id": len(self.links),
            "nodes": self.nodes, "links": self.links, "groups": self.groups, "config": {},
            **({"definitions": {"subgraphs": self.subgraphs}} if self.subgraphs else {}),
            "extra": {"ds": {"scale": scale, "offset": [round(200 / scale)] * 2}, "workflowRendererVersion": "LG"},
            "version": 0.4,
        }  # fmt: skip

        def dump(value) -> str:
            if isinstance(value, list):
                return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in value) + "\n]"
            return json.dumps(value, ensure_ascii=False)

        return "{\n" + ",\n".join(f'"{key}": {dump(value)}' for key, value in rows.items()) + "\n}\n"
