"""python -m tests.hub_stand_in [--port N] [--folder DIR]: a Hub until it is interrupted; prints what to set."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from tests.hub_stand_in.hub import serving


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hub_stand_in", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with serving(arguments.folder, arguments.port) as hub:
        for name, value in hub.environment().items():
            print(f"export {name}={value}")
        print(flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
