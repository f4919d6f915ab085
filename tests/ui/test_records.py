"""What a run's page shows of trees, waits, journals, logs, progress and streams."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from orchestrator import (
    Context,
    DurableContext,
    EventCondition,
    SleepCondition,
    ids,
    workflow,
)
from orchestrator.models import LogLine, Progress, Run, StreamChunk
from orchestrator.testing import drain
from orchestrator_ui.views import page, records
from tests.ui.app import workflows
from tests.ui.test_escaping import EVIL
from tests.ui.test_operate import LIST, child_of

pytestmark = [pytest.mark.usefixtures("own_definitions"), pytest.mark.django_db]


def html(client: Client, run_id: UUID) -> str:
    url = reverse("admin:orchestrator_run_change", args=(run_id,))
    return client.get(url).content.decode()


def log_line(run_id: UUID, number: int, message: str, **more: Any) -> None:
    task_run = ids.task_run_id(run_id, 0)
    LogLine.objects.create(
        **{
            "id": ids.log_line_id(task_run, 1, number),
            "task_run_id": task_run,
            "attempt": 1,
            "number": number,
            "level": "INFO",
            "message": message,
            "created_at": timezone.now(),
            **more,
        }
    )


def test_parent_and_children_are_linked_and_counted(admin: Client) -> None:
    run = workflows.echo.enqueue()
    children = [child_of(run.id)]
    parent = html(admin, run.id)
    assert "Spawned runs" in parent
    assert reverse("admin:orchestrator_run_change", args=(children[0],)) in parent
    child = html(admin, children[0])
    assert "Spawned by" in child
    assert reverse("admin:orchestrator_run_change", args=(run.id,)) in child
    listed = admin.get(f"{LIST}?parent={run.id}").context["cl"].result_list
    assert [row.pk for row in listed] == children
    assert "Spawned" not in html(admin, workflows.echo.enqueue().id)
    assert admin.get(f"{LIST}?parent=x").status_code == 302


def test_conditions_are_said_and_what_is_waited_for(admin: Client) -> None:
    made = workflow("ui-conditions", input=dict)

    @made.task(
        wait_for=EventCondition("order:paid", "payload.sum > 3", scope="eu")
        | SleepCondition(timedelta(days=3)),
        skip_if=EventCondition("order:gone"),
    )
    def ship(ctx: Context[dict[str, Any]]) -> None: ...

    @made.on_failure
    def sorry(ctx: Context[dict[str, Any]]) -> None: ...

    run = made.enqueue({})
    drain()
    text = html(admin, run.id)
    assert "order:paid" in text
    assert "payload.sum &gt; 3" in text
    assert "skipped if" in text
    assert "(skips it)" in text
    assert "orch-apart" in text
    assert "on failure" in text
    assert page.fragments(run.id)["task-0"]


def test_a_journal_shows_what_was_asked_and_its_result_to_some(
    admin: Client, sign_in: Callable[..., Client]
) -> None:
    made = workflow("ui-durable", input=dict)

    @made.durable_task
    def work(ctx: DurableContext[dict[str, Any]]) -> None:
        ctx.step(lambda: "a secret", name="reserve")
        ctx.wait_for_event("delivered")

    run = made.enqueue({})
    drain()
    assert Run.objects.get(pk=run.id).status == "RUNNING"
    text = html(admin, run.id)
    for words in ("Journal", "step reserve", "a secret", "delivered", "Waiting"):
        assert words in text
    other = sign_in("view_run")
    text = html(other, run.id)
    assert "step reserve" in text
    assert "a secret" not in text
    url = reverse("admin:orchestrator_run_outputs", args=(run.id,))
    assert "a secret" not in other.get(url).content.decode()
    assert "a secret" in admin.get(url).content.decode()
    assert "a secret" not in "".join(page.fragments(run.id).values())


def test_logs_progress_and_chunks_are_shown_escaped(
    admin: Client, sign_in: Callable[..., Client]
) -> None:
    run = workflows.echo.enqueue()
    task_run = ids.task_run_id(run.id, 0)
    log_line(run.id, 1, EVIL, fields={"card": "a secret"})
    Progress.objects.create(
        task_run_id=task_run,
        run_id=run.id,
        done=3,
        total=8,
        message=EVIL[:500],
        updated_at=timezone.now(),
    )
    StreamChunk.objects.create(
        id=ids.stream_chunk_id(task_run, 1, 1),
        run_id=run.id,
        task_run_id=task_run,
        attempt=1,
        number=1,
        data="chunk secret",
        created_at=timezone.now(),
    )
    text = html(admin, run.id)
    assert EVIL not in text
    assert 'max="8.0" value="3.0"' in text
    assert "a secret" in text
    assert "chunk secret" in text
    hidden = html(sign_in("view_run"), run.id)
    assert "secret" not in hidden
    assert "Log" in hidden


def test_a_log_is_paged(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_LINES", 2)
    run = workflows.echo.enqueue()
    drain(limit=0)
    for number in range(1, 6):
        log_line(run.id, number, f"line {number}")
    url = reverse("admin:orchestrator_taskrun_log", args=(ids.task_run_id(run.id, 0),))
    seen = []
    for query in ("", "?before=1.4", "?before=1.2"):
        text = admin.get(url + query).content.decode()
        seen.append([n for n in range(1, 6) if f"line {n}<" in text])
    assert seen == [[4, 5], [2, 3], [1]]
    assert "?before=1.4" in admin.get(url).content.decode()
    for query in ("?before=x", "?before=1", "?before=99999999999.1"):
        assert admin.get(url + query).status_code == 404


def test_the_signal_differs_once_there_is_more_to_read() -> None:
    run = workflows.echo.enqueue()
    before = page.fragments(run.id)["run-outputs_signal"]
    log_line(run.id, 1, "more")
    assert page.fragments(run.id)["run-outputs_signal"] != before
