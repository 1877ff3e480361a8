"""The files of a repository: how to upload them, commits, trees."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any

from tests.hub_stand_in import cards
from tests.hub_stand_in.errors import bad_request, commit_since, no_entry, no_revision
from tests.hub_stand_in.messages import REPO, Reply, Request, as_json, route
from tests.hub_stand_in.pages import page
from tests.hub_stand_in.repository import Commit, Entry, Repository, Tree, large, small, tree_oid
from tests.hub_stand_in.store import Store

LARGEST_SMALL = 10 * 1024 * 1024   # bytes; what is larger is never a regular file


@route("preupload", "POST", f"/api/{REPO}/preupload/(?P<revision>[^/]+)")
def preupload(store: Store, request: Request) -> Reply:
    """Large: what .gitattributes says, what is too big, and what is not text."""
    repository = store.writable(request)
    tree = repository.commit_at(request.named["revision"]).tree
    told = request.json()
    ignored = _patterns(told.get("gitIgnore") or _text(store, tree, ".gitignore"))
    attributes = _patterns(_text(store, tree, ".gitattributes"))
    files = []
    for file in told["files"]:
        path = file["path"]
        binary = b"\0" in base64.b64decode(file.get("sample", ""))
        is_large = file["size"] > LARGEST_SMALL or binary or _matches(path, attributes)
        answer = {"path": path, "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": _matches(path, ignored)}
        files.append({**answer, "oid": tree[path].remote_oid} if path in tree else answer)
    return as_json({"files": files, "commitOid": repository.head.id})


def _text(store: Store, tree: Tree, path: str) -> str:
    return store.blobs.read(tree[path].sha256).decode() if path in tree else ""


def _patterns(text: str) -> list[str]:
    lines = (line.split() for line in text.splitlines())
    return [words[0].rstrip("/") for words in lines if words and not words[0].startswith("#")]


def _matches(path: str, patterns: list[str]) -> bool:
    parts = [path, *PurePosixPath(path).parts]
    return any(fnmatch(part, pattern) for part in parts for pattern in patterns)


@route("commit", "POST", f"/api/{REPO}/commit/(?P<revision>[^/]+)")
def commit(store: Store, request: Request) -> Reply:
    repository = store.writable(request)
    header, operations = _read(request)
    with store.lock:
        parent = repository.commit_at(request.named["revision"])
        if header.get("parentCommit") and not parent.id.startswith(header["parentCommit"]):
            raise commit_since()
        tree = _changed(store, repository, parent, operations)
        ref = _target(repository, request)
        repository.refs.setdefault(ref, parent.id)
        made = repository.add_commit(ref, tree, header["summary"], header.get("description", ""),
                                     store.who(request).user)
    return as_json(_answer(store, repository, made, ref))


def _read(request: Request) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header and the operations, a line of JSON each."""
    lines = [json.loads(line) for line in request.body.read().splitlines() if line.strip()]
    if not lines or lines[0]["key"] != "header":
        raise bad_request("The first line of a commit must be its header")
    if not lines[0]["value"].get("summary"):
        raise bad_request('"value.summary" is not allowed to be empty')
    return lines[0]["value"], lines[1:]


def _target(repository: Repository, request: Request) -> str:
    """The full name of the branch or pull request to commit to."""
    if request.asks("create_pr"):
        return f"refs/pr/{len(repository.named('pr')) + 1}"
    ref = repository.ref(request.named["revision"])
    if ref is None or ref.startswith("refs/tags/"):
        raise no_revision(request.named["revision"])
    return ref


def _answer(store: Store, repository: Repository, made: Commit, ref: str) -> dict[str, Any]:
    url = store.url(repository)
    told = {"success": True, "commitOid": made.id, "commitUrl": f"{url}/commit/{made.id}", "hookOutput": ""}
    if ref.startswith("refs/pr/"):
        told["pullRequestUrl"] = f"{url}/discussions/{ref.rpartition('/')[2]}"
    return told


def _changed(store: Store, repository: Repository, parent: Commit, lines: list[dict[str, Any]]) -> Tree:
    """The parent's tree after all operations: all of them, or an error and none."""
    tree = dict(parent.tree)
    for line in lines:
        value = line["value"]
        path = value["path"].rstrip("/")
        if line["key"] == "file":
            tree[path] = _small(store, repository, value)
        elif line["key"] == "lfsFile":
            tree[path] = _large(store, repository, path, value["oid"])
        elif line["key"] in ("deletedFile", "deletedFolder"):
            _delete(tree, path, line["key"], parent.id)
        else:
            raise bad_request(f"Unknown operation {line['key']}")
        if path in parent.tree and path in tree and tree[path].oid == parent.tree[path].oid:
            tree[path] = parent.tree[path]
    return tree


def _small(store: Store, repository: Repository, value: dict[str, Any]) -> Entry:
    content = value["content"].encode()
    if value.get("encoding") == "base64":
        content = base64.b64decode(content)
    if len(content) > LARGEST_SMALL:
        raise bad_request("Your push was rejected because it contains files larger than 10 MiB.")
    if value["path"] == "README.md" and (found := cards.errors(content.decode(), repository.type)):
        raise bad_request("Invalid metadata in README.md: " + "; ".join(found))
    return small(content, store.blobs.add(content))


def _large(store: Store, repository: Repository, path: str, sha256: str) -> Entry:
    if sha256 not in repository.lfs:
        raise bad_request(f'LFS pointer pointed to a file that does not exist: "{path}"')
    return large(sha256, store.blobs.size(sha256))


def _delete(tree: Tree, path: str, key: str, commit: str) -> None:
    gone = [path] if key == "deletedFile" else [name for name in tree if name.startswith(f"{path}/")]
    if not gone or any(name not in tree for name in gone):
        raise no_entry(f"A {'file' if key == 'deletedFile' else 'folder'} with this name doesn't exist: {path}", commit)
    for name in gone:
        del tree[name]


@route("tree", "GET", f"/api/{REPO}/tree/(?P<revision>[^/]+)(/(?P<path>.+))?")
def tree(store: Store, request: Request) -> Reply:
    repository, at = store.commit(request)
    folder = request.named["path"].strip("/")
    prefix = f"{folder}/" if folder else ""
    inside = {path: entry for path, entry in at.tree.items() if path.startswith(prefix)}
    if not inside and folder:
        raise no_entry(f"{folder} does not exist on {request.named['revision']}", at.id)
    paths = sorted({*inside, *_folders(inside, prefix)})
    if not request.asks("recursive"):
        paths = [path for path in paths if "/" not in path.removeprefix(prefix)]
    told = [_listed(store, repository, at, path, request.asks("expand")) for path in paths]
    return page(store, request, told)


def _folders(paths: Tree, prefix: str) -> Iterator[str]:
    """Every folder below `prefix`."""
    for path in paths:
        for parent in PurePosixPath(path).parents:
            if str(parent).startswith(prefix) and str(parent) != ".":
                yield str(parent)


@route("paths-info", "POST", f"/api/{REPO}/paths-info/(?P<revision>[^/]+)")
def paths_info(store: Store, request: Request) -> Reply:
    repository, at = store.commit(request)
    form = request.form()
    expand = form.get("expand", [""])[0].lower() in ("1", "true")
    known = {*at.tree, *_folders(at.tree, "")}
    wanted = [path.strip("/") for path in form.get("paths", [])]
    return as_json([_listed(store, repository, at, path, expand) for path in wanted if path in known])


def _listed(store: Store, repository: Repository, at: Commit, path: str, expand: bool) -> dict[str, Any]:
    entry = at.tree.get(path)
    inside = {name: one for name, one in at.tree.items() if name.startswith(f"{path}/")} if entry is None else {}
    if entry is None:
        told: dict[str, Any] = {"type": "directory", "path": path, "oid": tree_oid(inside), "size": 0}
    else:
        told = {"type": "file", "path": path, "oid": entry.oid, "size": entry.size}
        if entry.lfs:
            told["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": len(entry.pointer)}
            if xet_hash := store.xet_hash(entry.sha256):
                told["xetHash"] = xet_hash
    if expand:
        makers = {one.commit for one in (inside.values() if entry is None else [entry])}
        last = next(commit for commit in repository.history(at) if commit.id in makers)
        told["lastCommit"] = {"id": last.id, "title": last.title, "date": last.date}
        told["securityFileStatus"] = {"status": "safe", "avScan": None, "pickleImportScan": None}
    return told
