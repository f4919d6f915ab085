"""The verbs: over a filter, which may be one run or a selection of ids, or all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction

from orchestrator.conf import settings
from orchestrator.engine import sessions, versions
from orchestrator.engine.retry import Which
from orchestrator.exceptions import IllegalTransition, RunNotFound
from orchestrator.operations import bulk
from orchestrator.operations.acts import VERBS, Changed, Problem, Verb
from orchestrator.operations.audit import (
    Actor,
    because,
    check_permission,
    record,
    refuse_repetition,
)
from orchestrator.operations.filters import RunFilter, rows

if TYPE_CHECKING:
    from orchestrator.models import BulkOperation

LIMIT = 500  # runs that one call changes; schedulers work off more of them


class _Unchanged:
    """The input as it was."""

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED = _Unchanged()

Encoder = Callable[[str, Any], str]

_encoders: list[Encoder] = []


def use_encoder(encode: Encoder) -> None:
    """How an input of a workflow, by its name, becomes JSON text: told by the layer
    above, which knows what is declared."""
    _encoders[:] = [encode]


def cancel_runs(
    filter: RunFilter,
    *,
    reason: str,
    actor: Actor | None = None,
    children: bool = True,
    key: UUID | None = None,
) -> Changed | BulkOperation:
    """Cancel those of the runs that have not ended.

    Needs `orchestrator.cancel_run`. What is being executed ends here and now: what its
    worker reports later has no effect. With `children` the open runs that these
    spawned end as well, and theirs; they are not counted.
    """
    return _do(VERBS["cancel"], filter, {"children": children}, reason, actor, key)


def retry_runs(
    filter: RunFilter,
    *,
    tasks: Which = "failed",
    keep_journal: bool = True,
    reason: str = "",
    actor: Actor | None = None,
    key: UUID | None = None,
) -> Changed | BulkOperation:
    """Reopen those of the runs that can be retried.

    Needs `orchestrator.retry_run`. `tasks` are executed again, with all that depend on
    them: "failed" those that failed or were cancelled, "all", or those named. With
    "failed" the runs are those that failed or were cancelled, otherwise all that have
    ended. Run and version stay; the generation rises by one. Durable tasks replay
    their journals, unless these are not kept.
    """
    options = {"tasks": _named(tasks), "keep_journal": keep_journal}
    return _do(VERBS["retry"], filter, options, reason, actor, key)


def rerun_runs(
    filter: RunFilter,
    *,
    input: Any = UNCHANGED,
    reason: str = "",
    actor: Actor | None = None,
    key: UUID | None = None,
) -> Changed | BulkOperation:
    """Enqueue a new run for each of the runs; the ids are those of the new ones.

    Needs `orchestrator.rerun_run`. A new run has the old one's input, or `input`, and
    its metadata, tenant, priority and queue, and its workflow's current version.

    Raises InvalidInput where `input` does not fit a workflow of the runs: then there
    is no new run at all.
    """
    check_permission(actor, "rerun_run")
    inputs = None if input is UNCHANGED else _encoded(filter, input)
    return _do(VERBS["rerun"], filter, {"inputs": inputs}, reason, actor, key)


def reprioritise_runs(
    filter: RunFilter,
    *,
    priority: int,
    reason: str = "",
    actor: Actor | None = None,
    key: UUID | None = None,
) -> Changed | BulkOperation:
    """Give those of the runs that have not ended another priority (-100 to 100).

    Needs `orchestrator.change_run`. Raises ValueError for another number.
    """
    if not -100 <= priority <= 100:
        raise ValueError(f"priority={priority} is out of range; give -100 to 100.")
    options = {"priority": priority}
    return _do(VERBS["reprioritise"], filter, options, reason, actor, key)


# Over one run, which is refused where it cannot be changed.


def cancel_run(
    run_id: UUID,
    *,
    reason: str = "",
    actor: Actor | None = None,
    children: bool = True,
) -> bool:
    """Cancel one run as `cancel_runs` does; False where it had ended.

    Raises RunNotFound.
    """
    changed = _one(run_id, cancel_runs, reason=reason, actor=actor, children=children)
    return bool(changed)


def retry_run(
    run_id: UUID,
    *,
    tasks: Which = "failed",
    keep_journal: bool = True,
    reason: str = "",
    actor: Actor | None = None,
) -> None:
    """Reopen one ended run as `retry_runs` does.

    Raises RunNotFound; IllegalTransition, saying why the run cannot be retried.
    """
    check_permission(actor, "retry_run")
    with transaction.atomic(using=settings.database):
        # Its own refusal says more than that a filter does not match it.
        options = {"tasks": _named(tasks), "keep_journal": keep_journal}
        run = rows("Run").filter(pk=run_id).defer("input", "metadata").first()
        if run is None:
            raise _no_run(run_id)
        VERBS["retry"].act_alone(run, options, "")
        _record("retry", RunFilter(ids=[run_id]), options, [run_id], actor, reason)


def rerun_run(
    run_id: UUID,
    *,
    input: Any = UNCHANGED,
    reason: str = "",
    actor: Actor | None = None,
) -> UUID:
    """Enqueue a new run from one as `rerun_runs` does, and return its id.

    Raises RunNotFound; IllegalTransition where its workflow has no registered version;
    InvalidInput.
    """
    (new,) = _one(run_id, rerun_runs, input=input, reason=reason, actor=actor)
    return new


def _one(run_id: UUID, verb: Callable[..., Any], **options: Any) -> Changed:
    with transaction.atomic(using=settings.database):
        changed: Changed = verb(RunFilter(ids=[run_id]), **options)
        for problem in changed.problems:
            if not rows("Run").filter(pk=run_id).exists():
                raise RunNotFound(problem.message)
            raise IllegalTransition(problem.message)
    return changed


# How a call is carried out.


def _do(
    verb: Verb,
    filter: RunFilter,
    options: Mapping[str, Any],
    reason: str,
    actor: Actor | None,
    key: UUID | None,
) -> Changed | BulkOperation:
    check_permission(actor, verb.permission)
    with transaction.atomic(using=settings.database):
        refuse_repetition(key)
        matching = verb.matching(filter.runs(), options)
        keys = list(matching.values_list("pk", flat=True)[: LIMIT + 1])
        if len(keys) > LIMIT:
            return bulk.start(
                verb, filter, options, reason=reason, actor=actor, key=key
            )
        said = because(bulk.WORDS.get(verb.name, verb.name), actor, reason)
        changed = verb.act(keys, options, said)
        changed.problems += _missing(filter)
        if changed or changed.problems:
            _record(
                verb.name, filter, options, changed, actor, reason, changed, key=key
            )
    return changed


def _missing(filter: RunFilter) -> list[Problem]:
    """The ids of a filter that no run has, or that the rest of it excludes."""
    if not filter.ids:
        return []
    there = set(filter.runs().values_list("pk", flat=True))
    return [
        Problem(run_id, f"There is no run {run_id}, or the filter excludes it.")
        for run_id in dict.fromkeys(filter.ids)
        if run_id not in there
    ]


def _no_run(run_id: UUID) -> RunNotFound:
    return RunNotFound(f"There is no run {run_id}. It may have been dropped.")


def _named(tasks: Which) -> str | list[str]:
    return tasks if isinstance(tasks, str) else list(tasks)


def _encoded(filter: RunFilter, input: Any) -> dict[str, str]:
    """The input as JSON text for each workflow of the runs, by its name."""
    session = sessions.django_session()
    used = filter.runs().order_by().values_list("version_id", flat=True).distinct()
    shapes = [versions.shape(session, version_id) for version_id in used]
    names = {shape.workflow for shape in shapes if shape is not None}
    return {name: encode(name, input) for name in names for encode in _encoders}


def _record(
    action: str,
    filter: RunFilter,
    options: Mapping[str, Any],
    runs: Sequence[UUID],
    actor: Actor | None,
    reason: str,
    changed: Changed | None = None,
    key: UUID | None = None,
) -> None:
    old = changed.old if changed is not None else list(runs)
    problems = changed.problems if changed is not None else []
    data: dict[str, Any] = {
        **bulk.told(options, filter),
        "changed": len(runs),
        "problems": [
            {"run": str(problem.run_id), "message": problem.message}
            for problem in problems[: bulk.MAX_PROBLEMS]
        ],
        "failed": len(problems),
        "runs": [str(run_id) for run_id in old],
    }
    if action == "rerun":
        data["new_runs"] = {str(a): str(b) for a, b in zip(old, runs, strict=True)}
        if len(runs) == 1:
            data["new_run"] = str(runs[0])
    looked_at = [*old, *(problem.run_id for problem in problems)]
    target = ("runs", "", f"{len(looked_at)} runs")
    if len(looked_at) == 1:
        target = ("run", str(looked_at[0]), _called(looked_at[0]))
    record(action, target=target, actor=actor, reason=reason, data=data, key=key)


def _called(run_id: UUID) -> str:
    # Not joined: a workflow may not be registered here yet.
    workflow = rows("Run").filter(pk=run_id).values("workflow_id")[:1]
    names = rows("Workflow").filter(pk__in=workflow).values_list("name", flat=True)
    return f"{next(iter(names), 'run')} {run_id}"
