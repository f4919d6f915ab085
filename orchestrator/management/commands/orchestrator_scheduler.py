"""`manage.py orchestrator_scheduler`: `runscheduler`, by a longer name."""

from __future__ import annotations

from orchestrator.management.commands.runscheduler import Command

__all__ = ["Command"]
