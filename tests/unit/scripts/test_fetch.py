"""Fetching ahead from a hub, and running without it: the real client against a small server."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from omegaconf import OmegaConf

from unlearn_runner.config.groups import CONF

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOFU: Any = OmegaConf.to_container(OmegaConf.load(CONF / "benchmark" / "tofu.yaml"))["source"]  # type: ignore
SCRIPT = CONF.parent / "scripts" / "fetch.py"


@dataclass
class Hub:
    """What the server has: files by repository, as (kind, id)."""

    repositories: dict[tuple[str, str], dict[str, bytes]]
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Returns status, body and headers of a GET."""
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        for (kind, name), files in self.repositories.items():
            owner = name.split("/")
            prefix = ["datasets"] if kind == "datasets" else []
            if parts[: 4 + 0] == ["api", kind, *owner]:
                return self._about(name, files, parts[4:])
            if parts[: len(prefix) + 3] == [*prefix, *owner, "resolve"]:
                file = "/".join(parts[len(prefix) + 4 :])
                if file in files:
                    etag = f'"{hashlib.sha256(files[file]).hexdigest()[:40]}"'
                    return 200, files[file], {"ETag": etag, "X-Repo-Commit": self._commit(kind)}
        missing = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
        return 404, b"{}", missing

    def _commit(self, kind: str) -> str:
        return TOFU["revision"] if kind == "datasets" else COMMIT

    def _about(
        self, name: str, files: dict[str, bytes], rest: list[str]
    ) -> tuple[int, bytes, dict[str, str]]:
        if rest[:1] == ["tree"]:
            tree: Any = [
                {"type": "file", "path": path, "size": len(data), "oid": f"{len(data):040x}"}
                for path, data in files.items()
            ]
            return 200, json.dumps(tree).encode(), {"Content-Type": "application/json"}
        about = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]}
        return 200, json.dumps(about).encode(), {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def hub(tofu_files: Path) -> Iterator[tuple[Hub, str]]:
    """A hub with a model, one without weights, and the TOFU data set; and where it listens."""
    files = {
        "config.json": b'{"model_type": "llama"}',
        "model.safetensors": (2).to_bytes(8, "little") + b"{}",
        "tokenizer.json": b'{"model": {"vocab": {}}}',
    }
    extra = {"README.md": b"# Tiny", "pytorch_model.bin": b"pickle", "code.py": b"import os"}
    tofu = {f"{split}.json": tofu_files / f"{split}.json" for split in TOFU["sizes"]}
    served = Hub(
        {
            ("models", "nobody/tiny"): {**files, **extra},
            ("models", "nobody/bare"): {"config.json": files["config.json"], **extra},
            ("datasets", TOFU["hub"]): {name: path.read_bytes() for name, path in tofu.items()},
        }
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            status, body, headers = served.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield served, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(command: list[str], cwd: Path, **env: str) -> Any:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**kept, "COLUMNS": "250", "NO_PROXY": "127.0.0.1", **env},
        capture_output=True,
        text=True,
        timeout=1800,
    )


def fetch(cwd: Path, *arguments: str, **env: str) -> Any:
    return run([str(SCRIPT), *arguments], cwd, **env)


def unlearn(cwd: Path, *arguments: str, **env: str) -> Any:
    return run(["-m", "unlearn_runner.run", *arguments], cwd, **env)


MODEL = ("model=hf", "model.path=nobody/tiny", "plan_only=true")


def test_what_was_fetched_is_planned_and_found_without_a_network(
    hub: tuple[Hub, str], tmp_path: Path
) -> None:
    served, place = hub
    home = str(tmp_path / "home")
    done = fetch(tmp_path, "nobody/tiny", HF_HOME=home, HF_ENDPOINT=place)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.splitlines()[-1].strip())
    assert folder.is_relative_to(home)
    have = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= have
    assert not have & {"README.md", "pytorch_model.bin", "code.py"}
    assert not [path for path in served.asked if path.endswith((".bin", ".py", ".md"))]

    planned = unlearn(tmp_path, *MODEL, HF_HOME=home, HF_HUB_OFFLINE="1")
    assert (planned.returncode, planned.stderr) == (0, "")
    assert re.search(r"│ base +│ given/\w+ +│ given ", planned.stdout)
    assert f"nobody/tiny at {COMMIT[:12]}" in planned.stdout  # the branch as it was fetched


def test_a_run_fetches_what_is_not_there(hub: tuple[Hub, str], tmp_path: Path) -> None:
    """Up to the base: that the rest runs from a folder is shown elsewhere."""
    code = (
        "from unlearn_runner.pipeline.stages.given import given\n"
        "stage = given('base', 'model.path', 'nobody/tiny', None)\n"
        "assert stage.outside() is None\n"
        "print(stage.run(None), stage.outside())\n"
        "assert given('base', 'model.path', 'nobody/tiny', stage.commit) == stage\n"
    )
    done = run(["-c", code], tmp_path, HF_HOME=str(tmp_path / "home"), HF_ENDPOINT=hub[1])
    assert done.returncode == 0, done.stderr
    outcome, folder = done.stdout.split()[-2:]
    assert outcome == "completed"
    assert Path(folder, "model.safetensors").is_file()


def test_tofu_is_fetched_checked_and_read_again_without_a_network(
    hub: tuple[Hub, str], tofu_files: Path, tmp_path: Path
) -> None:
    home = str(tmp_path / "home")
    done = fetch(tmp_path, "--tofu", HF_HOME=home, HF_ENDPOINT=hub[1])
    assert done.returncode == 0, done.stderr
    counts = dict(re.findall(r"^  (\w+): (\d+) rows$", done.stdout, re.MULTILINE))
    assert {split: int(rows) for split, rows in counts.items()} == TOFU["sizes"]
    code = (
        "import sys\n"
        "from unlearn_runner.data.sources import Tofu\n"
        "for split in ('forget10_perturbed', 'retain90'):\n"
        "    assert Tofu().read(split) == Tofu(data_dir=sys.argv[1]).read(split)\n"
        "Tofu().read('forget11')\n"
    )
    read = run(["-c", code, str(tofu_files)], tmp_path, HF_HOME=home, HF_HUB_OFFLINE="1")
    # Only what was never there is asked for, and refused.
    assert "the hub data set locuslab/TOFU (forget11) could not be read" in read.stderr


MISTAKES: dict[str, tuple[tuple[str, ...], dict[str, str], tuple[str, ...]]] = {
    "nothing": ((), {}, ("nothing to fetch", "--tofu")),
    "mistyped": (("phii",), {}, ("phii is none", "llama32_1b", "fix: python scripts/fetch.py phi")),
    "made here": (("pocket",), {}, ("pocket is made on the spot", "owner/name")),
    "flag": (("--tofuu",), {}, ("--tofuu", "--help")),
    "not there": (("nobody/else",), {}, ("nobody/else", "404")),
    "no weights": (("nobody/bare",), {}, ("nobody/bare", "no .safetensors weights")),
    "offline": (("phi",), {"HF_HUB_OFFLINE": "1"}, ("HF_HUB_OFFLINE=1", "unset HF_HUB_OFFLINE")),
    "no network": (
        ("nobody/tiny",),
        {"HF_ENDPOINT": "http://127.0.0.1:9"},
        ("nobody/tiny", "where the hub can be reached"),
    ),
    "no network for data": (
        ("--tofu",),
        {"HF_ENDPOINT": "http://127.0.0.1:9"},
        ("locuslab/TOFU (full)", "where the hub can be reached"),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_explained_in_two_lines(
    name: str, hub: tuple[Hub, str], tmp_path: Path
) -> None:
    arguments, env, says = MISTAKES[name]
    done = fetch(tmp_path, *arguments, **{"HF_ENDPOINT": hub[1], "HF_HOME": str(tmp_path), **env})
    # The client draws bars of what it fetches.
    said = [line for line in done.stderr.splitlines() if line.strip() and "Fetching" not in line]
    assert done.returncode == 2, done.stderr
    assert 1 <= len(said) <= 2, done.stderr
    assert [words for words in says if words not in done.stderr] == []
    assert not list(tmp_path.glob("hub/*/snapshots/*/*.safetensors"))
