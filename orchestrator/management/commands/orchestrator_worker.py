"""`manage.py orchestrator_worker`: `runworker`, by a name that no other app has."""

from __future__ import annotations

from orchestrator.management.commands.runworker import Command

__all__ = ["Command"]
