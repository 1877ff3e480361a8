"""Who am I, and repositories as such: create, delete, settings, description, refs, history."""

from __future__ import annotations

import re
from typing import Any

from tests.hub_stand_in import cards
from tests.hub_stand_in.accounts import Token
from tests.hub_stand_in.errors import HubError, bad_request, may_not_create, no_repository, no_revision, no_token, taken
from tests.hub_stand_in.messages import REPO, Reply, Request, as_json, route
from tests.hub_stand_in.pages import page
from tests.hub_stand_in.repository import Commit, Entry, Repository, small
from tests.hub_stand_in.store import Store

LARGE = """
7z arrow bin bz2 ckpt gz h5 joblib msgpack npy npz onnx parquet pb pickle pkl pt pth safetensors tar tflite
tgz wasm xz zip zst bmp gif png tiff jpg jpeg webp mp3 wav mp4 webm
"""
ATTRIBUTES = "".join(f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LARGE.split())
NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_][\w.-]{0,94}(?<![.-])")


@route("whoami", "GET", "/api/whoami-v2")
def whoami(store: Store, request: Request) -> Reply:
    token = store.who(request)
    if token is None:
        raise no_token()
    return as_json(store.accounts.describe(token))


@route("create", "POST", "/api/repos/create")
def create(store: Store, request: Request) -> Reply:
    told = request.json()
    token = store.who(request)
    if token is None:
        raise no_token()
    repository = _asked_for(told, token)
    if not NAME.fullmatch(told["name"]):
        raise bad_request(f"Invalid repository name: {told['name']}")
    if not store.accounts.may_write(token, repository.namespace):
        raise may_not_create(repository.type, repository.namespace)
    with store.lock:
        if (repository.type, repository.id) in store.repositories:
            raise taken(repository.type, store.url(repository))
        _begin(store, repository)
    return as_json({"url": store.url(repository), "name": repository.id, "id": repository.id})


def _asked_for(told: dict[str, Any], token: Token) -> Repository:
    settings = {name: told[name] for name in ("hardware", "sleepTimeSeconds") if told.get(name)}
    return Repository(told.get("type") or "model", f"{told.get('organization') or token.user}/{told['name']}",
                      private=told.get("visibility") == "private", sdk=told.get("sdk"), settings=settings)


def _begin(store: Store, repository: Repository) -> None:
    """The first commit is the Hub's own: every repository starts with .gitattributes, a Space with a README too."""
    files = {".gitattributes": ATTRIBUTES}
    if repository.type == "space":
        title = repository.id.partition("/")[2]
        files["README.md"] = f"---\ntitle: {title}\nsdk: {repository.sdk}\napp_file: app.py\npinned: false\n---\n"
    tree = {path: small(text.encode(), store.blobs.add(text.encode())) for path, text in files.items()}
    repository.add_commit("refs/heads/main", tree, "initial commit")
    store.repositories[repository.type, repository.id] = repository


@route("delete", "DELETE", "/api/repos/delete")
def delete(store: Store, request: Request) -> Reply:
    told = request.json()
    token = store.who(request)
    namespace = told.get("organization") or (token.user if token else "")
    key = (told.get("type") or "model", f"{namespace}/{told['name']}")
    with store.lock:
        if key not in store.repositories:
            raise no_repository(token is not None)
        if not store.accounts.may_write(token, namespace):
            raise HubError(403, f"You don't have the rights to delete {key[1]}")
        del store.repositories[key]
    return as_json({})


@route("validate-yaml", "POST", "/api/validate-yaml")
def validate_yaml(store: Store, request: Request) -> Reply:
    told = request.json()
    found = cards.errors(told["content"], told.get("repoType") or "model")
    warned = [] if found or cards.front_matter(told["content"]) else ["empty or missing yaml metadata in repo card"]
    answer = {"errors": [{"message": one} for one in found], "warnings": [{"message": one} for one in warned]}
    return as_json(answer, 400 if found else 200)


@route("settings", "PUT", f"/api/{REPO}/settings")
def settings(store: Store, request: Request) -> Reply:
    repository = store.writable(request)
    told = request.json()
    if "visibility" in told or "private" in told:
        repository.private = told.get("private", told.get("visibility") == "private")
    if "gated" in told:
        repository.gated = bool(told["gated"])
    return as_json({"private": repository.private, "gated": repository.gated})


@route("info", "GET", f"/api/{REPO}(/revision/(?P<revision>[^/]+))?")
def info(store: Store, request: Request) -> Reply:
    repository = store.described(request)
    commit = repository.commit_at(request.named.get("revision") or "main")
    told = _description(store, repository, commit)
    blobs = request.asks("blobs")
    told["siblings"] = [_sibling(path, entry, blobs) for path, entry in commit.tree.items()]
    if wanted := request.query.get("expand") or request.query.get("expand[]"):
        told = {name: told.get(name) for name in ("id", *wanted)}
    return as_json(told)


def _description(store: Store, repository: Repository, commit: Commit) -> dict[str, Any]:
    card = commit.tree.get("README.md")
    data = cards.front_matter(store.blobs.read(card.sha256).decode()) if card and not card.lfs else {}
    told = {"_id": commit.id[:24], "id": repository.id, "author": repository.namespace, "sha": commit.id,
            "lastModified": commit.date, "createdAt": repository.created, "private": repository.private,
            "gated": "auto" if repository.gated else False, "disabled": False, "downloads": 0, "likes": 0,
            "tags": data.get("tags") or [], "cardData": data or None,
            "usedStorage": sum(entry.size for entry in commit.tree.values())}
    if repository.type == "model":
        told |= {"modelId": repository.id, "pipeline_tag": data.get("pipeline_tag"),
                 "library_name": data.get("library_name")}
    if repository.type == "space":
        hardware = {"current": repository.settings.get("hardware", "cpu-basic")}
        told |= {"sdk": repository.sdk, "subdomain": repository.id.replace("/", "-").lower(),
                 "host": store.url(repository), "runtime": {"stage": "RUNNING", "hardware": hardware}}
    return told


def _sibling(path: str, entry: Entry, blobs: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"rfilename": path}
    if blobs:
        told |= {"size": entry.size, "blobId": entry.oid}
        if entry.lfs:
            told["lfs"] = {"size": entry.size, "sha256": entry.sha256, "pointerSize": len(entry.pointer)}
    return told


@route("refs", "GET", f"/api/{REPO}/refs")
def refs(store: Store, request: Request) -> Reply:
    repository = store.readable(request)

    def listed(kind: Any) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": target}
                for name, target in sorted(repository.named(kind).items())]

    told = {"branches": listed("heads"), "converts": [], "tags": listed("tags")}
    if "include_prs" in request.query:
        told["pullRequests"] = listed("pr")
    return as_json(told)


@route("commits", "GET", f"/api/{REPO}/commits/(?P<revision>[^/]+)")
def commits(store: Store, request: Request) -> Reply:
    repository, commit = store.commit(request)
    told = [{"id": one.id, "title": one.title, "message": one.message, "date": one.date,
             "authors": [{"user": one.author}]} for one in repository.history(commit)]
    return page(store, request, told)


@route("tag", "POST|DELETE", f"/api/{REPO}/tag/(?P<revision>[^/]+)")
def tag(store: Store, request: Request) -> Reply:
    repository = store.writable(request)
    revision = request.named["revision"]
    with store.lock:
        if request.method == "POST":
            repository.add_ref(f"refs/tags/{request.json()['tag']}", repository.commit_at(revision).id)
        elif repository.refs.pop(f"refs/tags/{revision}", None) is None:
            raise no_revision(revision)
    return as_json({})


@route("branch", "POST|DELETE", f"/api/{REPO}/branch/(?P<revision>[^/]+)")
def branch(store: Store, request: Request) -> Reply:
    repository = store.writable(request)
    name = request.named["revision"]
    with store.lock:
        if request.method == "POST":
            start = repository.commit_at(request.json().get("startingPoint", "main"))
            repository.add_ref(f"refs/heads/{name}", start.id)
        elif name == "main":
            raise HubError(403, "The main branch cannot be deleted")
        elif repository.refs.pop(f"refs/heads/{name}", None) is None:
            raise HubError(404, f"Reference {name} does not exist")
    return as_json({})


@route("space", "GET|POST|DELETE", "/api/(?P<type>spaces)/(?P<id>[^/]+/[^/]+)"
       "/(?P<what>runtime|hardware|sleeptime|variables|secrets|restart|pause)")
def space(store: Store, request: Request) -> Reply:
    """A Space's machine, which runs nothing here: what was asked for is remembered and told."""
    what = request.named["what"]
    repository = store.readable(request) if request.method == "GET" else store.writable(request)
    told = request.json() if request.method == "POST" else {}
    if what in ("variables", "secrets"):
        kept = repository.settings.setdefault(what, {})
        if told:
            kept[told["key"]] = {"key": told["key"], "value": told.get("value"), "updatedAt": repository.created}
        return as_json(kept if what == "variables" else {key: {"key": key} for key in kept})
    if what == "hardware" and told:
        repository.settings["hardware"] = told["flavor"]
    hardware = repository.settings.get("hardware", "cpu-basic")
    return as_json({"stage": "PAUSED" if what == "pause" else "RUNNING",
                    "hardware": {"current": hardware, "requested": hardware}, "storage": None, "gcTimeout": None})


