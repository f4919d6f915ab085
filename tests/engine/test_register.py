"""Register: definitions are written once, and a known digest never comes back."""

from __future__ import annotations

import pytest

from orchestrator.engine import register, versions
from orchestrator.engine.shapes import Shape, queue_id
from orchestrator.exceptions import InvalidDefinition
from tests.engine.lab import Lab, task
from tests.engine.pool import rolled_back
from tests.engine.races import Background, together, wait_until_blocked


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_known", {})


def build(workflow: str, *tasks: str, **options: object) -> Shape:
    nodes = [task(name) for name in tasks or ("only",)]
    return Shape.build(workflow, {"workflow": workflow, "tasks": nodes, **options})


def current(lab: Lab, shape: Shape) -> int | None:
    value = lab.value(
        "SELECT current_version_id FROM orchestrator_workflow WHERE id = %s",
        shape.workflow_id,
    )
    return None if value is None else int(value)


def test_everything_of_a_workflow_is_written(lab: Lab) -> None:
    shape = Shape.build(
        "w",
        {
            "workflow": "w",
            "description": "Says hello.",
            "queue_name": "main",
            "tasks": [task("a"), task("b", "a", queue_name="slow")],
        },
    )
    assert register.register(lab.session, [shape]) == [shape]
    assert lab.rows(
        "SELECT name, description, queue_name, current_version_id"
        " FROM orchestrator_workflow WHERE id = %s",
        shape.workflow_id,
    ) == [("w", "Says hello.", "main", shape.version_id)]
    assert lab.rows(
        "SELECT id, number, digest FROM orchestrator_workflow_version"
        " WHERE workflow_id = %s",
        shape.workflow_id,
    ) == [(shape.version_id, 1, shape.digest)]
    assert lab.rows(
        "SELECT id, name, lane FROM orchestrator_task WHERE workflow_id = %s"
        " ORDER BY name",
        shape.workflow_id,
    ) == [(node.id, node.name, node.lane) for node in shape.tasks]
    queues = dict(lab.rows("SELECT id, name FROM orchestrator_queue"))
    assert queues[queue_id("main")] == "main"
    assert queues[queue_id("slow")] == "slow"


def test_nothing_at_all_is_fine(lab: Lab) -> None:
    assert register.register(lab.session, []) == []


def test_the_same_again_changes_nothing(lab: Lab) -> None:
    shape = build("w", "a", "b")
    register.register(lab.session, [shape])
    before = lab.rows("SELECT w::text, xmin FROM orchestrator_workflow w")
    assert register.register(lab.session, [shape]) == []
    assert lab.rows("SELECT w::text, xmin FROM orchestrator_workflow w") == before


def test_a_new_digest_becomes_current_and_has_the_next_number(lab: Lab) -> None:
    first, second, third = (build("w", *"abc"[: n + 1]) for n in range(3))
    for number, shape in enumerate([first, second, third], 1):
        assert register.register(lab.session, [shape]) == [shape]
        assert current(lab, shape) == shape.version_id
        assert number == lab.value(
            "SELECT number FROM orchestrator_workflow_version WHERE id = %s",
            shape.version_id,
        )


def test_a_known_digest_never_becomes_current_again_by_itself(lab: Lab) -> None:
    """Two releases that start by turns do not flip-flop."""
    old, new = build("w", "a"), build("w", "b")
    register.register(lab.session, [old])
    register.register(lab.session, [new])
    for _ in range(3):
        assert register.register(lab.session, [old]) == []
        assert current(lab, old) == new.version_id
        assert register.register(lab.session, [new]) == []


def test_a_task_that_a_version_drops_stays_known(lab: Lab) -> None:
    register.register(lab.session, [build("w", "a", "b")])
    register.register(lab.session, [build("w", "b", "c")])
    names = lab.rows(
        "SELECT name FROM orchestrator_task WHERE workflow_id = %s ORDER BY name",
        build("w").workflow_id,
    )
    assert names == [("a",), ("b",), ("c",)]


def test_a_description_is_no_new_version_but_is_written(lab: Lab) -> None:
    register.register(lab.session, [build("w", description="Old.")])
    shape = build("w", description="New.")
    assert register.register(lab.session, [shape]) == []
    assert (
        lab.value(
            "SELECT description FROM orchestrator_workflow WHERE id = %s",
            shape.workflow_id,
        )
        == "New."
    )


def test_many_are_registered_in_one_call(lab: Lab) -> None:
    shapes = [build(f"w{n}", *[f"t{m}" for m in range(n % 4 + 1)]) for n in range(60)]
    made = register.register(lab.session, shapes)
    assert {shape.version_id for shape in made} == {s.version_id for s in shapes}
    assert register.register(lab.session, shapes[::-1]) == []


def test_it_joins_the_callers_transaction(lab: Lab) -> None:
    shape = build("w")
    with rolled_back(lab.session.transaction()):
        register.register(lab.session, [shape])
    assert (
        lab.rows("SELECT FROM orchestrator_workflow WHERE id = %s", shape.workflow_id)
        == []
    )
    assert register.register(lab.session, [shape]) == [shape]


# Two processes that start at once.


@pytest.mark.parametrize("same", [True, False])
def test_two_sessions_register_at_once(lab: Lab, same: bool) -> None:
    other = lab.hand()
    for round_number in range(25):
        name = f"w{round_number}-{same}"
        shapes = [build(f"{name}-{n}", "a") for n in range(5)]
        theirs = shapes if same else [build(f"{name}-{n}", "a", "b") for n in range(5)]
        ours_new, theirs_new = together(
            lambda shapes=shapes: register.register(lab.session, shapes),  # type: ignore[misc]
            lambda theirs=theirs: register.register(other.session, theirs[::-1]),  # type: ignore[misc]
        )
        new = [s.version_id for s in ours_new] + [s.version_id for s in theirs_new]
        assert len(new) == len(set(new)) == (5 if same else 10)
        for shape in shapes:
            numbers = lab.rows(
                "SELECT number FROM orchestrator_workflow_version"
                " WHERE workflow_id = %s ORDER BY number",
                shape.workflow_id,
            )
            assert numbers == ([(1,)] if same else [(1,), (2,)])
            assert current(lab, shape) in new


def test_a_second_session_waits_for_the_first_and_then_finds_all_known(
    lab: Lab,
) -> None:
    shape = build("w", "a", "b")
    other = lab.hand()
    with lab.session.transaction():
        assert register.register(lab.session, [shape]) == [shape]
        waiting = Background(lambda: register.register(other.session, [shape]))
        wait_until_blocked(lab.connect(), other.connection)
    assert waiting.result() == []


# Names whose ids collide.


@pytest.mark.parametrize("kind", ["queue", "workflow", "task"])
def test_a_collision_of_ids_is_refused_and_nothing_is_written(
    lab: Lab, kind: str
) -> None:
    shape = build("w", "a", queue_name="q")
    node = shape.tasks[0]
    connection = lab.main.connection
    if kind == "queue":
        connection.execute(
            "INSERT INTO orchestrator_queue VALUES (%s, 'theirs', now())",
            [shape.queue_id],
        )
    else:
        other = build("other", "x")
        register.register(lab.session, [other])
        if kind == "workflow":
            connection.execute(
                "INSERT INTO orchestrator_workflow (id, name, description, queue_name,"
                " created_at) VALUES (%s, 'theirs', 'kept', '', now())",
                [shape.workflow_id],
            )
        else:
            connection.execute(
                "UPDATE orchestrator_task SET name = 'theirs', lane = %s WHERE id = %s",
                [node.lane, other.tasks[0].id],
            )
    with pytest.raises(InvalidDefinition, match=f"The {kind} names .* same id"):
        register.register(lab.session, [shape])
    assert (
        lab.rows(
            "SELECT FROM orchestrator_workflow_version WHERE id = %s", shape.version_id
        )
        == []
    )
    assert versions.shape(lab.session, shape.version_id) is None


# Versions.


def test_a_shape_is_read_back_as_it_was_written(lab: Lab) -> None:
    shape = Shape.build(
        "w",
        {
            "workflow": "w",
            "standalone": False,
            "queue_name": "main",
            "tasks": [
                task("ä", execution_timeout=1.5, isolated=True, slot_cost=2),
                task("b", "ä", schedule_timeout=0.25, retries={"attempts": 3}),
            ],
        },
    )
    register.register(lab.session, [shape])
    versions._known.clear()
    read = versions.shape(lab.session, shape.version_id)
    assert read is not None
    assert read.tasks == shape.tasks
    assert (read.digest, read.version_id) == (shape.digest, shape.version_id)
    assert (read.children, read.descendants) == (shape.children, shape.descendants)
    assert read.queue_name == "main"


def test_a_version_is_read_once_a_process(lab: Lab) -> None:
    shape = build("w")
    register.register(lab.session, [shape])
    versions._known.clear()
    assert versions.shape(lab.session, shape.version_id) is versions.shape(
        lab.session, shape.version_id
    )


def test_an_unknown_version_is_none_and_is_asked_for_again(lab: Lab) -> None:
    shape = build("w")
    assert versions.shape(lab.session, shape.version_id) is None
    other = lab.hand()
    register.register(other.session, [shape])
    versions._known.clear()
    assert versions.shape(lab.session, shape.version_id) is not None
