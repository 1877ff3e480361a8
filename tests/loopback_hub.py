"""A Hub on this host that serves one folder as one repository, read-only: enough of its REST calls to download it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "a" * 40


@contextmanager
def serving(folder: Path, name: str) -> Iterator[str]:
    """The address to set as HF_ENDPOINT while `folder` is the model repository `name`."""
    handler = type("Handler", (_Handler,), {"folder": folder, "name": name})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    name: str

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        names = [file.relative_to(self.folder).as_posix() for file in files]
        if path.startswith(f"/api/models/{self.name}/tree/"):
            self._json([{"type": "file", "path": name, "size": file.stat().st_size, "oid": _digest(file)}
                        for name, file in zip(names, files, strict=True)])
        elif path.startswith(f"/api/models/{self.name}"):
            self._json({"id": self.name, "sha": COMMIT, "private": False, "tags": [], "downloads": 0, "likes": 0,
                        "siblings": [{"rfilename": name} for name in names]})
        else:
            wanted = path.partition("/resolve/")[2].partition("/")[2]
            self._file(self.folder / wanted if wanted in names else None)

    def _json(self, told: Any) -> None:
        self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _file(self, file: Path | None) -> None:
        if file is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            self._send(200, file.read_bytes(), {"ETag": f'"{_digest(file)}"', "X-Repo-Commit": COMMIT})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
