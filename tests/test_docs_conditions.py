"""The pages about conditions and events do what they say."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from orchestrator import events
from orchestrator.models import Run
from orchestrator.testing import drain
from tests.test_docs import blocks, declare

__all__ = ["declare"]  # a fixture


@pytest.mark.django_db
def test_howto_conditions_holds(declare: Callable[[str, str], ModuleType]) -> None:
    page = blocks("docs/howto/conditions.md")
    module = vars(declare("shop.workflows", page[0]))
    for code in page[1:]:
        if code.startswith("task_run."):
            continue
        exec(code, module)
    handle = module["fulfil"].enqueue(module["Order"](7, 3))
    drain()
    run = Run.objects.get(pk=handle.id)
    [reason] = [t.status_reason for t in run.task_runs() if t.name == "restock"]
    assert f"# {reason}\n" in page[2]
    events.push("order:paid", {"number": 7})
    drain()
    assert handle.result()["thank"] == "with tea"
    tests = [name for name in module if name.startswith("test_")]
    assert len(tests) == 2
    for name in tests:
        module[name](None)


@pytest.mark.django_db
def test_howto_events_works() -> None:
    order = SimpleNamespace(mark_as_paid=lambda: None)
    names: dict[str, Any] = {"order": order, "skus": ["a", "b"]}
    for code in blocks("docs/howto/events.md"):
        exec(code, names)
    assert len(names["ids"]) == 2
