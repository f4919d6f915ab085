"""What operators do to runs: one function each, for the admin, commands, API and code.

Each checks the permission of `actor` where one is given and acts on each run by itself:
one that cannot be changed is reported and stops nothing, and nothing to do is no error.
Up to `LIMIT` runs are changed at once, in one transaction, which joins the caller's and
may wait for another one that holds a run; more of them become a BulkOperation, which
schedulers work off. Each call that does something leaves one audit entry, of who asked
for what, for which runs and why, in the transaction of its effect.

They raise PermissionDenied (Django's) and InvalidFilter. `key`, where one is given, is
the id of that entry: a second call with it raises AlreadyDone and changes nothing.
"""

from __future__ import annotations

from orchestrator.operations.acts import Changed, Problem
from orchestrator.operations.audit import Actor, AlreadyDone
from orchestrator.operations.branching import branch_run
from orchestrator.operations.bulk import stop_bulk, work_off
from orchestrator.operations.filters import RunFilter
from orchestrator.operations.verbs import (
    LIMIT,
    UNCHANGED,
    cancel_run,
    cancel_runs,
    reprioritise_runs,
    rerun_run,
    rerun_runs,
    retry_run,
    retry_runs,
    use_encoder,
)

__all__ = [
    "LIMIT",
    "UNCHANGED",
    "Actor",
    "AlreadyDone",
    "Changed",
    "Problem",
    "RunFilter",
    "branch_run",
    "cancel_run",
    "cancel_runs",
    "reprioritise_runs",
    "rerun_run",
    "rerun_runs",
    "retry_run",
    "retry_runs",
    "stop_bulk",
    "use_encoder",
    "work_off",
]
