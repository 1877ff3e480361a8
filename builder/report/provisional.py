"""The card of a folder that is being built: it says where the rows are and no counts, so that what is there loads."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from builder.columns import CONFIGS
from builder.files import os_errors_are_input, write_atomically
from builder.report import CARD
from builder.report.markdown import literal

_EVERY_S = 1.0

_TEXT = """---
{metadata}---

# {title}

This folder is being built, or its build was cut short. Finished shards can be loaded; counts, reasons, licences and
pictures stand here when the same `toffee build` has come to its end, or after `toffee report`.
"""


class ProvisionalCard:
    """README.md of `output` while its shards change. Each one written has a version of its own, for the cache of
    `datasets` goes by the card; none has counts, which would be compared with the rows."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self._configs: list[str] = []
        self._written = 0.0

    @os_errors_are_input("cannot write")
    def write(self) -> None:
        self._configs, self._written = _filled_configs(self.output), time.monotonic()
        text = provisional_card(self.output.resolve().name, self._configs)
        write_atomically(self.output / CARD, text.encode())

    def follow(self) -> None:
        """Write it again if a second has passed, or a config has its first rows."""
        if time.monotonic() - self._written >= _EVERY_S or _filled_configs(self.output) != self._configs:
            self.write()


def provisional_card(name: str, configs: list[str]) -> str:
    """With no rows all configs are listed, lest `datasets` take recipe.json for rows."""
    import yaml

    seconds, fraction = divmod(time.time_ns(), 10**9)
    listed = [_config(config, f"0.{seconds}.{fraction}") for config in configs or CONFIGS]
    listed[0]["default"] = True
    metadata: dict[str, Any] = {"pretty_name": name, "configs": listed}
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=10_000)
    return _TEXT.format(metadata=head, title=literal(name))


def _config(config: str, version: str) -> dict[str, Any]:
    files = [{"split": "train", "path": f"{config}/train-*"}]
    return {"config_name": config, "version": version, "data_files": files}


def _filled_configs(output: Path) -> list[str]:
    return [config for config in CONFIGS if _has_rows(output / config)]


def _has_rows(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entry.name.startswith("train-") for entry in entries)
    except FileNotFoundError:
        return False
