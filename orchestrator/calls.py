"""Calls: what is to be enqueued, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from orchestrator import options
from orchestrator.conf import settings
from orchestrator.exceptions import InvalidInput
from orchestrator.serialization import dumps, loads

if TYPE_CHECKING:
    from orchestrator.workflows import WorkflowDefinition

Output_co = TypeVar("Output_co", covariant=True)


@dataclass(frozen=True)
class CallOptions:
    """How runs are enqueued; `metadata` is JSON text.

    `queue_name` None leaves each task to its own queue.
    """

    priority: int = 0
    run_after: datetime | None = None
    queue_name: str | None = None
    metadata: str = "{}"
    tenant: str = ""
    idempotency_key: str | None = None
    idempotency_scope: str | None = None

    def using(
        self,
        *,
        priority: int | None,
        run_after: datetime | None,
        queue_name: str | None,
        metadata: Mapping[str, Any] | None,
        tenant: str | None,
        idempotency_key: str | None,
        idempotency_scope: str | None,
    ) -> CallOptions:
        """These options with those changed that are given, `metadata` laid over.

        Raises InvalidInput naming the option that cannot be used.
        """
        changed: dict[str, Any] = {}
        if priority is not None:
            changed["priority"] = options.check_priority(priority, InvalidInput)
        if run_after is not None:
            changed["run_after"] = options.check_run_after(run_after, InvalidInput)
        if queue_name is not None:
            changed["queue_name"] = options.check_name(
                queue_name, "queue", InvalidInput
            )
        if metadata is not None:
            given = options.check_metadata(metadata, InvalidInput)
            changed["metadata"] = dump_metadata(loads(self.metadata) | given)
        if tenant is not None:
            changed["tenant"] = options.check_tenant(tenant, InvalidInput)
        if idempotency_key is not None:
            changed["idempotency_key"] = options.check_key(
                idempotency_key, "idempotency_key", InvalidInput
            )
        if idempotency_scope is not None:
            changed["idempotency_scope"] = options.check_key(
                idempotency_scope, "idempotency_scope", InvalidInput
            )
        return replace(self, **changed)


def dump_metadata(metadata: Mapping[str, Any]) -> str:
    """Metadata as JSON text; raises InvalidInput with the path of what does not fit."""
    return dumps(metadata, limit=settings.max_metadata_bytes, what="Metadata")


class Call(NamedTuple, Generic[Output_co]):
    """One run to be enqueued: a target bound to its input by `target.bind(…)`.

    `input` is JSON text.
    """

    definition: WorkflowDefinition[Any]
    input: str
    options: CallOptions
