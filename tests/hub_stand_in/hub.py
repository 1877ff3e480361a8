"""The Hub that tests talk to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from tests.hub_stand_in.faults import Faults
from tests.hub_stand_in.repository import Repository, RepoType
from tests.hub_stand_in.server import Seen, Server
from tests.hub_stand_in.store import Store

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from pytest import MonkeyPatch

WRITE, READ, STRANGER = "hf_write", "hf_read", "hf_stranger"
ROOT = Path(__file__).parents[2]


class Hub:
    """A running stand-in.

    It knows the user `ada`, an admin of the organisation `org`, with the tokens `hub.write` and `hub.read` (which may
    not write), and `bob`, who has no part in `org`, with `hub.stranger`. More: `hub.accounts.add_user(...)`.
    """

    write, read, stranger = WRITE, READ, STRANGER

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.store = Store(folder / "hub")
        self.faults = Faults()
        self.server = Server(self.store, self.faults, port)
        self.quotas = self.server.quotas
        self.accounts = self.store.accounts
        self.accounts.add_user("ada")
        self.accounts.add_user("bob")
        self.accounts.add_organisation("org", ada="admin")
        self.accounts.add_token(WRITE, "ada")
        self.accounts.add_token(READ, "ada", "read")
        self.accounts.add_token(STRANGER, "bob")

    @property
    def endpoint(self) -> str:
        return self.store.endpoint

    @property
    def requests(self) -> list[Seen]:
        """Everything that was asked, in order."""
        return list(self.server.requests)

    def count(self, kind: str, status: int | None = None) -> int:
        """How many requests of this kind came (and were answered so)."""
        return sum(one.kind == kind and status in (None, one.status) for one in self.requests)

    def wait_for(self, kind: str, count: int = 1, timeout_s: float = 300) -> None:
        """Until so many requests of this kind have come: then is the moment to kill whoever sends them."""
        end = time.monotonic() + timeout_s
        while self.count(kind) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.count(kind)} of {count} {kind} requests within {timeout_s} s")
            time.sleep(0.02)

    def repository(self, id: str, type: RepoType = "dataset") -> Repository:
        """A repository as the Hub has it: `.files`, `.commits`, `.refs`."""
        return self.store.repositories[type, id]

    def content(self, id: str, path: str, type: RepoType = "dataset") -> bytes:
        """A file of main."""
        return self.store.blobs.read(self.repository(id, type).files[path].sha256)

    def api(self, token: str | None = WRITE) -> HfApi:
        """The real client. In the test's own process it needs the fixture's patches of its constants."""
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=token or False)

    def environment(self, token: str | None = WRITE, **more: str) -> dict[str, str]:
        """What a process of its own needs so that its clients talk to this Hub, and to nothing else."""
        home = self.folder / "home"
        return {
            "HF_ENDPOINT": self.endpoint, "HF_TOKEN": token or "", "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub"), "HF_XET_CACHE": str(home / "xet"),
            "HF_DATASETS_CACHE": str(home / "datasets"),
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost",
            **more,
        }

    def python(
        self, code: str, token: str | None = WRITE, *, timeout_s: float = 600, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run code in a process of its own with `environment(token)`; its working folder is `hub.folder`."""
        with self.start(code, token, **environment) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout_s)
            finally:
                process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def start(self, code: str, token: str | None = WRITE, **environment: str) -> subprocess.Popen[str]:
        """The same without waiting for its end."""
        return subprocess.Popen(
            [sys.executable, "-c", code], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment(token, **environment)},
        )

    def patch(self, monkeypatch: MonkeyPatch) -> None:
        """Let the client in this process, which read its constants when it was imported, reach this Hub by LFS."""
        address = f"{self.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for name, value in {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True, "ENDPOINT": self.endpoint,
                            "HUGGINGFACE_CO_URL_TEMPLATE": address}.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@contextmanager
def serving(folder: Path | None = None, port: int = 0) -> Iterator[Hub]:
    """A Hub while the block runs; what it holds lies in `folder` and is removed with the Hub."""
    hub = Hub(folder or Path(mkdtemp(prefix="hub-")), port)
    threading.Thread(target=hub.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield hub
    finally:
        hub.server.shutdown()
        hub.server.server_close()
        shutil.rmtree(hub.store.folder, ignore_errors=True)
