"""The models read what the engine has written: the engine's own fixtures."""

from __future__ import annotations

from tests.engine.conftest import definitions, engine_connection, lab, pool

__all__ = ["definitions", "engine_connection", "lab", "pool"]
