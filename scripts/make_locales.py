"""Write the English texts of locales/en from the schemas: ``python -m scripts.make_locales --comfyui ~/ComfyUI``.

The other languages are translated by hand; tests/comfyui/test_locales.py names what they lack.
"""

import argparse
import json
from pathlib import Path

from .make_workflows import object_info
from .server import PACK


def input_texts(inputs: dict, path: str = "") -> dict:
    """Name and tooltip of every input, under the key by which ComfyUI's frontend looks them up.

    An input of a DynamicCombo's option and a socket of an Autogrow is called ``outer.inner`` there; its key is
    ``outer_inner``.
    """
    found = {}
    for name, (_, *rest) in (inputs.get("required", {}) | inputs.get("optional", {})).items():
        options, key = rest[0] if rest else {}, path + name
        found[key] = {"name": name, "tooltip": options.get("tooltip", "")}
        for option in options.get("options", []):
            if isinstance(option, dict):
                found |= input_texts(option["inputs"], f"{key}_")
        if "template" in options:
            template = options["template"]
            ((_, socket),) = template["input"]["required"].values()
            for number in range(template["max"]):
                label = f"{template['prefix']}{number}"
                found[f"{key}_{label}"] = {"name": label, "tooltip": socket["tooltip"]}
    return found


def node_texts(info: dict) -> dict:
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": input_texts(info["input"]),
        "outputs": {str(slot): {"name": name, "tooltip": tooltip} for slot, (name, tooltip) in enumerate(outputs)},
    }


def english(info: dict) -> dict[str, dict]:
    """The files of locales/en by name, from an answer of GET /object_info."""
    pack = {name: node for name, node in info.items() if "ComfyUI-Referee" in node["python_module"]}
    parts = sorted({part for node in pack.values() for part in node["category"].split("/")})
    return {
        "main": {"nodeCategories": {part: part for part in parts}},
        "nodeDefs": {name: node_texts(node) for name, node in pack.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--comfyui", type=Path, help="ComfyUI's folder; a server is started there and asked")
    source.add_argument("--object-info", type=Path, help="a saved answer of GET /object_info")
    parser.add_argument("--out", type=Path, default=PACK / "locales" / "en")
    args = parser.parse_args()
    info = json.loads(args.object_info.read_text()) if args.object_info else object_info(args.comfyui)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, texts in english(info).items():
        (args.out / f"{name}.json").write_text(json.dumps(texts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{name}.json: {len(texts)} entries")


if __name__ == "__main__":
    main()
