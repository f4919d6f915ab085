"""The schema, the admin's reads and the history. Import models from here.

Submodules are an implementation detail. The engine speaks SQL and imports none of
them; a test prepares each of its statements against the schema made from these.
"""

from __future__ import annotations

from orchestrator.models.audit import AuditEntry
from orchestrator.models.definitions import Queue, Task, Workflow, WorkflowVersion
from orchestrator.models.events import Event, EventItem
from orchestrator.models.journal import JournalEntry, LogLine, Progress, StreamChunk
from orchestrator.models.live import (
    Deadline,
    DelayedItem,
    Lease,
    OpenRun,
    QueueItem,
    Wait,
    WaitCondition,
)
from orchestrator.models.operations import BulkOperation, IdempotencyKey
from orchestrator.models.runs import Attempt, Run, TaskRun
from orchestrator.models.workers import Duty, Worker

__all__ = [
    "Attempt",
    "AuditEntry",
    "BulkOperation",
    "Deadline",
    "DelayedItem",
    "Duty",
    "Event",
    "EventItem",
    "IdempotencyKey",
    "JournalEntry",
    "Lease",
    "LogLine",
    "OpenRun",
    "Progress",
    "Queue",
    "QueueItem",
    "Run",
    "StreamChunk",
    "Task",
    "TaskRun",
    "Wait",
    "WaitCondition",
    "Worker",
    "Workflow",
    "WorkflowVersion",
]
