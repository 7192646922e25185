"""`push_to_hub` and the model card: to a server on this machine that answers as the hub does."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

TOKEN = "hf_a-secret-of-the-environment"


class Hub(BaseHTTPRequestHandler):
    """The endpoints that an upload asks for; `got` has what came, by path in the repository."""

    got: dict[str, bytes]
    made: list[dict[str, Any]]
    tokens: set[str | None]

    def do_GET(self) -> None:
        self._json({"type": "user", "name": "me", "auth": {}})

    def do_PUT(self) -> None:
        self.got[self.path] = self._body()
        self._json({})

    def do_POST(self) -> None:
        body, host = self._body(), f"http://127.0.0.1:{self.server.server_address[1]}"
        self.tokens.add(self.headers.get("Authorization"))
        if self.path.endswith("/api/repos/create"):
            self.made.append(json.loads(body))
            self._json({"url": f"{host}/me/x", "name": "me/x"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = {True: "lfs", False: "regular"}
            answer = [
                {
                    "path": f["path"],
                    "uploadMode": modes[f["path"].endswith(".safetensors")],
                    "shouldIgnore": False,
                }
                for f in files
            ]
            self._json({"files": answer})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{host}/lfs/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            self._json({"transfer": "basic", "objects": objects})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.got[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.got[value["path"]] = self.got[f"/lfs/{value['oid']}"]
            self._json({"commitUrl": f"{host}/me/x/commit/0", "commitOid": "0" * 40})
        else:
            self._json({})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _json(self, content: Any) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    Hub.got, Hub.made, Hub.tokens = {}, [], set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def run(tmp_path: Path, *more: str, **env: str) -> subprocess.CompletedProcess[str]:
    words = ["debug=tiny", "method=npo", "parallel.threads=1", "parallel.device=cpu", "name=one"]
    words += [f"output_dir={tmp_path}", "push_to_hub=me/x", *more]
    usual = {k: v for k, v in os.environ.items() if k not in ("HF_TOKEN", "HF_HUB_OFFLINE")}
    return subprocess.run(
        [sys.executable, "-m", "unlearn_runner", *words],
        capture_output=True,
        text=True,
        env={**usual, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "hf"), **env},
        timeout=600,
    )


def test_a_model_and_its_card_reach_the_hub_and_without_it_the_run_is_not_lost(
    tmp_path: Path, hub: ThreadingHTTPServer
) -> None:
    first = run(tmp_path)
    assert first.returncode == 0, first.stderr
    said = first.stdout.splitlines()
    impossible = "push_to_hub=me/x: not possible now (HF_TOKEN is not set); the run goes on"
    assert said[0] == impossible  # before anything is computed
    assert "hub      me/x: not pushed: HF_TOKEN is not set; the same command tries again" in said
    results = json.loads((tmp_path / "runs/one/results.json").read_text())
    assert results["status"] == "completed"

    second = run(tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{hub.server_address[1]}", HF_TOKEN=TOKEN)
    assert second.returncode == 0, second.stderr
    assert "hub      me/x: pushed" in second.stdout.splitlines()
    assert "not possible" not in second.stdout
    assert Hub.tokens == {f"Bearer {TOKEN}"}
    assert [(m["name"], m["organization"], m["visibility"]) for m in Hub.made] == [
        ("x", "me", "private")
    ]
    (model,) = (tmp_path / "store/unlearn").glob("[0-9a-f]*")
    for name in ("README.md", "config.json", "tokenizer.json", "model.safetensors"):
        assert Hub.got[name] == (model / name).read_bytes(), name
    assert "manifest.json" not in Hub.got
    written = [p for p in tmp_path.rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]
    assert written == []

    card = (model / "README.md").read_text(encoding="utf-8")
    for name, value in results["scores"].items():
        if not name.startswith(("target.", "retain_model.")) and abs(value) > 1e-3:
            row = next(line for line in card.splitlines() if line.startswith(f"| {name} "))
            assert f"{value:.4f}" in row
            if name in results["intervals"]:
                assert f"{results['intervals'][name][0]:.4f} to" in row or "e-" in row
    for words in ("by npo, rectifier gru", "40 were to be forgotten (forget10)", "## Limits"):
        assert words in card
    assert re.search(r"\| train.lr +\| 8e-5 \|", card)
    assert results["provenance"]["command"] in card


def test_what_cannot_be_uploaded_is_refused_at_once(tmp_path: Path) -> None:
    for words, problem in {
        ("push_to_hub=mine",): "push_to_hub=mine is no repository of the hub; allowed: owner/name",
        ("keep=scores",): "push_to_hub uploads the unlearned model, which keep=scores does not",
        ("-m", "seed=0,1"): "push_to_hub=me/x: 2 jobs would upload their models there",
    }.items():
        done = run(tmp_path, *words)
        assert done.returncode == 2
        assert problem in done.stderr
        assert done.stderr.count("\n") == 2
    assert list(tmp_path.iterdir()) == []
