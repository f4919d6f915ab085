from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from orchestrator import exceptions
from orchestrator.exceptions import (
    OrchestratorError,
    RunFailed,
    RunNotFound,
    SettingsError,
    Suspend,
    TaskCancelled,
    TaskFailed,
)


def test_the_first_line_of_the_docstring_is_the_default_message() -> None:
    assert str(RunNotFound()).startswith("There is no such run")
    assert "\n" not in str(exceptions.WaitingInTransaction())
    assert str(RunNotFound("another")) == "another"


@pytest.mark.parametrize("name", [n for n in vars(exceptions) if n[0].isupper()])
def test_every_error_has_one_root_and_a_docstring(name: Any) -> None:
    kind = getattr(exceptions, name)
    if kind.__module__ == exceptions.__name__:
        assert kind.__doc__
        # These two pass through `except Exception` of a task on their way.
        assert issubclass(kind, OrchestratorError) or kind in (TaskCancelled, Suspend)


def test_control_flow_passes_except_exception() -> None:
    assert not issubclass(TaskCancelled, Exception)


def test_a_settings_error_is_improperly_configured() -> None:
    assert issubclass(SettingsError, ImproperlyConfigured)


def test_run_failed_is_a_group_of_the_tasks_errors() -> None:
    first = TaskFailed("charge", "ValueError", "no money", "Traceback …")
    second = TaskFailed("ship", "shop.Broken", "no ship")
    failed = RunFailed("Task charge failed.", [first, second])
    assert failed.exceptions == (first, second)
    assert failed.errors == {"charge": first, "ship": second}
    assert str(first) == "charge: ValueError: no money"
    matched, rest = failed.split(lambda error: error is first)
    assert isinstance(matched, RunFailed)
    assert isinstance(rest, RunFailed)
    with pytest.raises(OrchestratorError):
        raise failed


def test_task_failed_is_made_of_what_is_stored() -> None:
    stored = TaskFailed.of("a", {"type": "E", "message": "m", "traceback": "t"})
    assert (stored.error_type, stored.message, stored.traceback) == ("E", "m", "t")
    assert TaskFailed.of("a", None, "why").message == "why"
