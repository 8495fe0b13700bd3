"""Pushing: the real client against a small hub of our own on loopback; refusals are one line."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest

from stillhouse.core.errors import UserError
from stillhouse.exporting.push import push


class Hub(BaseHTTPRequestHandler):
    """Takes one repository in the hub's protocol; small files come inline in the commit."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub = self.server
        if self.headers.get("Authorization") != "Bearer right":
            return self.answer({"error": "Invalid credentials"}, 401)
        if self.path == "/api/repos/create":
            hub.created = json.loads(body)
            return self.answer({"url": f"{hub.address}/{hub.created.get('organization')}/{hub.created['name']}"})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            return self.answer(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
            )
        if "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            hub.files = {
                e["value"]["path"]: base64.b64decode(e["value"]["content"]) for e in lines if e["key"] == "file"
            }
            return self.answer(
                {"success": True, "commitOid": "0" * 40, "commitUrl": f"{hub.address}/me/small/commit/0"}
            )
        return self.answer({}, 404)

    def do_GET(self):
        known = self.headers.get("Authorization") == "Bearer right"
        self.answer(
            {"id": "me/small", "siblings": []} if known else {"error": "Invalid credentials"}, 200 if known else 401
        )

    def answer(self, content, code=200):
        text = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "right")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.address, server.created, server.files = f"http://127.0.0.1:{server.server_port}", None, None
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def exported(tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "export.json").write_text("{}")
    (tmp_path / "onnx" / "README.md").write_text("---\nlicense: other\n---\n# A card\n")
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"\x08\x07")
    return tmp_path / "onnx"


def hidden(created):
    """Whether the client asked for a private repository, in the words of its version."""
    return created["private"] if "private" in created else {"private": True, "public": False}[created["visibility"]]


def test_an_export_is_pushed_whole_and_private(hub, exported):
    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    assert push(exported, "me/small", endpoint=hub.address) == f"{hub.address}/me/small/commit/0"
    assert hub.created["name"] == "small" and hidden(hub.created)
    assert hub.files == {p.name: p.read_bytes() for p in exported.iterdir()}
    assert offline == huggingface_hub.constants.HF_HUB_OFFLINE
    push(exported, "me/small", public=True, endpoint=hub.address)
    assert not hidden(hub.created)


def test_what_cannot_be_pushed(hub, exported, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="not an export"):
        push(tmp_path, "me/small", endpoint=hub.address)
    with pytest.raises(UserError, match="no repository's name"):
        push(exported, "me/small/x", endpoint=hub.address)
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(UserError, match="did not take it"):
        push(exported, "me/small", endpoint=hub.address)
    assert hub.files is None
    with pytest.raises(UserError, match="did not take it"):
        push(exported, "me/small", endpoint="http://127.0.0.1:9")
