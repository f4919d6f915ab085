"""The adapters, one module each, imported only when they are asked for."""

from __future__ import annotations

from importlib import import_module

from benchmarks.peers.base import Kind, Peer

__all__ = ["NAMES", "OURS", "Kind", "Peer", "load"]

OURS = "ours"
_CLASSES = {
    OURS: "Ours",
    "pgqueuer": "PgQueuer",
    "procrastinate": "Procrastinate",
    "celery": "Celery",
}
NAMES = tuple(_CLASSES)


def load(name: str) -> type[Peer]:
    """The adapter of that name. Raises ImportError where it is not installed."""
    module = import_module(f"benchmarks.peers.{name}")
    adapter: type[Peer] = getattr(module, _CLASSES[name])
    return adapter
