"""A Hub on loopback: real `huggingface_hub`, `datasets` and `diffusers` publish to it and load from it, unmodified.

In a test, by the fixture `hub` (one Hub per test) or `module_hub` (one per file):

    def test_it(hub, toffee):
        hub.faults.inject("commit", status(503), times=2)              # see faults.py for what can go wrong
        hub.quotas.set("api", 1000)                                    # rate limits, see quotas.py; none by default
        done = toffee("publish", "dataset", "toffee", "--to", "org/toffee", **hub.environment())
        assert hub.count("commit") <= 60                               # by the names of routes; all: `hub.requests`
        assert "README.md" in hub.repository("org/toffee").files       # what the Hub holds, without asking it
        hub.api().list_repo_tree("org/toffee", repo_type="dataset")    # the client in this process; uploads by LFS
        hub.python("from datasets import load_dataset; ...")           # code in a process of its own; uploads by Xet
        hub.wait_for("commit", 3)                                      # then kill what `hub.start(code)` started

`hub.write`, `hub.read`, `hub.stranger` are tokens (of an admin of `org`, the same read-only, and of somebody else);
`hub.api(None)` and `hub.environment(None)` have none. `HF_HUB_DISABLE_XET="1"` makes another process upload by LFS.

Without a test: `python -m tests.hub_stand_in --port 8000` prints the environment to set.
"""

from tests.hub_stand_in.faults import (
    Fault,
    Faults,
    conflict,
    cut_download,
    cut_upload,
    dropped,
    late,
    lost_reply,
    rate_limited,
    retry_after,
    slow,
    status,
)
from tests.hub_stand_in.hub import Hub, serving

__all__ = [
    "Fault", "Faults", "Hub", "conflict", "cut_download", "cut_upload", "dropped", "late", "lost_reply",
    "rate_limited", "retry_after", "serving", "slow", "status",
]
