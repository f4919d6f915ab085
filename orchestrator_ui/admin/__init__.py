"""The control plane in Django's own admin: stock screens, on the project's own site.

To change one, unregister it and register a subclass of its class here.
"""

from __future__ import annotations

from django.contrib import admin

from orchestrator.models import (
    Attempt,
    AuditEntry,
    BulkOperation,
    Queue,
    Run,
    Task,
    TaskRun,
    Worker,
    Workflow,
    WorkflowVersion,
)
from orchestrator_ui.admin.audit import AuditEntryAdmin
from orchestrator_ui.admin.bulk import BulkOperationAdmin
from orchestrator_ui.admin.definitions import (
    TaskAdmin,
    WorkflowAdmin,
    WorkflowVersionAdmin,
)
from orchestrator_ui.admin.history import AttemptAdmin, TaskRunAdmin
from orchestrator_ui.admin.queues import QueueAdmin
from orchestrator_ui.admin.runs import RunAdmin
from orchestrator_ui.admin.workers import WorkerAdmin

__all__ = [
    "AttemptAdmin",
    "AuditEntryAdmin",
    "BulkOperationAdmin",
    "QueueAdmin",
    "RunAdmin",
    "TaskAdmin",
    "TaskRunAdmin",
    "WorkerAdmin",
    "WorkflowAdmin",
    "WorkflowVersionAdmin",
]

admin.site.register(Run, RunAdmin)
admin.site.register(TaskRun, TaskRunAdmin)
admin.site.register(Attempt, AttemptAdmin)
admin.site.register(Workflow, WorkflowAdmin)
admin.site.register(WorkflowVersion, WorkflowVersionAdmin)
admin.site.register(Task, TaskAdmin)
admin.site.register(Worker, WorkerAdmin)
admin.site.register(Queue, QueueAdmin)
admin.site.register(AuditEntry, AuditEntryAdmin)
admin.site.register(BulkOperation, BulkOperationAdmin)
