"""Rate limits as the Hub has them: so many requests of a resource in a fixed window, counted per token."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.hub_stand_in.errors import HubError


@dataclass
class _Quota:
    requests: int
    window_s: float
    began: float = field(default_factory=time.monotonic)
    used: Counter[str] = field(default_factory=Counter)


class Quotas:
    """None until a test sets one; then every reply of that resource tells what is left."""

    def __init__(self) -> None:
        self._quotas: dict[str, _Quota] = {}
        self._lock = threading.Lock()

    def set(self, resource: str, requests: int, window_s: float = 300) -> None:
        """Resource "api" or "resolvers" (downloads' first request); a free account has 1,000 and 5,000."""
        self._quotas[resource] = _Quota(requests, window_s)

    def take(self, kind: str, who: str) -> dict[str, str]:
        """Count one request; the headers to answer with, or the refusal."""
        resource = _resource(kind)
        with self._lock:
            quota = self._quotas.get(resource)
            if quota is None:
                return {}
            past = (time.monotonic() - quota.began) // quota.window_s
            if past:
                quota.began += past * quota.window_s
                quota.used.clear()
            quota.used[who] += 1
            left = quota.requests - quota.used[who]
            return _told(resource, quota, left)


def _told(resource: str, quota: _Quota, left: int) -> dict[str, str]:
    reset_s = math.ceil(quota.began + quota.window_s - time.monotonic())
    headers = {"RateLimit": f'"{resource}";r={max(left, 0)};t={reset_s}',
               "RateLimit-Policy": f'"fixed window";"{resource}";q={quota.requests};w={math.ceil(quota.window_s)}'}
    if left < 0:
        raise HubError(429, f"We had to rate limit you, you hit the quota of {quota.requests} {resource} requests per "
                            f"{quota.window_s} s period.", headers=headers)
    return headers


def _resource(kind: str) -> str:
    if kind == "resolve":
        return "resolvers"
    storage = kind in ("download", "lfs-put") or (kind.startswith("xet-") and kind != "xet-token")
    return "storage" if storage else "api"
