"""The `ORCHESTRATOR` setting: one dictionary, typed and checked.

    ORCHESTRATOR = {"DATABASE": "default", "HEARTBEAT": timedelta(seconds=5)}

Keys are the upper-case names of the fields below. `settings` reads the dictionary at
its first use and again after `setting_changed`, so `override_settings` works.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from orchestrator.exceptions import SettingsError


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting and its default. Durations are timedeltas, sizes are bytes."""

    # The alias in DATABASES that holds everything, and the one to LISTEN on where
    # that is another (behind a transaction pooler); None is the same.
    database: str = "default"
    listen_database: str | None = None
    listen: bool = True
    prepared_statements: bool = True

    # History is partitioned by "month" or "day", made ahead by so many; "none" is
    # for tests.
    partition_by: str = "month"
    partitions_ahead: int = 3

    # Workers.
    heartbeat: timedelta = timedelta(seconds=5)
    lost_after: timedelta = timedelta(seconds=30)
    grace: timedelta = timedelta(seconds=25)
    lost_budget: int = 3
    poll_interval: timedelta = timedelta(milliseconds=500)
    child_stall: timedelta = timedelta(minutes=5)

    # The dotted path of a context manager around the life of each process that executes
    # tasks; what it gives is `ctx.lifespan`.
    lifespan: str | None = None

    # What a task gets that sets no timeout of its own; None is unlimited.
    execution_timeout: timedelta | None = None
    schedule_timeout: timedelta | None = None

    # What may be stored, encoded as UTF-8.
    max_input_bytes: int = 1024 * 1024
    max_output_bytes: int = 1024 * 1024
    max_metadata_bytes: int = 64 * 1024
    max_error_bytes: int = 64 * 1024
    max_nesting: int = 64
    max_number_digits: int = 40


PARTITION_CHOICES = ("month", "day", "none")

_POSITIVE_DURATIONS = (
    "heartbeat",
    "lost_after",
    "poll_interval",
    "child_stall",
    "execution_timeout",
    "schedule_timeout",
)
_POSITIVE_INTEGERS = (
    "max_input_bytes",
    "max_output_bytes",
    "max_metadata_bytes",
    "max_error_bytes",
    "max_nesting",
    "max_number_digits",
)
_KINDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "str": (lambda value: isinstance(value, str), "a string"),
    "str | None": (lambda value: value is None or isinstance(value, str), "a string"),
    "bool": (lambda value: isinstance(value, bool), "True or False"),
    "int": (
        lambda value: isinstance(value, int) and not isinstance(value, bool),
        "a whole number",
    ),
    "timedelta": (lambda value: isinstance(value, timedelta), "a timedelta"),
    "timedelta | None": (
        lambda value: value is None or isinstance(value, timedelta),
        "a timedelta or None",
    ),
}


def problems(options: object) -> list[str]:
    """What is wrong with an ORCHESTRATOR dictionary, one sentence each."""
    if not isinstance(options, Mapping):
        return [f"ORCHESTRATOR is {options!r}; make it a dictionary."]
    kinds = {field.name.upper(): str(field.type) for field in fields(Settings)}
    found = []
    for key, value in options.items():
        if key not in kinds:
            found.append(f"ORCHESTRATOR[{key!r}] is unknown; {_suggestion(key, kinds)}")
            continue
        fits, wanted = _KINDS[kinds[key]]
        if not fits(value):
            found.append(f"ORCHESTRATOR[{key!r}] is {value!r}; make it {wanted}.")
    return found or _range_problems(options)


def load() -> Settings:
    """The settings as Django has them now.

    Raises SettingsError with everything that is wrong, unknown keys with a suggestion.
    """
    options = getattr(django_settings, "ORCHESTRATOR", {})
    found = problems(options)
    if found:
        raise SettingsError(" ".join(found))
    return Settings(**{key.lower(): value for key, value in options.items()})


def _suggestion(key: object, known: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(str(key).upper(), known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"remove it, or use one of {', '.join(known)}."


def _range_problems(options: Mapping[str, Any]) -> list[str]:
    values = Settings(**{key.lower(): value for key, value in options.items()})
    found = []
    if values.partition_by not in PARTITION_CHOICES:
        found.append(
            f"ORCHESTRATOR['PARTITION_BY'] is {values.partition_by!r}; "
            f"use one of {', '.join(map(repr, PARTITION_CHOICES))}."
        )
    for name in _POSITIVE_DURATIONS:
        value = getattr(values, name)
        if value is not None and value <= timedelta(0):
            found.append(f"ORCHESTRATOR[{name.upper()!r}] must be more than zero.")
    for name in _POSITIVE_INTEGERS:
        if getattr(values, name) <= 0:
            found.append(f"ORCHESTRATOR[{name.upper()!r}] must be more than zero.")
    for name in ("lost_budget", "partitions_ahead"):
        if getattr(values, name) < 0:
            found.append(f"ORCHESTRATOR[{name.upper()!r}] must not be negative.")
    if values.grace < timedelta(0):
        found.append("ORCHESTRATOR['GRACE'] must not be negative.")
    if values.lost_after < 2 * values.heartbeat:
        found.append(
            "ORCHESTRATOR['LOST_AFTER'] must be at least twice HEARTBEAT, "
            "or one late heartbeat loses a worker."
        )
    return found


class _LazySettings:
    """The loaded settings, read at first use; attributes are then plain ones."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        loaded = load()
        self.__dict__.update(
            {field.name: getattr(loaded, field.name) for field in fields(loaded)}
        )
        return getattr(loaded, name)


if TYPE_CHECKING:
    settings: Settings
else:
    settings = _LazySettings()


def _reset(*, setting: str, **_: Any) -> None:
    if setting == "ORCHESTRATOR":
        vars(settings).clear()


setting_changed.connect(_reset, dispatch_uid="orchestrator.conf")
