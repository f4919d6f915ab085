"""Orders: what the supervisor says to a child, and what the child knows of it.

One byte a word, through a pipe. A thread hears them, the engine thread obeys.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from orchestrator.worker.mailbox import Mailbox

# What the supervisor says.
WAKE = b"w"  # look at the queues
DRAIN = b"d"  # claim nothing more, return what has not started, end when idle
TEND = b"t"  # route events and judge what waits
STOP_NOW = b"s"  # settle what has finished, and end
RECONCILE = b"c"  # look for leases that are gone, and for new queues


@dataclass
class Orders:
    """What the supervisor has said. Set by another thread, read between two steps."""

    draining: bool = False
    stop_now: bool = False
    woken: bool = False
    reconcile: bool = False
    tend: bool = False


def listen(descriptor: int, orders: Orders, mailbox: Mailbox) -> None:
    """Do what the supervisor says; end with it."""
    while True:
        words = os.read(descriptor, 64)
        if not words:
            os._exit(0)
        if WAKE in words:
            orders.woken = True
        if RECONCILE in words:
            orders.reconcile = True
        if TEND in words:
            orders.tend = True
        if DRAIN in words:
            orders.draining = True
        if STOP_NOW in words:
            orders.draining = orders.stop_now = True
        mailbox.ring()
