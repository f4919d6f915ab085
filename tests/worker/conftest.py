"""Claims made by hand, so that slots can be tested without a database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator import ids, registry
from orchestrator.engine.claim import Claim
from orchestrator.worker import execute
from orchestrator.worker.board import Board
from orchestrator.worker.execute import Work
from orchestrator.worker.mailbox import Mailbox

MakeWork = Callable[..., Work]


@pytest.fixture
def make_work() -> MakeWork:
    """Work for a standalone task, as a claim of it would be."""

    def make(task: Any, *args: Any, **claimed: Any) -> Work:
        shape = task.definition.shape
        node = shape.tasks[0]
        definition = registry.task(node.id)
        run_id = ids.uuid7()
        fields: dict[str, Any] = {
            "task_run_id": ids.task_run_id(run_id, 0),
            "run_id": run_id,
            "task_id": node.id,
            "queue_id": node.queue_id,
            "attempt": 1,
            "failures": 0,
            "losses": 0,
            "version_id": shape.version_id,
            "priority": 0,
            "tenant": "",
            "metadata": "{}",
            "input": json.dumps({"args": args, "kwargs": {}}),
        }
        return execute.start(Claim(**{**fields, **claimed}), definition, shape, {})

    return make


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def board() -> Iterator[Board]:
    board, file = Board.create(16)
    yield board
    file.close()  # the memory stays: slots of an ended test may still write to it
