"""The web server's port."""

from __future__ import annotations

import socket
from contextlib import suppress

LOOPBACK = "127.0.0.1"


def free_port(first: int, *, tries: int = 50) -> int:
    """``first``, or the next port on the loopback address that nobody has taken.

    Raises OSError when all ``tries`` of them are taken.
    """
    for port in range(first, first + tries):
        with socket.socket() as probe, suppress(OSError):
            # As the server will bind: a closed connection in TIME_WAIT is no owner.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            return port
    raise OSError(
        f"The ports {first}–{first + tries - 1} are all taken. "
        f"Choose another one: PORT=9000 make run"
    )


def is_listening(port: int) -> bool:
    """Whether something accepts connections on the loopback ``port``."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0
