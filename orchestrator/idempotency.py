"""Idempotency keys of calls: which key, in which scope, for how long.

The key comes from the call, or else from the workflow's expression over its input.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchestrator import cel
from orchestrator.calls import CallOptions
from orchestrator.engine.keys import Key
from orchestrator.exceptions import ExpressionFailed, InvalidDefinition, InvalidInput
from orchestrator.options import check_key
from orchestrator.policies import Idempotency
from orchestrator.serialization import loads

if TYPE_CHECKING:
    from orchestrator.workflows import WorkflowDefinition

NAMES = frozenset({"input", "metadata", "tenant", "workflow"})

# For how long the key of a call is held where the workflow does not say.
DEFAULT_TTL = timedelta(hours=24)


def check(idempotency: object, workflow: str) -> Idempotency | None:
    """What `idempotency=` may be; raises InvalidDefinition."""
    if idempotency is None:
        return None
    if not isinstance(idempotency, Idempotency):
        raise InvalidDefinition(
            f"{workflow!r}: idempotency={idempotency!r} should be an Idempotency, such "
            "as Idempotency('input.id', ttl=timedelta(hours=1))."
        )
    cel.check(
        idempotency.expression, NAMES, what=f"The idempotency expression of {workflow}"
    )
    return idempotency


def applies(definition: WorkflowDefinition[Any], options: CallOptions) -> bool:
    """Whether a call has a key."""
    return definition.idempotency is not None or options.idempotency_key is not None


def key_of(
    definition: WorkflowDefinition[Any], options: CallOptions, text: str, run_id: UUID
) -> Key | None:
    """The key that a run of this input (JSON text) is to hold; None for none.

    Raises InvalidInput where the expression does not give a key.
    """
    policy = definition.idempotency
    key = options.idempotency_key
    if key is None:
        if policy is None:
            return None
        key = _evaluated(definition, policy.expression, options, text)
    scope = options.idempotency_scope or (policy and policy.scope) or definition.name
    if policy is None:
        return Key(scope, key, run_id, DEFAULT_TTL, until_finished=False)
    return Key(scope, key, run_id, policy.ttl, policy.until == "finished")


def _evaluated(
    definition: WorkflowDefinition[Any],
    expression: str,
    options: CallOptions,
    text: str,
) -> str:
    what = f"The idempotency key of {definition.name}"
    values = {
        "input": _named(definition, loads(text)),
        "metadata": loads(options.metadata),
        "tenant": options.tenant,
        "workflow": definition.name,
    }
    try:
        key = cel.evaluate(expression, values)
    except ExpressionFailed as error:
        raise InvalidInput(f"{what} cannot be evaluated: {error}") from None
    if not isinstance(key, str):
        raise InvalidInput(
            f"{what}: {expression!r} gave {type(key).__name__} {key!r}, and keys are "
            f"strings; write string({expression})."
        )
    return check_key(key, what, InvalidInput)


def _named(definition: WorkflowDefinition[Any], value: Any) -> Any:
    """The input as expressions know it: plain arguments by their names."""
    if not definition.standalone or not isinstance(value, Mapping):
        return value
    (task,) = definition.tasks.values()
    if not getattr(task, "plain", False):
        return value
    return by_name(
        task.function, value, takes_context=getattr(task, "takes_context", False)
    )


def by_name(
    function: Callable[..., Any], stored: Mapping[str, Any], *, takes_context: bool
) -> Mapping[str, Any]:
    """Stored arguments of a function under the names of its parameters.

    Defaults are left out: they are the function's, and need not be JSON.
    """
    args = [*([None] if takes_context else []), *stored.get("args", ())]
    kwargs = stored.get("kwargs", {})
    bound = inspect.signature(function).bind_partial(*args, **kwargs).arguments
    named = dict(bound)
    if takes_context:
        named.pop(next(iter(inspect.signature(function).parameters)), None)
    return named
