"""A repository: commits with their parents, trees, branches, tags, and which large objects belong to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Literal

from tests.hub_stand_in.errors import HubError, no_revision

RepoType = Literal["model", "dataset", "space"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a tree. `oid` is git's, of the pointer for a large file; `commit` changed the file last."""

    size: int
    sha256: str
    oid: str
    lfs: bool
    commit: str = ""

    @property
    def pointer(self) -> str:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n"

    @property
    def remote_oid(self) -> str:
        """What the client compares its own file with."""
        return self.sha256 if self.lfs else self.oid


Tree = dict[str, Entry]


@dataclass(frozen=True, slots=True)
class Commit:
    id: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    tree: Tree


@dataclass
class Repository:
    """`refs`: full names (refs/heads/main, refs/tags/v1, refs/pr/1) -> commit id; `commits` as they were made."""

    type: RepoType
    id: str
    private: bool = False
    gated: bool = False
    sdk: str | None = None
    settings: dict[str, object] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    lfs: set[str] = field(default_factory=set)
    created: str = field(default_factory=lambda: now())

    @property
    def namespace(self) -> str:
        return self.id.partition("/")[0]

    @property
    def head(self) -> Commit:
        return self.commits[self.refs["refs/heads/main"]]

    @property
    def files(self) -> Tree:
        """The files of main by path."""
        return self.head.tree

    def named(self, kind: Literal["heads", "tags", "pr"]) -> dict[str, str]:
        prefix = f"refs/{kind}/"
        return {name.removeprefix(prefix): target for name, target in self.refs.items() if name.startswith(prefix)}

    def ref(self, revision: str) -> str | None:
        """The full name of a branch, tag or pull request."""
        names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        return next((name for name in names if name in self.refs), None)

    def commit_at(self, revision: str) -> Commit:
        """By branch, tag, pull request, or at least seven digits of its id."""
        if name := self.ref(revision):
            return self.commits[self.refs[name]]
        found = [commit for id, commit in self.commits.items() if len(revision) >= 7 and id.startswith(revision)]
        if len(found) != 1:
            raise no_revision(revision)
        return found[0]

    def history(self, commit: Commit) -> list[Commit]:
        """The commit and its ancestors, latest first."""
        past = [commit]
        while past[-1].parent is not None:
            past.append(self.commits[past[-1].parent])
        return past

    def add_commit(self, ref: str, tree: Tree, title: str, message: str = "", author: str = "system") -> Commit:
        """Put a commit on top of `ref`; a commit that changes nothing is made too, as the Hub does."""
        parent = self.refs.get(ref)
        told = "\n".join([str(parent), str(len(self.commits)), title, tree_oid(tree)])
        id = hashlib.sha1(told.encode()).hexdigest()
        tree = {path: entry if entry.commit else _made_by(id, entry) for path, entry in sorted(tree.items())}
        commit = Commit(id, parent, title, message, author, now(), tree)
        self.commits[id] = commit
        self.refs[ref] = id
        return commit

    def add_ref(self, name: str, target: str) -> None:
        if name in self.refs:
            raise HubError(409, f"Reference {name} already exists")
        self.refs[name] = target


def small(content: bytes, sha256: str) -> Entry:
    return Entry(len(content), sha256, git_oid(content), lfs=False)


def large(sha256: str, size: int) -> Entry:
    pointer = Entry(size, sha256, "", lfs=True).pointer
    return Entry(size, sha256, git_oid(pointer.encode()), lfs=True)


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def tree_oid(tree: Tree) -> str:
    lines = (f"{path} {entry.oid}" for path, entry in sorted(tree.items()))
    return hashlib.sha1("\n".join(lines).encode()).hexdigest()


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _made_by(commit: str, entry: Entry) -> Entry:
    return Entry(entry.size, entry.sha256, entry.oid, entry.lfs, commit)
