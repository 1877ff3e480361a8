"""One repository on the Hub, as publishing needs it: what is there, one commit at a time, tags.

A commit is never made twice and never lost: whatever answer comes or does not come, the repository itself is looked at
before another try. `huggingface_hub` loads on first use.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from toffee_hf.errors import HeadMoved, HubError, InputError
from toffee_hf.publishing.patience import Patience, out_of_patience, patiently, refused_or_passing, waits

Content = Path | bytes
KINDS = {"dataset": "datasets/", "model": "", "space": "spaces/"}
MAIN = "main"
TIMEOUT_S = 120.0                     # of one read or write; the client itself would wait for ever
PATHS_PER_QUESTION = 400
FEW = 50                              # files that are fetched by name; of more, their folders


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository. oid: git's hash of it, or of its pointer where it is a large file with a `sha256`."""

    path: str
    size: int
    oid: str
    sha256: str | None

    def equals(self, content: Content) -> bool:
        """Whether it holds these bytes."""
        if self.sha256 is not None:
            return self.size == _size(content) and self.sha256 == sha256_of(content)
        return self.size == _size(content) and self.oid == git_oid(content)


@dataclass
class Repository:
    """`name` (ORG/NAME) at the branch `revision`. kind: dataset, model or space; exists: False in a dry run of a new
    one. Every call raises HubRefusal or HubError as `patiently` does.
    """

    name: str
    kind: str
    api: Any  # HfApi
    revision: str = MAIN
    patience: Patience = field(default_factory=Patience)
    exists: bool = True
    _sent: dict[str, Any] = field(default_factory=dict)      # operations whose bytes the Hub has already

    @property
    def url(self) -> str:
        return f"{self.api.endpoint}/{KINDS[self.kind]}{self.name}"

    @property
    def _place(self) -> dict[str, Any]:
        return {"repo_id": self.name, "repo_type": self.kind}

    def head(self) -> str:
        """The latest commit."""
        what = f"cannot read {self.name}"
        found = patiently(lambda: self.api.repo_info(**self._place, revision=self.revision), self.patience, what)
        return str(found.sha)

    def committed(self) -> datetime:
        """When the latest commit was made."""
        what = f"cannot read {self.name}"
        found = patiently(lambda: self.api.repo_info(**self._place, revision=self.revision), self.patience, what)
        return found.last_modified or datetime.now(timezone.utc)

    def files(self, commit: str | None = None) -> dict[str, RemoteFile]:
        """Every file, by path."""
        if not self.exists:
            return {}
        ask = partial(self.api.list_repo_tree, **self._place, recursive=True, revision=commit or self.revision)
        return _remote_files(patiently(lambda: list(ask()), self.patience, f"cannot list {self.name}"))

    def files_at(self, paths: Collection[str], commit: str) -> dict[str, RemoteFile]:
        """Those of `paths` that are there, by path."""
        asked, found = list(paths), dict[str, RemoteFile]()
        for start in range(0, len(asked), PATHS_PER_QUESTION):
            part = asked[start : start + PATHS_PER_QUESTION]
            ask = partial(self.api.get_paths_info, **self._place, paths=part, revision=commit)
            found |= _remote_files(patiently(ask, self.patience, f"cannot read {self.name}"))
        return found

    def fetch(self, paths: Collection[str], commit: str) -> dict[str, bytes]:
        """The bytes of files, by path."""
        from huggingface_hub import snapshot_download

        if not paths:
            return {}
        patterns = list(paths) if len(paths) <= FEW else sorted({f"{path.rpartition('/')[0]}/*" for path in paths})
        with tempfile.TemporaryDirectory() as folder:
            get = partial(snapshot_download, self.name, repo_type=self.kind, revision=commit, local_dir=folder,
                          allow_patterns=patterns, endpoint=self.api.endpoint)
            patiently(get, self.patience, f"cannot fetch files of {self.name}")
            return {path: (Path(folder) / path).read_bytes() for path in paths}

    def open(self, path: str, commit: str) -> Any:
        """A file to read parts of, as a context."""
        from huggingface_hub import HfFileSystem

        system = HfFileSystem(endpoint=self.api.endpoint)
        ask = partial(system.open, f"{KINDS[self.kind]}{self.name}@{commit}/{path}", "rb")
        return patiently(ask, self.patience, f"cannot read {self.name}")

    def send(self, contents: Mapping[str, Path]) -> None:
        """Bytes of large files go now; they appear with the commit that names them. May be left out."""
        operations = [self._operation(path, content) for path, content in contents.items()]
        upload = partial(self.api.preupload_lfs_files, **self._place, additions=operations, revision=self.revision,
                         free_memory=False)
        patiently(upload, self.patience, f"cannot upload to {self.name}")

    def commit(self, contents: Mapping[str, Content], message: str, parent: str, removed: Iterable[str] = ()) -> str:
        """One commit upon `parent`, in which `contents` lie at their paths and `removed` are gone; returns its id.

        Raises HeadMoved if `parent` is no longer the head and the contents are not there.
        """
        what, gone = f"cannot commit to {self.name}", list(removed)
        for wait in waits(self.patience):
            try:
                commit = self._commit_once(contents, message, parent, gone)
                break
            except Exception as err:
                trouble, said = refused_or_passing(err, what), err
            head = self.head()
            if head != parent:
                if self.has(contents, head, gone):                    # our own commit: its answer was lost
                    commit = head
                    break
                raise HeadMoved(f"{what}: somebody else has committed to it", head) from said
            self.patience.sleep(max(wait, trouble.wait_s))
        else:
            raise out_of_patience(what, trouble) from said
        for path in contents:
            self._sent.pop(path, None)
        return commit

    def _commit_once(self, contents: Mapping[str, Content], message: str, parent: str, gone: list[str]) -> str:
        from huggingface_hub import CommitOperationDelete

        operations = [self._operation(path, content) for path, content in contents.items()]
        operations += [CommitOperationDelete(path) for path in gone]
        return str(self.api.create_commit(**self._place, operations=operations, commit_message=message,
                                          revision=self.revision, parent_commit=parent).oid)

    def _operation(self, path: str, content: Content) -> Any:
        """The same object in every try, so that what has been sent is not sent again. Hashed by us, from the disk."""
        from huggingface_hub import CommitOperationAdd

        found, sha256 = self._sent.get(path), sha256_of(content)
        if found is None or found.upload_info.sha256.hex() != sha256:
            found = self._sent[path] = CommitOperationAdd(path, content)
            found.upload_info.sha256 = bytes.fromhex(sha256)
        return found

    def has(self, contents: Mapping[str, Content], commit: str, removed: Collection[str] = ()) -> bool:
        """Whether all contents are there, byte for byte, and what is removed is not."""
        found = self.files_at([*contents, *removed], commit)
        return not set(removed) & found.keys() and all(
            path in found and found[path].equals(content) for path, content in contents.items())

    def verify(self, contents: Mapping[str, Content], commit: str) -> None:
        """Raises HubError unless the commit holds these bytes."""
        found = self.files_at(list(contents), commit)
        wrong = [path for path, content in contents.items() if path not in found or not found[path].equals(content)]
        if wrong:
            raise HubError(f"{self.name} does not hold {wrong[0]} as it was uploaded; the same command tries again")

    def check_card(self, card: str) -> None:
        """Ask the Hub whether it would take such a README.md. Raises InputError with what it says."""
        from huggingface_hub import RepoCard

        ask = partial(RepoCard(card, ignore_metadata_errors=True).validate, repo_type=self.kind)
        try:
            patiently(ask, self.patience, "cannot ask about the card")
        except ValueError as err:     # as the client passes on what the Hub says
            raise InputError(f"the Hub does not take the card: {_told(str(err))}") from err

    def tags(self) -> dict[str, str]:
        """Commit by tag."""
        if not self.exists:
            return {}
        refs = patiently(lambda: self.api.list_repo_refs(**self._place), self.patience, f"cannot read {self.name}")
        return {tag.name: tag.target_commit for tag in refs.tags}

    def tag(self, name: str, commit: str) -> None:
        """Raises InputError if another commit has this tag."""
        patiently(lambda: self.api.create_tag(**self._place, tag=name, revision=commit, exist_ok=True), self.patience,
                  f"cannot tag {self.name}")
        if self.tags().get(name, commit) != commit:
            raise InputError(f"{self.name} has a tag {name} on another commit; give another --tag")


def _told(answer: str) -> str:
    """The messages of {"errors": [{"message": ...}]}."""
    try:
        return "; ".join(error["message"] for error in json.loads(answer)["errors"])
    except (ValueError, KeyError, TypeError):
        return " ".join(answer.split())


def _remote_files(entries: Iterable[Any]) -> dict[str, RemoteFile]:
    files = [entry for entry in entries if hasattr(entry, "blob_id")]
    return {file.path: RemoteFile(file.path, file.size, file.blob_id, file.lfs.sha256 if file.lfs else None)
            for file in files}


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def sha256_of(content: Content) -> str:
    """Read from the disk once, for as long as the file is not changed."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    told = content.stat()
    return _sha256_of_file(content, told.st_size, told.st_mtime_ns, told.st_ino)


@lru_cache(maxsize=4096)
def _sha256_of_file(path: Path, *_: int) -> str:
    return _hash(path, hashlib.sha256())


def git_oid(content: Content) -> str:
    """As git names these bytes."""
    return _hash(content, hashlib.sha1(f"blob {_size(content)}\0".encode()))


def _hash(content: Content, digest: Any) -> str:
    if isinstance(content, bytes):
        digest.update(content)
    else:
        with content.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return str(digest.hexdigest())
