"""Shapes: ids that derive from names, a digest that means the same, and the graph."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import ids
from orchestrator.engine.shapes import Shape, queue_id, task_id
from orchestrator.exceptions import InvalidDefinition
from tests.engine.lab import task


def test_ids_derive_from_names_alone() -> None:
    shape = Shape.build("w", {"tasks": [task("a"), task("b", "a")]})
    assert shape.workflow_id == ids.definition_id("workflow", "w")
    assert shape.version_id == ids.definition_id("version", "w", shape.digest)
    assert [node.id for node in shape.tasks] == [task_id("w", "a"), task_id("w", "b")]
    assert shape.queue_id == queue_id("default")
    for node in shape.tasks:
        assert node.lane == ids.lane_of(node.id)
        assert 0 <= node.lane < 2**63


def test_one_name_in_two_workflows_is_two_tasks() -> None:
    one, two = (Shape.build(name, {"tasks": [task("a")]}) for name in ("w", "v"))
    assert one.tasks[0].id != two.tasks[0].id


@pytest.mark.parametrize(
    "change",
    [
        {"retries": {"attempts": 1}},
        {"execution_timeout": 1},
        {"queue_name": "slow"},
        {"isolated": True},
        {"name": "c"},
    ],
)
def test_each_change_of_a_task_is_another_digest(change: dict[str, object]) -> None:
    before = Shape.build("w", {"tasks": [task("a"), task("b")]})
    after = Shape.build("w", {"tasks": [task("a"), {**task("b"), **change}]})
    assert before.digest != after.digest
    assert before.version_id != after.version_id
    assert before.workflow_id == after.workflow_id


def test_the_order_of_keys_and_the_description_are_no_change() -> None:
    one = Shape.build("w", {"queue_name": "q", "tasks": [{"name": "a", "parents": []}]})
    two = Shape.build(
        "w",
        {
            "description": "Says hello.",
            "tasks": [{"parents": [], "name": "a"}],
            "queue_name": "q",
        },
    )
    assert one.digest == two.digest


def test_a_schedule_timeout_is_at_least_a_millisecond() -> None:
    def timeout(seconds: float | None) -> int | None:
        shape = Shape.build("w", {"tasks": [task("a", schedule_timeout=seconds)]})
        return shape.tasks[0].schedule_timeout_ms

    assert timeout(None) is None
    assert timeout(0.00001) == 1
    assert timeout(1.2345) == 1234
    assert timeout(60) == 60_000


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "has no tasks"),
        ([task("a"), task("a")], 'two tasks named "a"'),
        ([task("a", "z")], 'parent "z", which is not a task'),
        ([task("a", "a")], "wait for each other: a → a"),
        ([task("a", "b"), task("b", "a")], "wait for each other"),
        ([task("a", "c"), task("b", "a"), task("c", "b")], "wait for each other"),
    ],
)
def test_a_bad_graph_is_refused_by_name(
    tasks: list[dict[str, object]], message: str
) -> None:
    with pytest.raises(InvalidDefinition, match=message) as caught:
        Shape.build("w", {"tasks": tasks})
    assert '"w"' in str(caught.value)


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[int, ...]]:
    """Parents of each node, all of them before it."""
    size = draw(st.integers(1, 12))
    return [
        tuple(sorted(draw(st.sets(st.integers(0, n - 1))) if n else ()))
        for n in range(size)
    ]


@given(graphs())
def test_children_and_descendants_are_the_graph_turned_round(
    parents: list[tuple[int, ...]],
) -> None:
    shape = Shape.build(
        "w",
        {
            "tasks": [
                task(f"t{n}", *[f"t{p}" for p in ps]) for n, ps in enumerate(parents)
            ]
        },
    )
    assert [node.parents for node in shape.tasks] == parents
    for ordinal in range(len(parents)):
        children = {n for n, ps in enumerate(parents) if ordinal in ps}
        assert set(shape.children[ordinal]) == children
        reached = set(children)
        for child in children:
            reached |= set(shape.descendants[child])
        assert set(shape.descendants[ordinal]) == reached
        assert ordinal not in reached


def test_a_deep_chain_is_no_recursion() -> None:
    size = 3_000
    shape = Shape.build(
        "w",
        {"tasks": [task(f"t{n}", *[f"t{n - 1}"] if n else []) for n in range(size)]},
    )
    assert len(shape.descendants[0]) == size - 1
    assert shape.descendants[-1] == ()
