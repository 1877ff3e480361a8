"""Large objects: the LFS batch call, uploads, and downloads at addresses that need no token."""

from __future__ import annotations

import re

from tests.hub_stand_in.errors import HubError, bad_request
from tests.hub_stand_in.messages import Reply, Request, as_json, part_of, route
from tests.hub_stand_in.repository import Repository
from tests.hub_stand_in.store import Store

OF_REPOSITORY = r"/((?P<type>models|datasets|spaces)/)?(?P<id>[^/]+/[^/]+)"


@route("lfs-batch", "POST", rf"{OF_REPOSITORY}\.git/info/lfs/objects/batch")
def batch(store: Store, request: Request) -> Reply:
    repository = store.writable(request)
    told = request.json()
    if told.get("operation") != "upload":
        raise bad_request("only uploads are answered here")
    objects = [_answer(store, repository, one["oid"], one["size"]) for one in told["objects"]]
    return as_json({"transfer": "basic", "objects": objects})


def _answer(store: Store, repository: Repository, oid: str, size: int) -> dict[str, object]:
    """No actions: the repository has the object already."""
    if not re.fullmatch("[0-9a-f]{64}", oid):
        return {"oid": oid, "size": size, "error": {"code": 422, "message": "oid must be a sha256"}}
    if oid in repository.lfs:
        return {"oid": oid, "size": size}
    where = f"{repository.type}s/{repository.id}/{oid}"
    upload = {"href": f"{store.storage}/upload/{store.secret}/{where}"}
    verify = {"href": f"{store.url(repository)}.git/info/lfs/objects/verify"}
    return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}}


@route("lfs-put", "PUT", "/upload/(?P<secret>[^/]+)/(?P<type>[^/]+)/(?P<id>[^/]+/[^/]+)/(?P<oid>[^/]+)")
def put(store: Store, request: Request) -> Reply:
    """The storage believes a content's own sha256 only."""
    _check(store, request)
    if store.blobs.add_file(request.body) != request.named["oid"]:
        raise bad_request("The content does not have the sha256 that was announced")
    return Reply(200, {"ETag": f'"{request.named["oid"]}"'})


@route("lfs-verify", "POST", rf"{OF_REPOSITORY}\.git/info/lfs/objects/verify")
def verify(store: Store, request: Request) -> Reply:
    repository = store.writable(request)
    told = request.json()
    if not store.blobs.has(told["oid"]) or store.blobs.size(told["oid"]) != told["size"]:
        raise HubError(404, f"Object {told['oid']} was not uploaded")
    repository.lfs.add(told["oid"])
    return as_json({"success": True})


@route("download", "GET|HEAD", "/objects/(?P<secret>[^/]+)/(?P<oid>[0-9a-f]{64})")
def download(store: Store, request: Request) -> Reply:
    _check(store, request)
    oid = request.named["oid"]
    return part_of(store.blobs.path(oid), request.headers.get("Range"), {"ETag": f'"{oid}"'})


@route("resolve", "GET|HEAD", rf"{OF_REPOSITORY}/(resolve|raw)/(?P<revision>[^/]+)/(?P<path>.+)")
def resolve(store: Store, request: Request) -> Reply:
    """A file: a small one itself, a large one by a redirect to another host name."""
    repository, commit = store.commit(request)
    path = request.named["path"]
    if path not in commit.tree:
        raise HubError(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit.id})
    entry = commit.tree[path]
    headers = {"X-Repo-Commit": commit.id, "Accept-Ranges": "bytes"}
    if not entry.lfs:
        headers["ETag"] = f'"{entry.oid}"'
        return part_of(store.blobs.path(entry.sha256), request.headers.get("Range"), headers)
    headers |= {"X-Linked-Size": str(entry.size), "X-Linked-ETag": f'"{entry.sha256}"',
                "Location": f"{store.storage}/objects/{store.secret}/{entry.sha256}"}
    if xet_hash := store.xet_hash(entry.sha256):
        api = f"{store.endpoint}/api/{repository.type}s/{repository.id}"
        headers |= {"X-Xet-Hash": xet_hash, "Link": f'<{api}/xet-read-token/{commit.id}>; rel="xet-auth"'}
    return Reply(302, headers)


def _check(store: Store, request: Request) -> None:
    if request.named["secret"] != store.secret:
        raise HubError(403, "Access Denied")
