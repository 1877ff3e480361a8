"""Who may do what: users, organisations, tokens and their roles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tests.hub_stand_in.errors import bad_token

WRITERS = ("admin", "write")
Role = Literal["admin", "write", "read"]


@dataclass(frozen=True, slots=True)
class Token:
    user: str
    role: Literal["write", "read"]


@dataclass
class Accounts:
    """`organisations`: name -> member -> role. `tokens`: secret -> whose it is and what it allows."""

    users: set[str] = field(default_factory=set)
    organisations: dict[str, dict[str, Role]] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)

    def add_user(self, name: str) -> None:
        self.users.add(name)

    def add_organisation(self, name: str, **members: Role) -> None:
        self.organisations[name] = dict(members)

    def add_token(self, secret: str, user: str, role: Literal["write", "read"] = "write") -> str:
        self.tokens[secret] = Token(user, role)
        return secret

    def who(self, authorization: str | None) -> Token | None:
        """Who sent this header; None without one. A token that nobody has is an error, as on the Hub."""
        if not authorization:
            return None
        token = self.tokens.get(authorization.removeprefix("Bearer ").strip())
        if token is None:
            raise bad_token()
        return token

    def is_member(self, token: Token | None, namespace: str) -> bool:
        return token is not None and (
            token.user == namespace or token.user in self.organisations.get(namespace, {})
        )

    def may_write(self, token: Token | None, namespace: str) -> bool:
        if token is None or token.role != "write":
            return False
        return token.user == namespace or self.organisations.get(namespace, {}).get(token.user) in WRITERS

    def describe(self, token: Token) -> dict[str, object]:
        """What whoami-v2 says."""
        orgs = [
            {"type": "org", "name": name, "fullname": name, "roleInOrg": members[token.user]}
            for name, members in sorted(self.organisations.items())
            if token.user in members
        ]
        access = {"type": "access_token", "accessToken": {"displayName": "stand-in", "role": token.role}}
        return {"type": "user", "id": token.user, "name": token.user, "fullname": token.user, "orgs": orgs,
                "auth": access, "isPro": False}
