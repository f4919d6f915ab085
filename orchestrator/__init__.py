"""Durable background tasks and workflows for Django, on PostgreSQL alone.

Importing this package loads no model, so `workflows.py` may do it while apps load.
"""

from __future__ import annotations

from orchestrator.batches import batch_task
from orchestrator.conditions import (
    EventCondition,
    ParentCondition,
    SleepCondition,
    WaitResult,
)
from orchestrator.context import Context
from orchestrator.dependencies import Depends
from orchestrator.durable.context import DurableContext
from orchestrator.durable.tasks import durable_task
from orchestrator.exceptions import (
    BulkIdempotencyCollision,
    IdempotencyCollision,
    IllegalTransition,
    InvalidDefinition,
    InvalidInput,
    InvalidOutput,
    NonDeterminism,
    NonRetryable,
    OrchestratorError,
    RunCancelled,
    RunFailed,
    RunNotFound,
    TaskFailed,
    WaitingInTransaction,
)
from orchestrator.policies import Eviction, Idempotency, Retry
from orchestrator.runs import UNCHANGED, RunHandle
from orchestrator.tasks import task
from orchestrator.workflows import workflow

__all__ = [
    "UNCHANGED",
    "BulkIdempotencyCollision",
    "Context",
    "Depends",
    "DurableContext",
    "EventCondition",
    "Eviction",
    "Idempotency",
    "IdempotencyCollision",
    "IllegalTransition",
    "InvalidDefinition",
    "InvalidInput",
    "InvalidOutput",
    "NonDeterminism",
    "NonRetryable",
    "OrchestratorError",
    "ParentCondition",
    "Retry",
    "RunCancelled",
    "RunFailed",
    "RunHandle",
    "RunNotFound",
    "SleepCondition",
    "TaskFailed",
    "WaitResult",
    "WaitingInTransaction",
    "batch_task",
    "durable_task",
    "task",
    "workflow",
]
