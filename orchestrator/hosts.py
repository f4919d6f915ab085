"""Hosts: where attempts are executed, and what all of them share there."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchestrator.voices import Outbox, Outlet

if TYPE_CHECKING:
    from orchestrator.durable.residents import Residents


class Host:
    """One process that executes tasks, as they see it through their context.

    `lifespan` is the value of `ORCHESTRATOR["LIFESPAN"]`, None without one; `labels`
    are the worker's.
    """

    def __init__(
        self,
        *,
        worker_id: UUID | None = None,
        outlet: Outlet | None = None,
        lifespan: Any = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.worker_id = worker_id
        self.outlet: Outlet = Outbox() if outlet is None else outlet
        self.lifespan = lifespan
        self.labels = dict(labels or {})
        # Of durable tasks: those that wait with their slots, and where steps are
        # executed; a worker sets them.
        self.residents: Residents | None = None
        self.threads: ThreadPoolExecutor | None = None
