"""A model from a hub: a real download, over HTTP, from as much of a hub as that needs."""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from encoders import small_models

from mmrec.encoders.hub.text import HubText
from mmrec.types import Modality

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as a download needs: what a revision is, and its files."""

    root: Path
    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        path = self.path.partition("?")[0]
        names = [str(file.relative_to(self.root)) for file in sorted(self.root.rglob("*")) if file.is_file()]
        if path.startswith("/api/models/owner/words/tree/"):
            sizes = {name: (self.root / name).stat().st_size for name in names}
            self.answer_json([{"type": "file", "path": name, "size": sizes[name], "oid": "0" * 40} for name in names])
        elif path.startswith("/api/models/owner/words"):
            files = [{"rfilename": name} for name in names]
            self.answer_json({"_id": "0", "id": "owner/words", "sha": COMMIT, "private": False, "siblings": files})
        elif (name := path.partition(f"/owner/words/resolve/{COMMIT}/")[2]) in names:
            self.answer((self.root / name).read_bytes(), "application/octet-stream")
        else:
            self.answer(b"{}", "application/json", 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer_json(self, content: object) -> None:
        self.answer(json.dumps(content).encode(), "application/json")

    def answer(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{abs(hash(body)):x}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub(tmp_path: Path):
    own = Path(shutil.copytree(small_models.bert_mean(), tmp_path / "words"))
    (own / "onnx").mkdir()
    (own / "onnx" / "model.onnx").write_bytes(b"another format")
    (own / "pytorch_model.bin").write_bytes(b"weights in another format")
    handler = type("OwnHub", (Hub,), {"root": own, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.asked, own
    server.shutdown()
    server.server_close()


DOWNLOAD = """
import json
from mmrec.encoders.hub.text import HubText
from mmrec.types import Modality
encoder = HubText("owner/words")
space = encoder.spaces[Modality.TEXT][0]
files = encoder._files
light = sorted(path.suffix for path in files.folder.iterdir() if path.suffix in (".safetensors", ".bin"))
(vectors,) = encoder.encode(Modality.TEXT, [encoder.prepare(Modality.TEXT, "a red boat")]).values()
names = sorted(str(path.relative_to(files.folder)) for path in files.folder.rglob("*") if path.is_file())
print(json.dumps([space.dim, files.pin, light, names, vectors.tolist()]))
"""


@pytest.mark.slow
def test_a_model_is_downloaded_once_and_its_weights_when_they_are_needed(hub, tmp_path: Path):
    address, asked, own = hub
    offline = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"}
    there = {name: value for name, value in os.environ.items() if name not in offline}
    there |= {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    run = [sys.executable, "-W", "ignore", "-c", DOWNLOAD]
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=there)
    assert done.returncode == 0, done.stderr
    dim, pin, light, names, vectors = json.loads(done.stdout)
    assert (dim, pin, light) == (32, COMMIT, [])
    assert "model.safetensors" in names
    assert not {"pytorch_model.bin", "onnx/model.onnx"} & set(names)
    encoder = HubText(str(own))
    (expected,) = encoder.encode(Modality.TEXT, [encoder.prepare(Modality.TEXT, "a red boat")]).values()
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    asked.clear()
    again = subprocess.run(run, capture_output=True, text=True, check=True, env=there)
    assert again.stdout == done.stdout.replace("[]", '[".safetensors"]', 1)
    assert asked == []
