"""Tasks that the tests of workers execute in real processes."""

from __future__ import annotations

from orchestrator.tasks import task


@task
def noop() -> None:
    """Nothing."""


@task
async def anoop() -> None:
    """Nothing, on the loop."""
