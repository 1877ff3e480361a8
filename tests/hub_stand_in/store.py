"""Everything that the Hub knows, and the checks that every request on a repository passes."""

from __future__ import annotations

import secrets
import threading
from pathlib import Path

from tests.hub_stand_in.accounts import Accounts, Token
from tests.hub_stand_in.blobs import Blobs
from tests.hub_stand_in.errors import gated, may_not_write, no_repository
from tests.hub_stand_in.messages import Request
from tests.hub_stand_in.repository import Commit, Repository, RepoType
from tests.hub_stand_in.xet import XetFile

TYPES: dict[str, RepoType] = {"models": "model", "datasets": "dataset", "spaces": "space", "": "model"}


class Store:
    """`endpoint` serves the API, `storage` the large objects: another host name, as on the Hub."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.accounts = Accounts()
        self.blobs = Blobs(folder / "blobs")
        self.repositories: dict[tuple[RepoType, str], Repository] = {}
        self.endpoint = self.storage = ""
        self.secret = secrets.token_hex(8)   # part of the addresses of large objects, which need no token
        self.page_size, self.page_size_expanded = 1000, 50
        self.lock = threading.RLock()
        self.xorbs = folder / "xorbs"
        self.xorbs.mkdir(parents=True, exist_ok=True)
        self.xet_tokens: dict[str, tuple[Repository, str]] = {}   # what a token is for, and "read" or "write"
        self.xet_files: dict[str, XetFile] = {}                   # by their Xet hash
        self.xet_hashes: dict[str, str] = {}                      # sha256 -> Xet hash

    def who(self, request: Request) -> Token | None:
        return self.accounts.who(request.headers.get("Authorization"))

    def readable(self, request: Request) -> Repository:
        """The request's repository, if whoever asks may see its files."""
        token = self.who(request)
        repository = self._seen(request, token)
        if repository.gated and not self.accounts.is_member(token, repository.namespace):
            raise gated(token is not None, repository.id)
        return repository

    def described(self, request: Request) -> Repository:
        """The request's repository, if whoever asks may know of it; a gated one shows its description to all."""
        return self._seen(request, self.who(request))

    def writable(self, request: Request) -> Repository:
        """The request's repository, if whoever asks may change it, or read it and only proposes a change."""
        repository = self.readable(request)
        token = self.who(request)
        if token is None:
            raise no_repository(signed_in=False)
        proposes = request.asks("create_pr") and token.role == "write"
        if not proposes and not self.accounts.may_write(token, repository.namespace):
            raise may_not_write()
        return repository

    def commit(self, request: Request) -> tuple[Repository, Commit]:
        """The repository and the commit of the request's revision, main without one."""
        repository = self.readable(request)
        return repository, repository.commit_at(request.named.get("revision") or "main")

    def xet_hash(self, sha256: str) -> str | None:
        """The Xet name of a large object that was uploaded that way."""
        return self.xet_hashes.get(sha256)

    def xorb(self, hash: str) -> Path:
        return self.xorbs / hash

    def url(self, repository: Repository) -> str:
        prefix = "" if repository.type == "model" else f"{repository.type}s/"
        return f"{self.endpoint}/{prefix}{repository.id}"

    def _seen(self, request: Request, token: Token | None) -> Repository:
        repository = self.repositories.get((TYPES[request.named["type"]], request.named["id"]))
        if repository is None:
            raise no_repository(token is not None)
        if repository.private and not self.accounts.is_member(token, repository.namespace):
            raise no_repository(token is not None)
        return repository
