"""What entries of a journal came to: values to return, or errors to raise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from orchestrator.codecs import ANYTHING, Codec, codec_for
from orchestrator.codecs.base import hints
from orchestrator.conditions import WaitResult
from orchestrator.conf import settings
from orchestrator.engine.journal import Entry
from orchestrator.exceptions import (
    InvalidDefinition,
    RunCancelled,
    RunFailed,
    TaskFailed,
)
from orchestrator.serialization import Misfit, dumps, invalid, loads

if TYPE_CHECKING:
    from orchestrator.workflows import WorkflowDefinition


def encode_step(function: Callable[..., Any], name: str, value: Any) -> str | None:
    """What a step returned, as JSON text; raises InvalidOutput."""
    what = f"Output of step {name}"
    try:
        plain = _codec(function).encode(value)
    except Misfit as misfit:
        raise invalid(misfit, what=what, output=True) from None
    if plain is None:
        return None
    return dumps(plain, limit=settings.max_output_bytes, what=what, sanitise=True)


def decode_step(function: Callable[..., Any], name: str, text: str | None) -> Any:
    """What a step returned, from its entry; raises InvalidInput."""
    if text is None:
        return None
    try:
        return _codec(function).decode(loads(text))
    except Misfit as misfit:
        raise invalid(misfit, what=f"Output of step {name} on record") from None


def child_output(definition: WorkflowDefinition[Any], entry: Entry) -> Any:
    """The output of a child run.

    Raises RunFailed and RunCancelled, as waiting for its handle's result does.
    """
    if entry.error is not None:
        raise child_error(loads(entry.error))
    value = None if entry.output is None else loads(entry.output)
    if definition.standalone:
        task = next(iter(definition.tasks.values()))
        return None if value is None else task.decode_output(value)
    return {
        name: output
        if output is None or name not in definition.tasks
        else definition.tasks[name].decode_output(output)
        for name, output in (value or {}).items()
    }


def child_error(error: dict[str, Any]) -> RunFailed | RunCancelled:
    """The error that a child's entry has on record."""
    if error.get("cancelled"):
        return RunCancelled(error.get("message") or None)
    failed = [
        TaskFailed(one["task"], one["type"], one["message"], one["traceback"])
        for one in error["tasks"]
    ]
    return RunFailed(error.get("message") or "The run failed.", failed)


def wait_result(entry: Entry) -> WaitResult:
    """What ended a wait."""
    pairs = [] if entry.output is None else loads(entry.output)
    return WaitResult(dict(pairs))


# Weak, for a step is often a function made for it, which holds its context.
_codecs: WeakKeyDictionary[Callable[..., Any], Codec] = WeakKeyDictionary()


def _codec(function: Callable[..., Any]) -> Codec:
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    try:
        codec = _codecs.get(function)
        if codec is None:
            codec = _codecs[function] = _codec_of(function)
    except TypeError:  # neither hashed nor referred to weakly
        codec = _codec_of(function)
    return codec


def _codec_of(function: Callable[..., Any]) -> Codec:
    try:
        kind = hints(function).get("return", Any)
        return ANYTHING if kind is Any else codec_for(kind)
    except InvalidDefinition:
        # A step may be any function, of a library, too: JSON has to do.
        return ANYTHING
