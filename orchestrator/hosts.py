"""Hosts: where attempts are executed, and what all of them share there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from orchestrator.voices import Outbox, Outlet


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
