"""The HTTP server: reads a request, lets its fault happen, sends the reply."""

from __future__ import annotations

import socket
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO
from urllib.parse import parse_qs

from tests.hub_stand_in import (  # noqa: F401 - they fill the table of routes
    api_files,
    api_lfs,
    api_repositories,
    api_rights,
    api_xet,
)
from tests.hub_stand_in.errors import HubError
from tests.hub_stand_in.faults import Fault, Faults
from tests.hub_stand_in.messages import Reply, Request, Route, as_error, find
from tests.hub_stand_in.quotas import Quotas
from tests.hub_stand_in.store import Store

PIECE = 1 << 16
NONE = Fault(name="")


@dataclass
class Seen:
    """One request as it went. `kind` is its route; `status` None: no reply was sent; bytes of both bodies;
    `at`: seconds of `time.monotonic`."""

    kind: str
    method: str
    path: str
    fault: Fault = field(default=NONE)
    status: int | None = None
    received: int = 0
    sent: int = 0
    at: float = field(default_factory=time.monotonic)


class Hangup(Exception):
    """The connection ends here, by a fault."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, store: Store, faults: Faults, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.store, self.faults, self.quotas = store, faults, Quotas()
        self.requests: list[Seen] = []
        store.endpoint = f"http://127.0.0.1:{self.server_port}"
        store.storage = f"http://localhost:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def serve(self) -> None:
        seen = Seen("unknown", self.command, self.path)
        try:
            self._exchange(seen)
        except Hangup:
            self._hang_up()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve

    def _exchange(self, seen: Seen) -> None:
        path, _, query = self.path.partition("?")
        with SpooledTemporaryFile(max_size=1 << 20) as body:
            request = Request(self.command, path, parse_qs(query), self.headers, body)
            route = find(request)
            seen.kind = route.kind
            self.server.requests.append(seen)
            seen.fault = self.server.faults.draw(route.kind, self.path) or NONE
            time.sleep(seen.fault.delay_s)
            self._receive(body, seen)
            if seen.fault.drop == "before":
                raise Hangup
            reply = self._reply(route, request, seen.fault)
            if seen.fault.drop == "after":
                raise Hangup
            self._send(reply, seen)

    def _reply(self, route: Route, request: Request, fault: Fault) -> Reply:
        try:
            limits = self.server.quotas.take(route.kind, request.headers.get("Authorization", ""))
            if fault.status is not None:
                raise HubError(fault.status, fault.message, headers=dict(fault.headers))
            reply = route.action(self.server.store, request)
            return replace(reply, headers={**limits, **reply.headers})
        except HubError as error:
            return as_error(error)
        except Exception as error:   # a bug of the stand-in: shown, and answered as the Hub would
            traceback.print_exc()
            return as_error(HubError(500, f"{type(error).__name__}: {error}"))

    def _receive(self, body: BinaryIO, seen: Seen) -> None:
        for piece in self._pieces(seen.fault):
            body.write(piece)
            seen.received += len(piece)
        body.seek(0)

    def _pieces(self, fault: Fault) -> Iterator[bytes]:
        """The request's body as it arrives, as slowly and as far as the fault lets it."""
        arrived = 0
        for size in self._sizes():
            while size:
                piece = self.rfile.read(min(size, _step(fault)))
                size -= len(piece)
                arrived += len(piece)
                if not piece or (fault.cut_upload is not None and arrived > fault.cut_upload):
                    raise Hangup
                _pause(fault, len(piece))
                yield piece

    def _sizes(self) -> Iterator[int]:
        """How many bytes of the body come next."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            yield int(self.headers.get("Content-Length") or 0)
            return
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield size
            self.rfile.readline()
        self.rfile.readline()

    def _send(self, reply: Reply, seen: Seen) -> None:
        seen.status = reply.status
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(reply.length)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        fault = seen.fault
        for piece in _parts(reply, _step(fault)):
            left = len(piece) if fault.cut_download is None else fault.cut_download - seen.sent
            seen.sent += min(left, len(piece))
            self.wfile.write(piece[:left])
            if left < len(piece):
                raise Hangup
            _pause(fault, len(piece))

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _parts(reply: Reply, step: int) -> Iterator[bytes]:
    if isinstance(reply.body, bytes):
        yield from (reply.body[start : start + step] for start in range(0, len(reply.body), step))
        return
    path, start, left = reply.body
    with path.open("rb") as file:
        file.seek(start)
        while left:
            piece = file.read(min(step, left))
            left -= len(piece)
            yield piece


def _step(fault: Fault) -> int:
    """Bytes at a time: a twentieth of a second's worth on a slow link."""
    return max(fault.bytes_per_second // 20, 1) if fault.bytes_per_second else PIECE


def _pause(fault: Fault, size: int) -> None:
    if fault.bytes_per_second:
        time.sleep(size / fault.bytes_per_second)
