"""Requests and replies, and the table of routes that the `api_*` modules fill."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import parse_qs, unquote

from tests.hub_stand_in.errors import HubError, bad_request

if TYPE_CHECKING:
    from tests.hub_stand_in.store import Store

REPO = r"(?P<type>models|datasets|spaces)/(?P<id>[^/]+/[^/]+)"


@dataclass
class Request:
    """`path` is as sent; `named` holds the route's groups, unquoted; `body` is a file that can be read once."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: BinaryIO
    named: dict[str, str] = field(default_factory=dict)

    def asks(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() in ("1", "true")

    def value(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]

    def json(self) -> Any:
        try:
            return json.loads(self.body.read() or b"{}")
        except ValueError as err:
            raise bad_request(f"not JSON: {err}") from err

    def form(self) -> dict[str, list[str]]:
        """A body of form fields, or the same as JSON."""
        if "json" in self.headers.get("Content-Type", ""):
            return {name: value if isinstance(value, list) else [str(value)] for name, value in self.json().items()}
        return parse_qs(self.body.read().decode())


@dataclass
class Reply:
    """`body`: bytes, or a part of a file as (path, first byte, length)."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | tuple[Path, int, int] = b""

    @property
    def length(self) -> int:
        return len(self.body) if isinstance(self.body, bytes) else self.body[2]


Action = Callable[["Store", Request], Reply]


@dataclass(frozen=True, slots=True)
class Route:
    kind: str
    methods: tuple[str, ...]
    pattern: re.Pattern[str]
    action: Action


ROUTES: list[Route] = []


def route(kind: str, method: str, pattern: str) -> Callable[[Action], Action]:
    """Answer `method` ("GET", or "GET|HEAD") on paths that match the whole pattern, and count it as `kind`."""

    def add(action: Action) -> Action:
        ROUTES.append(Route(kind, tuple(method.split("|")), re.compile(pattern), action))
        return action

    return add


def find(request: Request) -> Route:
    """The request's route; sets `request.named`."""
    for candidate in ROUTES:
        match = candidate.pattern.fullmatch(request.path)
        if match and request.method in candidate.methods:
            request.named = {name: unquote(value) for name, value in match.groupdict(default="").items()}
            return candidate
    return Route("unknown", (), re.compile(""), _unknown)


def _unknown(store: Store, request: Request) -> Reply:
    raise HubError(404, f"Sorry, we can't find the page you are looking for: {request.method} {request.path}")


def as_json(told: Any, status: int = 200, **headers: str) -> Reply:
    body = json.dumps(told).encode()
    return Reply(status, {"Content-Type": "application/json; charset=utf-8", **headers}, body)


def as_error(error: HubError) -> Reply:
    headers = {"X-Error-Message": error.message, **error.headers}
    if error.code:
        headers["X-Error-Code"] = error.code
    reply = as_json({"error": error.message, **error.more}, error.status)
    reply.headers.update(headers)
    return reply


def part_of(path: Path, wanted: str | None, headers: dict[str, str]) -> Reply:
    """A file, or the bytes of it that a Range header asks for: 206, or 416 past its end."""
    size = path.stat().st_size
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    if not match or match.group(0) == "bytes=-":
        return Reply(200, headers, (path, 0, size))
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        return Reply(416, {**headers, "Content-Range": f"bytes */{size}"})
    return Reply(206, {**headers, "Content-Range": f"bytes {start}-{end}/{size}"}, (path, start, end - start + 1))
