"""Who may do what, asked beforehand; and whether a user or an organisation exists."""

from __future__ import annotations

from typing import Any

from tests.hub_stand_in.errors import HubError
from tests.hub_stand_in.messages import REPO, Reply, Request, as_json, route
from tests.hub_stand_in.store import Store


@route("auth-check", "GET", f"/api/{REPO}/auth-check(?P<write>/write)?")
def auth_check(store: Store, request: Request) -> Reply:
    (store.writable if request.named["write"] else store.readable)(request)
    return as_json({})


@route("organisation", "GET", "/api/organizations/(?P<name>[^/]+)/overview")
def organisation(store: Store, request: Request) -> Reply:
    return _known(request, store.accounts.organisations)


@route("user", "GET", "/api/users/(?P<name>[^/]+)/overview")
def user(store: Store, request: Request) -> Reply:
    return _known(request, store.accounts.users)


def _known(request: Request, names: Any) -> Reply:
    name = request.named["name"]
    if name not in names:
        raise HubError(404, f"{name} does not exist")
    return as_json({"name": name, "user": name, "fullname": name, "avatarUrl": "", "type": "user"})
