from __future__ import annotations

import sys
from types import ModuleType

import pytest

from orchestrator import InvalidDefinition, registry, task, workflow
from orchestrator.exceptions import UnknownWorkflow


def test_the_sample_and_the_tests_were_discovered() -> None:
    names = registry.workflows()
    assert "index-distribution" in names
    assert "noop" in names
    shapes = {shape.workflow for shape in registry.shapes()}
    assert shapes == set(names)


def test_tasks_are_found_by_their_id() -> None:
    for definition in registry.workflows().values():
        for node in definition.shape.tasks:
            assert registry.task(node.id) is definition.tasks[node.name]
    assert registry.task(7) is None


def test_a_task_declared_later_is_found() -> None:
    with registry.isolated():
        registry.task(7)

        @task
        def later() -> None: ...

        node = later.definition.shape.tasks[0]
        assert registry.task(node.id) is later.definition.tasks["later"]
        wf = workflow("w")
        wf.task(name="a")(lambda ctx: None)
        registry.task(7)
        second = wf.task(name="b")(lambda ctx: None)
        assert registry.task(wf.shape.tasks[1].id) is second


def test_isolated_undoes_what_the_block_declares() -> None:
    before = registry.workflows()
    with registry.isolated():

        @task
        def inside() -> None: ...

        assert "inside" in registry.workflows()
    assert registry.workflows() == before


def test_an_unknown_workflow_is_named() -> None:
    with pytest.raises(UnknownWorkflow, match="'nothing' is declared"):
        registry.workflow("nothing")


def test_the_message_about_two_of_one_name_has_both_modules() -> None:
    other = ModuleType("shop.workflows")
    sys.modules["shop.workflows"] = other
    code = "from orchestrator import workflow\nworkflow('same')"
    try:
        with registry.isolated():
            exec(code, other.__dict__)
            with pytest.raises(
                InvalidDefinition, match=f"one in shop.workflows, one in {__name__}"
            ):
                workflow("same")
    finally:
        del sys.modules["shop.workflows"]
