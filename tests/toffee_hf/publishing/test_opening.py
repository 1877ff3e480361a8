"""Whatever is wrong with a name, a token, an account or a branch is told in one sentence, and nothing is made."""

from __future__ import annotations

import re

import pytest

from tests import hub_stand_in as wrong
from toffee_hf.errors import InputError
from toffee_hf.publishing.opening import open_repository
from toffee_hf.publishing.patience import Patience


@pytest.fixture
def told(hub, monkeypatch):
    """The one sentence with which opening fails."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", hub.write)

    def ask(name="org/rows", kind="dataset", **more):
        with pytest.raises(InputError) as raised:
            open_repository(name, kind, patience=Patience(first_s=0.01, most_s=0.01, total_s=0.2), **more)
        text = str(raised.value)
        assert "\n" not in text and not any(token in text for token in (hub.write, hub.read, hub.stranger))
        return text

    return ask


@pytest.mark.parametrize("name", ["rows", "a/b/c", "org/", "/rows", "org/ro ws", "org/-r", "", "org/a--b", "o\nrg/x"])
def test_a_name_that_is_none(told, hub, name):
    assert "is no name of a repository: give ORG/NAME" in told(name)
    assert not hub.requests


def test_nobody_waits_for_a_rate_limit_before_anything_runs(hub, told, monkeypatch):
    monkeypatch.setattr("toffee_hf.publishing.patience.Patience.hurried", lambda patience: Patience(sleep=pytest.fail,
                                                                                                    total_s=20))
    hub.faults.inject("*", wrong.retry_after(240), times=None)
    assert re.search(r"the Hub answers 429.*, and asks for 240 s\), and patience is at its end", told())
    assert not hub.store.repositories


def test_no_token(told, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    assert "no token of the Hub; run `hf auth login` or set HF_TOKEN" in told()


@pytest.mark.parametrize("token", ["hf_\u00e9", "hf_\u200bx"])
def test_a_token_of_other_characters(told, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    text = told()
    assert "holds characters that no token has" in text and token not in text


def test_a_token_that_nobody_knows(told, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    text = told()
    assert "does not know the token" in text and "hf_unknown" not in text


@pytest.mark.parametrize("create", [True, False])
def test_an_organisation_that_is_none(told, hub, create):
    assert "no organisation or user 'orgg'" in told("orgg/rows", create=create)
    assert not hub.store.repositories


@pytest.mark.parametrize("create", [True, False])
def test_an_organisation_of_others(told, hub, monkeypatch, create):
    monkeypatch.setenv("HF_TOKEN", hub.stranger)
    assert "'bob', whose token this is, has no part in 'org'" in told(create=create)


def test_a_token_that_may_not_write(told, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.read)
    assert "the token of 'ada' may not make org/rows" in told()
    hub.api(hub.write).create_repo("org/rows", repo_type="dataset")
    assert "the token of 'ada' may not write to org/rows" in told()


def test_a_name_that_somebody_has(told, hub, monkeypatch):
    hub.api(hub.write).create_repo("org/rows", repo_type="dataset")
    monkeypatch.setenv("HF_TOKEN", hub.stranger)
    assert "may not write to org/rows" in told() and "the name is taken" in told()


def test_a_private_name_that_somebody_has(told, hub, monkeypatch):
    hub.api(hub.write).create_repo("org/rows", repo_type="dataset", private=True)
    monkeypatch.setenv("HF_TOKEN", hub.stranger)
    assert "has no part in 'org'" in told()


def test_offline(told, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in told()
    assert not hub.requests


def test_a_branch_that_is_none(told, hub):
    assert "does not exist yet, so it has no branch 'dev'" in told(revision="dev", create=False)
    hub.api().create_repo("org/rows", repo_type="dataset")
    assert "has no branch 'dev'; it has main" in told(revision="dev")
    hub.api().create_branch("org/rows", branch="dev", repo_type="dataset")
    assert open_repository("org/rows", "dataset", revision="dev").head()


def test_a_hub_that_does_not_answer(told, hub):
    hub.faults.inject("*", wrong.dropped(), times=None)
    assert "no whole answer from the Hub" in told() and "nothing was made" in told()


def test_a_hub_that_answers_late(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", hub.write)
    for kind in ("whoami", "info", "create", "auth-check", "refs"):
        hub.faults.inject(kind, wrong.status(503), times=2)
        hub.faults.inject(kind, wrong.lost_reply(), times=1)
    assert open_repository("org/rows", "dataset", patience=Patience(first_s=0.01)).exists
    assert list(hub.store.repositories) == [("dataset", "org/rows")]


def test_a_dry_run_makes_nothing(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.write)
    repository = open_repository("org/rows", "dataset", create=False)
    assert (repository.exists, repository.files(), repository.tags()) == (False, {}, {})
    assert not hub.store.repositories


@pytest.mark.parametrize("private", [True, False])
def test_whoever_may_see_it(hub, monkeypatch, private):
    monkeypatch.setenv("HF_TOKEN", hub.write)
    open_repository("ada/rows", "dataset", private=private)
    assert hub.repository("ada/rows").private == private
