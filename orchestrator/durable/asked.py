"""What a durable call asks for, as text that is the same at each replay.

The journal keeps it beside the result. A function that asks for something else at the
same position is not deterministic, and is told so.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from hashlib import blake2b
from pathlib import PurePath
from typing import Any
from uuid import UUID

from django.db import models

from orchestrator.calls import Call
from orchestrator.conditions import Condition, brief
from orchestrator.engine.waits import ASKED_WAIT
from orchestrator.exceptions import InvalidInput

NOW = "now"


def step(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """A step: its name and its arguments."""
    given = [list(args), dict(kwargs)]
    try:
        text = _dumped(given, sort_keys=True)
    except TypeError:  # keys of several types have no order but their own
        text = _dumped(given, sort_keys=False)
    return f"step {name} {_digest(text)}"


def _dumped(given: object, *, sort_keys: bool) -> str:
    return json.dumps(
        given,
        default=_plain,
        sort_keys=sort_keys,
        skipkeys=True,
        separators=(",", ":"),
    )


def sleep(duration: timedelta) -> str:
    """A sleep."""
    return f"sleep {brief(duration)}"


def sleep_until(moment: datetime) -> str:
    """A sleep until a time."""
    return f"sleep until {moment.isoformat()}"


def wait(condition: Condition) -> str:
    """A wait for a condition."""
    text = json.dumps(condition.to_dict(), sort_keys=True, ensure_ascii=False)
    return ASKED_WAIT + text


def run(call: Call[Any], key: str | None) -> str:
    """A child: its workflow, its input, and its key, by which it is found again."""
    text = json.dumps(json.loads(call.input), sort_keys=True, separators=(",", ":"))
    called = "" if key is None else f" key {key}"
    return f"run {call.definition.name} {_digest(text)}{called}"


def step_name(function: Callable[..., Any], name: str | None) -> str:
    """The name of a step, given or the function's own; raises InvalidInput."""
    while isinstance(function, functools.partial):
        function = function.func
    found = getattr(function, "__qualname__", None) if name is None else name
    if not isinstance(found, str) or not found:
        raise InvalidInput(f"{function!r} has no name; give name= to ctx.step.")
    return found[:200]


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _plain(value: object) -> Any:
    """What of a value tells it from others, and is the same in another process."""
    if isinstance(value, models.Model):
        return [value._meta.label, str(value.pk)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
        }
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, _TEXTS):
        return str(value)
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump()
    # Its text may hold an address, which changes: its type has to do.
    return type(value).__qualname__


_TEXTS = (bytes, date, time, timedelta, Decimal, UUID, PurePath, Enum, Fraction)
