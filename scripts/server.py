"""A real ComfyUI process and the few calls that drive it. Standard library only."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent


class PromptError(RuntimeError):
    """A prompt that was refused or failed; ``details`` is what ComfyUI said."""

    def __init__(self, message: str, details: dict):
        super().__init__(message)
        self.details = details


class Graph(dict):
    """A prompt in API format: ``g.add("KSampler", model=loader[0], ...)`` returns the node's outputs."""

    def add(self, class_type: str, **inputs) -> list[list]:
        node = str(len(self) + 1)
        self[node] = {"class_type": class_type, "inputs": {k.replace("__", "."): v for k, v in inputs.items()}}
        return [[node, slot] for slot in range(8)]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Client:
    """A running ComfyUI.

    Args:
        url: its address, such as http://127.0.0.1:8188.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    def check(self) -> None:
        """Raise if it has ended."""

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict) -> dict:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            details = json.loads(error.read() or b"{}")
            raise PromptError(f"{path} answered {error.code}: {json.dumps(details)[:2000]}", details) from None

    def queue(self, graph: dict, client_id: str = "", workflow: str = "") -> str:
        """The prompt's id. workflow: of the graph in the editor, under which the nodes' charts are kept."""
        page = {"workflow": {"id": workflow}} if workflow else {}
        body = {"prompt": graph, "client_id": client_id or uuid.uuid4().hex, "extra_data": {"extra_pnginfo": page}}
        return self.post("/prompt", body)["prompt_id"]

    def wait(self, prompt_id: str, seconds: float = 600) -> dict:
        """The prompt's history once it has ended. Raises PromptError when it failed or was interrupted."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                if entry["status"]["status_str"] == "success":
                    return entry
                messages = dict(entry["status"]["messages"])
                details = messages.get("execution_error") or messages.get("execution_interrupted") or {}
                raise PromptError(str(details.get("exception_message", "interrupted")).strip(), details)
            self.check()
            time.sleep(0.1)
        raise TimeoutError(f"prompt {prompt_id} did not end within {seconds} s")

    def run(self, graph: dict, seconds: float = 600) -> dict:
        return self.wait(self.queue(graph), seconds)["outputs"]

    def image(self, entry: dict) -> bytes:
        """The file behind an image entry of a node's output."""
        query = urllib.parse.urlencode({k: entry[k] for k in ("filename", "subfolder", "type")})
        with urllib.request.urlopen(f"{self.url}/view?{query}", timeout=30) as answer:
            return answer.read()

    def upload(self, name: str, png: bytes) -> str:
        """Put a picture into its input folder; returns the name for Load Image."""
        edge = uuid.uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        body = f"{head}Content-Type: image/png\r\n\r\n".encode() + png + f"\r\n--{edge}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.url}/upload/image", body, kind), timeout=60
        ) as answer:
            return json.load(answer)["name"]


class Server(Client):
    """A ComfyUI on the CPU with no custom node but this pack and empty folders of its own.

    Args:
        comfyui: ComfyUI's folder. base: where input, output, models, user and custom_nodes are made.
    """

    def __init__(self, comfyui: Path, base: Path, arguments: tuple[str, ...] = ("--cpu",)):
        self.base, self.port = base, free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        for folder in ("models/referee", "input", "output", "user"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        nodes = base / "custom_nodes"
        nodes.mkdir(exist_ok=True)
        link = nodes / "ComfyUI-Referee"
        if not link.exists():
            link.symlink_to(PACK, target_is_directory=True)
        self.log_path = base / "comfyui.log"
        command = [sys.executable, "main.py", "--port", str(self.port), "--base-directory", str(base)]
        command += ["--disable-auto-launch", "--database-url", "sqlite:///:memory:", *arguments]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=comfyui, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
            )
        self._wait()

    def _wait(self, seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.2)
        log = self.log
        self.stop()
        raise RuntimeError(f"ComfyUI did not start. Its last words:\n{log[-3000:]}")

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exc) -> None:
        self.stop()

    def check(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"ComfyUI ended while it worked:\n{self.log[-3000:]}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
