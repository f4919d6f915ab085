"""The page of a run: what it says, what it costs, and what nobody would tell."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from orchestrator import ids, operations, registry
from orchestrator.engine import sessions, workers
from orchestrator.models import Queue, TaskRun, Worker, Workflow
from orchestrator.operations import RunFilter
from orchestrator.testing import drain
from orchestrator_ui.views import page
from tests.ui.app import workflows

pytestmark = pytest.mark.django_db


def url(run_id: Any) -> str:
    return reverse("admin:orchestrator_run_change", args=(run_id,))


def html(client: Client, run_id: Any) -> str:
    response = client.get(url(run_id))
    assert response.status_code == 200
    return response.content.decode()


def worker(
    tasks: list[int] | None = None, queues: tuple[str, ...] = (), **fields: Any
) -> Worker:
    key = ids.uuid7()
    if tasks is None:
        tasks = [task.id for shape in registry.shapes() for task in shape.tasks]
    workers.register_worker(
        sessions.django_session(),
        key,
        name="worker-1",
        hostname="host",
        pid=7,
        queues=queues,
        labels={"region": "eu"},
        tasks=tasks,
        slots=4,
        processes=1,
    )
    Worker.objects.filter(pk=key).update(**fields)
    return Worker.objects.get(pk=key)


def test_it_shows_tasks_in_order_with_states_attempts_and_errors(
    admin: Client,
) -> None:
    run = workflows.pipeline.using(
        priority=7, tenant="acme", metadata={"user": "7"}
    ).enqueue({"fail": "It broke."})
    drain()
    text = html(admin, run.id)
    places = [text.index(f'id="task-{ordinal}"') for ordinal in range(5)]
    assert places == sorted(places)
    for word in ("Completed", "Backing off", "Pending", "waits for 1 parent"):
        assert word in text
    assert "ValueError" in text
    assert "Traceback (most recent call last)" in text
    assert "acme" in text
    assert "&quot;user&quot;: &quot;7&quot;" in text
    for ordinal in range(5):
        assert f'href="#task-{ordinal}"' in text


def test_a_single_task_has_no_graph(admin: Client) -> None:
    run = workflows.echo.enqueue()
    assert '<svg class="orch-svg"' not in html(admin, run.id)


def test_outputs_and_input_are_printed(admin: Client) -> None:
    run = workflows.pipeline.enqueue({"shelf": "docs", "n": 1.000000000000000000001})
    drain()
    text = html(admin, run.id)
    assert "&quot;documents&quot;: 4" in text
    assert "&quot;shelf&quot;: &quot;docs&quot;" in text


def test_a_long_payload_is_cut_and_can_be_downloaded(admin: Client) -> None:
    run = workflows.echo.enqueue("x" * 200_000)
    drain()
    text = html(admin, run.id)
    assert len(text) < 200_000
    assert "Download the whole" in text
    whole = admin.get(reverse("admin:orchestrator_run_payload", args=(run.id, "input")))
    assert len(whole.content) > 200_000


def test_what_operators_did_is_listed(admin: Client, make_user: Any) -> None:
    run = workflows.fail.enqueue()
    drain()
    operations.retry_runs(
        RunFilter(ids=[run.id]),
        reason="once more",
        actor=make_user(name="ada", is_superuser=True),
    )
    text = html(admin, run.id)
    assert "once more" in text
    assert "ada" in text


def test_it_takes_as_many_queries_whatever_happened(admin: Client) -> None:
    counts = set()
    for given in ({}, {"fail": "It broke."}, {"fail": "x"}):
        run = workflows.pipeline.enqueue(given)
        drain()
        html(admin, run.id)
        with CaptureQueriesContext(connection) as captured:
            html(admin, run.id)
        counts.add(len(captured))
    assert max(counts) <= 26
    assert max(counts) - min(counts) <= 4  # workers, tracebacks, waits, progress


def test_only_the_latest_attempts_are_listed(admin: Client) -> None:
    run = workflows.fail.enqueue()
    for _ in range(page.MAX_ATTEMPTS + 3):
        drain()
        operations.retry_runs(RunFilter(ids=[run.id]))
    text = html(admin, run.id)
    assert text.count('<ol class="orch-attempts">') == 1
    assert "3 earlier attempts" in text
    assert f"#{page.MAX_ATTEMPTS + 3}</a>" in text
    assert "#1</a>" not in text


def test_a_run_that_is_not_there_leads_to_the_list(admin: Client) -> None:
    for key in (ids.uuid7(), "not-a-uuid"):
        response = admin.get(f"/admin/orchestrator/run/{key}/change/")
        assert response.status_code == 302


# Why nothing happens.


def test_it_says_that_no_worker_is_alive(admin: Client) -> None:
    run = workflows.echo.enqueue()
    assert "No worker is alive" in html(admin, run.id)
    worker(stopped_at=timezone.now(), status="STOPPED")
    worker(heartbeat_at=timezone.now() - timedelta(hours=1))
    worker(status="DRAINING")
    assert "No worker is alive" in html(admin, run.id)
    worker()
    assert "orch-notice" not in html(admin, run.id)


def test_it_says_that_no_live_worker_knows_the_task(admin: Client) -> None:
    run = workflows.echo.enqueue()
    worker(tasks=[])
    assert "No live worker knows the task “ui-echo”" in html(admin, run.id)


def test_it_says_that_nobody_serves_the_queue(admin: Client) -> None:
    run = workflows.echo.using(queue_name="reports").enqueue()
    worker(queues=("default",))
    text = html(admin, run.id)
    assert "No live worker that knows the task “ui-echo” serves the queue" in text
    worker(queues=("reports",))
    assert "orch-notice" not in html(admin, run.id)


def test_it_says_that_all_who_could_are_paused(admin: Client) -> None:
    run = workflows.echo.enqueue()
    worker(status="PAUSED")
    assert "is paused" in html(admin, run.id)


def test_the_queue_names_the_tasks_that_nobody_takes(admin: Client) -> None:
    drain()
    workflows.echo.enqueue()
    worker(tasks=[])
    key = Queue.objects.get(name="default").pk
    response = admin.get(reverse("admin:orchestrator_queue_change", args=(key,)))
    text = response.content.decode()
    assert "No live worker knows the task “ui-echo”" in text
    assert "ui-fail" not in text


# Workers and queues.


def test_workers_show_what_they_hold_and_which_are_lost(admin: Client) -> None:
    worker(name="fine")
    worker(name="quiet", heartbeat_at=timezone.now() - timedelta(hours=1))
    worker(name="gone", status="LOST", stopped_at=timezone.now())
    listing = reverse("admin:orchestrator_worker_changelist")
    text = admin.get(listing).content.decode()
    assert "Active" in text
    assert "Silent" in text
    assert "0 of 4" in text
    assert "region: eu" in text
    assert "gone" not in text
    assert "gone" in admin.get(f"{listing}?status=LOST").content.decode()


def test_queues_show_depth_delayed_and_oldest(admin: Client) -> None:
    drain()
    for _ in range(3):
        workflows.echo.enqueue()
    workflows.echo.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    response = admin.get(reverse("admin:orchestrator_queue_changelist"))
    queues = {queue.name: queue for queue in response.context["cl"].result_list}
    depth = queues["default"].depth
    assert (depth.ready, depth.delayed, depth.running) == (3, 1, 0)
    assert timezone.now() - depth.oldest < timedelta(minutes=1)


def test_counts_of_queues_stop_at_a_cap(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator_ui.views.queues.CAP", 2)
    drain()
    for _ in range(5):
        workflows.echo.enqueue()
    response = admin.get(reverse("admin:orchestrator_queue_changelist"))
    assert "2+" in response.content.decode()


@pytest.mark.parametrize("model", ["workflow", "task", "workflowversion", "queue"])
def test_lists_of_definitions_take_as_many_queries_however_many(
    admin: Client, model: str
) -> None:
    drain()
    with CaptureQueriesContext(connection) as captured:
        admin.get(reverse(f"admin:orchestrator_{model}_changelist"))
    assert len(captured) <= 8


def test_a_workflow_shows_its_graph_and_options(
    admin: Client, sign_in: Callable[..., Client]
) -> None:
    drain()
    workflow = Workflow.objects.get(name="ui-pipeline")
    response = admin.get(
        reverse("admin:orchestrator_workflow_change", args=(workflow.pk,))
    )
    text = response.content.decode()
    assert "orch-svg" in text
    assert "discover, " not in text
    assert "Looks like real work." in text


def test_a_task_run_shows_its_attempts_and_output(admin: Client) -> None:
    run = workflows.echo.enqueue({"a": 1})
    drain()
    task_run = TaskRun.objects.get(run_id=run.id)
    text = admin.get(
        reverse("admin:orchestrator_taskrun_change", args=(task_run.pk,))
    ).content.decode()
    assert "&quot;a&quot;: 1" in text
    assert "#1</a>" in text
