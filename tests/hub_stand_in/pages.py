"""Long lists, a page at a time: the next page's address is in the Link header."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from tests.hub_stand_in.messages import Reply, Request, as_json
from tests.hub_stand_in.store import Store


def page(store: Store, request: Request, told: list[Any]) -> Reply:
    size = store.page_size_expanded if request.asks("expand") else store.page_size
    size = min(size, int(request.value("limit", str(size))))
    start = int(request.value("cursor", "0"))
    reply = as_json(told[start : start + size])
    if start + size < len(told):
        query = urlencode({**request.query, "cursor": [str(start + size)]}, doseq=True)
        reply.headers["Link"] = f'<{store.endpoint}{request.path}?{query}>; rel="next"'
    return reply
