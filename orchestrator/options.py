"""The options of workflows, tasks and calls: checked where they are written.

Each check raises the error class it is given, naming the option and the next step.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from orchestrator.exceptions import InvalidDefinition, OrchestratorError

NAME_LENGTH = 200
MIN_PRIORITY, MAX_PRIORITY = -100, 100
MAX_SLOT_COST = 1_000
# Places carry a schedule timeout as a 32-bit number of milliseconds.
MAX_TIMEOUT = timedelta(days=24)

Refusal = type[OrchestratorError]


def check_options(decorator: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Options of a decorator; raises TypeError, as a function of Python's would."""
    for option in given:
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1)
            hint = (
                f"did you mean {close[0]!r}?" if close else f"use {', '.join(known)}."
            )
            raise TypeError(f"@{decorator} has no option {option!r}; {hint}")


def check_name(name: object, what: str, refusal: Refusal = InvalidDefinition) -> str:
    """A name that people read in the admin and that a column takes."""
    if not isinstance(name, str):
        raise refusal(f"The name of a {what} is {name!r}; give a string.")
    if not name or name != name.strip() or not name.isprintable():
        raise refusal(
            f"The name of a {what} is {name!r}; give printable text without blanks at "
            "its ends."
        )
    if len(name) > NAME_LENGTH:
        raise refusal(
            f"The name of a {what} has {len(name)} characters: {name[:40]!r}…; give at "
            f"most {NAME_LENGTH}."
        )
    return name


def check_key(key: object, what: str, refusal: Refusal = InvalidDefinition) -> str:
    """An idempotency key, or the name of a scope of them."""
    if not isinstance(key, str):
        raise refusal(f"{what} is {key!r}; give a string.")
    if not 0 < len(key) <= NAME_LENGTH or "\0" in key or not _is_unicode(key):
        raise refusal(
            f"{what} is {key[:40]!r} ({len(key)} characters); give 1 to {NAME_LENGTH} "
            "without NUL and lone surrogates, such as a digest of what is longer."
        )
    return key


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def check_priority(priority: object, refusal: Refusal = InvalidDefinition) -> int:
    """A priority from -100 to 100; larger is first."""
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise refusal(f"priority={priority!r} is not a whole number; give -100 to 100.")
    if not MIN_PRIORITY <= priority <= MAX_PRIORITY:
        raise refusal(
            f"priority={priority} is out of range; give -100 to 100, larger is first."
        )
    return priority


def check_timeout(name: str, timeout: object) -> timedelta | None:
    """A timeout of a task, or None for none of its own."""
    if timeout is None:
        return None
    if not isinstance(timeout, timedelta):
        raise InvalidDefinition(
            f"{name}={timeout!r} is not a timedelta; write {name}=timedelta(seconds=…)."
        )
    if not timedelta(0) < timeout <= MAX_TIMEOUT:
        raise InvalidDefinition(
            f"{name}={timeout!r} is out of range; give more than zero and at most "
            f"{MAX_TIMEOUT.days} days, or None for no timeout."
        )
    return timeout


def check_slot_cost(slot_cost: object) -> int:
    """How many slots a task takes."""
    if isinstance(slot_cost, bool) or not isinstance(slot_cost, int):
        raise InvalidDefinition(f"slot_cost={slot_cost!r} is not a whole number.")
    if not 1 <= slot_cost <= MAX_SLOT_COST:
        raise InvalidDefinition(
            f"slot_cost={slot_cost} is out of range; give 1 to {MAX_SLOT_COST:,}."
        )
    return slot_cost


def check_flag(name: str, flag: object) -> bool:
    """True or False."""
    if not isinstance(flag, bool):
        raise InvalidDefinition(f"{name}={flag!r} should be True or False.")
    return flag


def check_metadata(
    metadata: object, refusal: Refusal = InvalidDefinition
) -> dict[str, Any]:
    """Metadata, whose values are checked when it is stored."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise refusal(f"metadata={metadata!r} is not a dictionary.")
    return dict(metadata)


def check_run_after(run_after: object, refusal: Refusal) -> datetime | None:
    """When a run may start: an aware datetime."""
    if run_after is None:
        return None
    if not isinstance(run_after, datetime):
        raise refusal(f"run_after={run_after!r} is not a datetime.")
    if timezone.is_naive(run_after):
        raise refusal(
            f"run_after={run_after!r} is naive; give an aware datetime, such as "
            "timezone.now() + timedelta(hours=1)."
        )
    return run_after


def check_tenant(tenant: object, refusal: Refusal) -> str:
    """A label of runs, or empty."""
    if tenant == "":
        return ""
    return check_name(tenant, "tenant", refusal)
