"""What the Hub answers when it refuses: the status, the headers by which the client tells errors apart, the text."""

from __future__ import annotations

from typing import Any


class HubError(Exception):
    """One refusal. `code` becomes X-Error-Code, `more` further fields of the JSON body."""

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.headers, self.more = headers or {}, more


def no_token() -> HubError:
    return HubError(401, "Invalid username or password.")


def bad_token() -> HubError:
    return HubError(401, "Invalid credentials in Authorization header")


def no_repository(signed_in: bool) -> HubError:
    """A stranger may not learn whether a private repository exists, so a missing one looks the same: 401."""
    if signed_in:
        return HubError(404, "Repository not found", "RepoNotFound")
    return HubError(401, "Invalid username or password.", "RepoNotFound")


def gated(signed_in: bool, repo_id: str) -> HubError:
    status = 403 if signed_in else 401
    return HubError(status, f"Access to {repo_id} is restricted and you are not in the authorized list.", "GatedRepo")


def no_revision(revision: str) -> HubError:
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def no_entry(message: str, commit: str) -> HubError:
    return HubError(404, message, "EntryNotFound", {"X-Repo-Commit": commit})


def may_not_create(repo_type: str, namespace: str) -> HubError:
    """Also what the Hub says of a namespace that does not exist."""
    return HubError(403, f'You don\'t have the rights to create a {repo_type} under the namespace "{namespace}"')


def may_not_write() -> HubError:
    return HubError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")


def taken(repo_type: str, url: str) -> HubError:
    return HubError(409, f"You already created this {repo_type} repo", url=url)


def commit_since() -> HubError:
    return HubError(412, "A commit has happened since. Please refresh and try again.")


def bad_request(message: str) -> HubError:
    return HubError(400, message)
