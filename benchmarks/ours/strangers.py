"""A task that the client enqueues and no worker knows: this module is not one that
autodiscovery imports."""

from __future__ import annotations

from orchestrator import task


@task(name="stranger", queue_name="async")
async def stranger(number: int) -> None:
    """Never executed."""
