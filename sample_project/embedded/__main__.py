"""``python -m sample_project.embedded status|stop|remove``: the checkout's servers.

For what no user is left to do: a server whose users were all killed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sample_project.embedded.server import EmbeddedServer

CHECKOUT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in {"status", "stop", "remove"}:
        print(__doc__)
        return 2
    for directory in sorted(CHECKOUT.glob(".postgres*")):
        server = EmbeddedServer(directory)
        if arguments[0] == "status":
            state = "up" if server.is_up() else "down"
            print(f"{directory.name}: {state}, data in {server.data}")
        elif server.stop():
            print(f"{directory.name}: stopped")
        if arguments[0] == "remove":
            server.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
