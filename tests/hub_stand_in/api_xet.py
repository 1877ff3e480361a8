"""Xet: tokens, and the content-addressed store that clients upload to and download from with them."""

from __future__ import annotations

import os
import shutil
import time
from itertools import accumulate, chain
from typing import Any

from tests.hub_stand_in.errors import HubError, bad_request
from tests.hub_stand_in.messages import REPO, Reply, Request, as_json, part_of, route
from tests.hub_stand_in.repository import Repository
from tests.hub_stand_in.store import Store
from tests.hub_stand_in.xet import Term, XetFile, chunks_of, content, files_of

LIFETIME_S = 3600


@route("xet-token", "GET", f"/api/{REPO}/xet-(?P<scope>write|read)-token/(?P<revision>[^/]+)")
def token(store: Store, request: Request) -> Reply:
    scope = request.named["scope"]
    repository = store.writable(request) if scope == "write" else store.readable(request)
    secret, expires = f"xet_{store.secret}_{len(store.xet_tokens)}", int(time.time()) + LIFETIME_S
    store.xet_tokens[secret] = (repository, scope)
    headers = {"X-Xet-Access-Token": secret, "X-Xet-Token-Expiration": str(expires), "X-Xet-Cas-Url": store.storage}
    return as_json({"accessToken": secret, "exp": expires, "casUrl": store.storage}, **headers)


def _repository(store: Store, request: Request, scope: str) -> Repository:
    """The repository that the request's token is for."""
    secret = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if secret not in store.xet_tokens:
        raise HubError(401, "Invalid Xet token")
    repository, allowed = store.xet_tokens[secret]
    if scope == "write" and allowed != "write":
        raise HubError(403, "This token may not write")
    return repository


@route("xet-chunk", "GET", "/v1/chunks/default/(?P<hash>[0-9a-f]{64})")
def chunk(store: Store, request: Request) -> Reply:
    """No deduplication against what others uploaded: the client then sends the chunk."""
    _repository(store, request, "read")
    raise HubError(404, "No such chunk")


@route("xet-newer", "GET|POST", "/v1/xorb-grants/.+|/v2/shards|/v2/reconstructions/.+")
def newer(store: Store, request: Request) -> Reply:
    """Calls that the client tries first, and does without."""
    raise HubError(404, "Not Found")


@route("xet-xorb", "POST", "/v1/xorbs/default/(?P<hash>[0-9a-f]{64})")
def xorb(store: Store, request: Request) -> Reply:
    _repository(store, request, "write")
    path = store.xorb(request.named["hash"])
    new = not path.exists()
    partial = path.with_name(f"{path.name}.{time.monotonic_ns()}")
    with partial.open("wb") as file:
        shutil.copyfileobj(request.body, file)
    os.replace(partial, path)
    return as_json({"was_inserted": new})


@route("xet-shard", "POST", "/v1/shards")
def shard(store: Store, request: Request) -> Reply:
    """From here on its files exist, and belong to the repository that the token is for."""
    repository = _repository(store, request, "write")
    for file in files_of(request.body.read()):
        sha256 = _join(store, file)
        with store.lock:
            store.xet_files[file.hash] = file
            store.xet_hashes[sha256] = file.hash
            repository.lfs.add(sha256)
    return as_json({"result": 1})


def _join(store: Store, file: XetFile) -> str:
    """The sha256 of the file, which is put together here for those who read it without Xet."""
    for term in file.terms:
        if not store.xorb(term.xorb).exists():
            raise bad_request(f"The xorb {term.xorb} was not uploaded")
    if store.blobs.has(file.sha256):
        return file.sha256
    pieces = (content(store.xorb(term.xorb), chunks_of(store.xorb(term.xorb))[term.first : term.last])
              for term in file.terms)
    sha256 = store.blobs.add_pieces(chain.from_iterable(pieces))
    if file.sha256 not in ("", sha256):
        raise bad_request(f"The content of {file.hash} does not have the sha256 that was announced")
    return sha256


@route("xet-reconstruction", "GET", "/v1/reconstructions/(?P<hash>[0-9a-f]{64})")
def reconstruction(store: Store, request: Request) -> Reply:
    """Which parts of which xorbs to fetch for a file, or for the bytes of it that a Range header asks for."""
    _repository(store, request, "read")
    file = store.xet_files.get(request.named["hash"])
    if file is None:
        raise HubError(404, "No such file")
    first, last = _range(request.headers.get("Range"), file.size)
    if first >= file.size:
        raise HubError(416, "Range Not Satisfiable", headers={"Content-Range": f"bytes */{file.size}"})
    terms, skipped = _covering(file, first, last)
    told = [{"hash": term.xorb, "unpacked_length": term.size, "range": {"start": term.first, "end": term.last}}
            for term in terms]
    return as_json({"offset_into_first_range": skipped, "terms": told, "fetch_info": _fetches(store, terms)})


def _covering(file: XetFile, first: int, last: int) -> tuple[list[Term], int]:
    """The terms that hold the bytes [first, last], and how many bytes of the first of them come before."""
    starts = list(accumulate((term.size for term in file.terms), initial=0))
    held = [(term, start) for term, start in zip(file.terms, starts, strict=False)
            if start <= last and start + term.size > first]
    return [term for term, _ in held], first - held[0][1]


def _range(wanted: str | None, size: int) -> tuple[int, int]:
    first, _, last = (wanted or "bytes=0-").removeprefix("bytes=").partition("-")
    return int(first), int(last) if last else size - 1


def _fetches(store: Store, terms: list[Term]) -> dict[str, list[dict[str, Any]]]:
    """By xorb: ranges that do not touch each other; the client stumbles over ranges that overlap."""
    ranges: dict[str, list[list[int]]] = {}
    for term in sorted(terms, key=lambda term: (term.xorb, term.first)):
        merged = ranges.setdefault(term.xorb, [])
        if merged and term.first <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], term.last)
        else:
            merged.append([term.first, term.last])
    return {xorb: [_fetch(store, xorb, *one) for one in merged] for xorb, merged in ranges.items()}


def _fetch(store: Store, xorb: str, first: int, last: int) -> dict[str, Any]:
    chunks = chunks_of(store.xorb(xorb))
    bytes_ = {"start": chunks[first].start, "end": chunks[last - 1].end - 1}
    return {"range": {"start": first, "end": last}, "url": f"{store.storage}/xorbs/{store.secret}/{xorb}",
            "url_range": bytes_}


@route("xet-range", "GET", "/xorbs/(?P<secret>[^/]+)/(?P<hash>[0-9a-f]{64})")
def xorb_range(store: Store, request: Request) -> Reply:
    if request.named["secret"] != store.secret:
        raise HubError(403, "Access Denied")
    return part_of(store.xorb(request.named["hash"]), request.headers.get("Range"), {})
