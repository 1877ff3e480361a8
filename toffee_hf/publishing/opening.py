"""Opening a repository on the Hub for writing: everything that can be wrong is told here, before anything is made."""

from __future__ import annotations

from functools import partial
from typing import Any

from toffee_hf.errors import HubError, HubRefusal, InputError
from toffee_hf.publishing.hub import MAIN, TIMEOUT_S, Repository
from toffee_hf.publishing.patience import Patience, patiently

NO_RIGHTS, NO_TOKEN_KNOWN, NOT_THERE = (402, 403), 401, 404


def open_repository(
    name: str, kind: str, *, revision: str = MAIN, private: bool = False, sdk: str | None = None, create: bool = True,
    patience: Patience | None = None,
) -> Repository:  # fmt: skip
    """The repository ORG/NAME, made if it is not there. kind: dataset, model or space (which needs its sdk).

    revision: a branch that exists. create: False makes nothing, for a dry run. Whose files it holds is for the caller
    to check. Raises InputError, in one sentence, for a name, token, account or branch that does not do.
    """
    patience = patience or Patience()
    check_name(name)
    _check_online()
    api, hurried = _client(), patience.hurried()
    repository = Repository(name, kind, api, revision, hurried)
    try:
        known = _account(api, hurried)
        account = str(known["name"])
        repository.exists = _exists(repository)
        if not repository.exists:
            _check_membership(repository, known)
        if create and not repository.exists:
            _create(repository, account, private, sdk)
        if repository.exists:
            _check_rights(repository, account)
            _check_revision(repository)
        elif revision != MAIN:
            raise InputError(f"{name} does not exist yet, so it has no branch {revision!r}; leave --revision out")
    except HubError as err:
        raise InputError(f"{err}; nothing was made") from err
    repository.patience = patience
    return repository


def check_name(name: str) -> None:
    """Raises InputError unless it is ORG/NAME as the Hub allows it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
        allowed = name.count("/") == 1
    except HFValidationError:
        allowed = False
    if not allowed:
        raise InputError(f"{name!r} is no name of a repository: give ORG/NAME, of letters, digits, '-', '_' and '.'")


def _check_online() -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise InputError("HF_HUB_OFFLINE is set, and publishing needs the Hub; unset it, or publish later")


def _client() -> Any:
    from huggingface_hub import HfApi, get_token, set_client_factory
    from huggingface_hub.utils._http import default_client_factory
    from huggingface_hub.utils.logging import set_verbosity_error
    from huggingface_hub.utils.tqdm import disable_progress_bars

    def factory() -> Any:
        client = default_client_factory()
        client.timeout = TIMEOUT_S
        return client

    token = get_token()
    if token is None:
        raise InputError("there is no token of the Hub; run `hf auth login` or set HF_TOKEN, with the right to write")
    if not (token.isascii() and token.isprintable()):
        raise InputError("the token of the Hub holds characters that no token has; run `hf auth login` again or set "
                         "another HF_TOKEN")
    set_client_factory(factory)
    disable_progress_bars()
    set_verbosity_error()  # type: ignore[no-untyped-call]  # every trouble is told by us, once
    return HfApi()


def _account(api: Any, patience: Patience) -> dict[str, Any]:
    """Whose token it is: `name`, `orgs`."""
    try:
        return dict(patiently(api.whoami, patience, "cannot ask the Hub whose token this is"))
    except HubRefusal as err:
        raise InputError("the Hub does not know the token; run `hf auth login` again or set another HF_TOKEN") from err


def _exists(repository: Repository) -> bool:
    try:
        patiently(lambda: repository.api.repo_info(repository.name, repo_type=repository.kind), repository.patience,
                  f"cannot look for {repository.name}")
    except HubRefusal as err:
        if err.status in (NO_TOKEN_KNOWN, NOT_THERE):
            return False
        raise
    return True


def _check_membership(repository: Repository, account: dict[str, Any]) -> None:
    space = repository.name.partition("/")[0]
    if space in (account["name"], *(org["name"] for org in account.get("orgs", ()))):
        return
    if not _is_somebody(repository, space):
        raise InputError(f"the Hub has no organisation or user {space!r}; give one that exists")
    raise InputError(f"{account['name']!r}, whose token this is, has no part in {space!r}; give ORG/NAME of your own")


def _create(repository: Repository, account: str, private: bool, sdk: str | None) -> None:
    name = repository.name
    try:
        patiently(lambda: repository.api.create_repo(name, repo_type=repository.kind, exist_ok=True,
                                                     private=private or None, space_sdk=sdk),
                  repository.patience, f"cannot make {name}")
    except HubRefusal as err:
        if err.status in (*NO_RIGHTS, NO_TOKEN_KNOWN):
            raise InputError(f"the token of {account!r} may not make {name} ({err.said}); give one with the right to "
                             "write there") from err
        raise
    repository.exists = True


def _is_somebody(repository: Repository, space: str) -> bool:
    """Whether there is such an organisation or user; yes where the Hub does not tell."""
    for ask in (repository.api.get_organization_overview, repository.api.get_user_overview):
        try:
            patiently(partial(ask, space), repository.patience, f"cannot ask for {space}")
            return True
        except HubRefusal as err:
            if err.status != NOT_THERE:
                return True
    return False


def _check_rights(repository: Repository, account: str) -> None:
    try:
        patiently(lambda: repository.api.auth_check(repository.name, repo_type=repository.kind, write=True),
                  repository.patience, f"cannot ask for the rights to {repository.name}")
    except HubRefusal as err:
        raise InputError(f"the token of {account!r} may not write to {repository.name} ({err.said}); the name is "
                         "taken, or the token needs the right to write") from err


def _check_revision(repository: Repository) -> None:
    refs = patiently(lambda: repository.api.list_repo_refs(repository.name, repo_type=repository.kind),
                     repository.patience, f"cannot read {repository.name}")
    branches = [branch.name for branch in refs.branches]
    if repository.revision not in branches:
        known = ", ".join(branches) or "none"
        raise InputError(f"{repository.name} has no branch {repository.revision!r}; it has {known}")
