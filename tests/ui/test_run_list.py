"""The list of runs: pages by key, filters, and what a page costs."""

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

from orchestrator import ids, registry
from orchestrator.engine import register, sessions, shapes
from orchestrator.models import Run
from orchestrator.states import RunStatus
from orchestrator.testing import drain
from orchestrator_ui.views.cursor import Cursor
from tests.ui.app import workflows

pytestmark = pytest.mark.django_db

LIST = "/admin/orchestrator/run/"


def shown(client: Client, url: str = LIST) -> list[Any]:
    response = client.get(url)
    assert response.status_code == 200
    return [run.pk for run in response.context["cl"].result_list]


def walk(client: Client, direction: str, url: str = LIST) -> list[list[Any]]:
    """The pages from an address on, by the links that they show."""
    pages = []
    while True:
        response = client.get(url)
        cl = response.context["cl"]
        pages.append([run.pk for run in cl.result_list])
        link = getattr(cl, direction)
        if not link:
            return pages
        assert link.replace("&", "&amp;") in response.content.decode()
        url = LIST + link


# Pages.


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 100, 130])
def test_older_pages_show_each_run_once_newest_first(admin: Client, count: int) -> None:
    workflows.echo.enqueue_many(workflows.echo.bind(n) for n in range(count))
    pages = walk(admin, "older")
    seen = [pk for page in pages for pk in page]
    assert seen == list(Run.objects.order_by("-pk").values_list("pk", flat=True))
    assert all(len(page) == 50 for page in pages[:-1])


def test_newer_pages_lead_back_to_the_first(admin: Client) -> None:
    workflows.echo.enqueue_many(workflows.echo.bind(n) for n in range(130))
    oldest = Run.objects.order_by("pk").first()
    assert oldest
    cursor = Cursor("newer", oldest.pk).dumps()
    pages = walk(admin, "newer", f"{LIST}?c={cursor}")
    assert [len(page) for page in pages] == [50, 50, 29]
    assert pages[-1][0] == Run.objects.order_by("-pk").values_list("pk", flat=True)[0]


def test_a_page_stays_where_it_is_when_runs_arrive(admin: Client) -> None:
    workflows.echo.enqueue_many(workflows.echo.bind(n) for n in range(60))
    second = admin.get(LIST).context["cl"].older
    before = shown(admin, LIST + second)
    workflows.echo.enqueue_many(workflows.echo.bind(n) for n in range(10))
    assert shown(admin, LIST + second) == before


def test_a_filter_that_changes_begins_at_its_first_page(admin: Client) -> None:
    workflows.echo.enqueue_many(workflows.echo.bind(n) for n in range(60))
    second = admin.get(LIST).context["cl"].older
    html = admin.get(LIST + second).content.decode()
    assert 'href="?status=FAILED"' in html


@pytest.mark.parametrize("text", ["x", "a:b:c", "é"])
def test_a_cursor_that_was_not_signed_is_refused(admin: Client, text: str) -> None:
    response = admin.get(LIST, {"c": text})
    assert response.status_code == 302
    assert response["Location"].endswith("?e=1")


def test_a_cursor_keeps_the_filters(admin: Client) -> None:
    workflows.echo.enqueue_many(workflows.echo.bind(n) for n in range(60))
    workflows.fail.enqueue_many(workflows.fail.bind() for _ in range(60))
    pages = walk(admin, "older", f"{LIST}?workflow=ui-echo")
    assert [len(page) for page in pages] == [50, 10]


# What it costs.


def queries(client: Client, url: str = LIST) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        client.get(url)
    return [query["sql"] for query in captured]


def test_a_page_takes_as_many_queries_however_many_rows(
    admin: Client, make_user: Callable[..., Any]
) -> None:
    counts = set()
    for size in (1, 10, 60):
        workflows.pipeline.using(metadata={"n": size}).enqueue_many([{}] * size)
        workflows.pipeline.enqueue({"fail": "It broke."})
        workflows.fail.enqueue()
        drain()
        workflows.pipeline.enqueue({})
        workflows.echo.enqueue()
        admin.get(LIST)  # reads the shapes of versions, once a process
        counts.add(len(queries(admin)))
    assert len(counts) == 1
    assert counts.pop() <= 14


def test_nothing_is_counted_and_no_big_column_is_read(admin: Client) -> None:
    workflows.pipeline.enqueue({})
    drain()
    for sql in queries(admin):
        assert "COUNT(*)" not in sql.upper()
        assert '"orchestrator_run"."input"' not in sql
        assert '"orchestrator_task_run"."output"' not in sql


def test_metadata_is_not_read_for_those_who_may_not_see_it(
    sign_in: Callable[..., Client],
) -> None:
    workflows.echo.using(metadata={"a": "b"}).enqueue()
    for sql in queries(sign_in("view_run")):
        assert '"orchestrator_run"."metadata"' not in sql


@pytest.fixture
def many_runs() -> None:
    """Enough history that a scan would be noticed, with statistics."""
    session = sessions.django_session()
    echo = registry.workflow("ui-echo").shape
    fail = registry.workflow("ui-fail").shape
    register.register(session, [echo, fail])
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO orchestrator_run (
                id, workflow_id, version_id, queue_id, status, status_reason,
                generation, input, metadata, tenant, priority, created_at, finished_at
            )
            SELECT
                (lpad(to_hex(1700000000000 + n), 12, '0') || '7000a'
                 || lpad(to_hex(n), 15, '0'))::uuid,
                CASE WHEN n %% 100 = 0 THEN %(fail)s ELSE %(echo)s END,
                CASE WHEN n %% 100 = 0 THEN %(fail_v)s ELSE %(echo_v)s END,
                %(queue)s,
                CASE WHEN n > 29900 THEN NULL
                     WHEN n %% 500 = 0 THEN 'FAILED' ELSE 'COMPLETED' END,
                '', 1, '{}',
                CASE WHEN n %% 50 = 0 THEN jsonb_build_object('user', n::text)
                     ELSE '{}' END,
                '', 0, now(), CASE WHEN n > 29900 THEN NULL ELSE now() END
            FROM generate_series(1, 30000) AS n
            """,
            {
                "fail": fail.workflow_id,
                "echo": echo.workflow_id,
                "fail_v": fail.version_id,
                "echo_v": echo.version_id,
                "queue": shapes.queue_id("default"),
            },
        )
        cursor.execute("ANALYZE orchestrator_run, orchestrator_lease")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?c=DEEP",
        "?workflow=ui-fail",
        "?workflow=ui-fail&c=DEEP",
        "?metadata=user:50",
        "?q=user:100",
        "?q=018bcfe5-6801-7000-a000-000000000001",
        "?window=24h",
        "?since=2023-11-14T22:13&until=2023-11-14T22:14",
        "?status=QUEUED",
        "?status=RUNNING",
        "?status=FAILED",
        "?status=COMPLETED",
        "?status=COMPLETED&workflow=ui-fail",
        "?queue=default",
    ],
)
def test_no_list_scans_the_runs(admin: Client, many_runs: None, query: str) -> None:
    deep = Run.objects.order_by("pk").values_list("pk", flat=True)[1000]
    url = LIST + query.replace("DEEP", Cursor("older", deep).dumps())
    assert shown(admin, url) or "window" in query or "RUNNING" in query
    for sql in queries(admin, url):
        if '"orchestrator_run"' in sql and sql.startswith("SELECT"):
            with connection.cursor() as cursor:
                cursor.execute("EXPLAIN " + sql.replace("%", "%%"))
                plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "Seq Scan on orchestrator_run" not in plan, plan


def test_a_list_that_takes_too_long_says_so(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflows.echo.enqueue()
    monkeypatch.setattr("orchestrator_ui.admin.keyset.TIMEOUT_SECONDS", 0.001)
    slow = Run.objects.extra(where=["pg_sleep(0.2) IS NOT NULL"])
    monkeypatch.setattr(
        "orchestrator_ui.admin.runs.RunAdmin.get_queryset", lambda *_: slow
    )
    response = admin.get(LIST)
    assert response.status_code == 503
    assert "?window=1h" in response.content.decode()


# Filters.


def test_runs_are_found_by_each_status_live_ones_included(admin: Client) -> None:
    completed = workflows.echo.enqueue().id
    failed = workflows.fail.enqueue().id
    backing_off = workflows.pipeline.enqueue({"fail": "It broke."}).id
    drain()
    cancelled = workflows.echo.enqueue()
    cancelled.cancel("not needed")
    queued = workflows.echo.enqueue().id
    for status, expected in {
        "COMPLETED": completed,
        "FAILED": failed,
        "CANCELLED": cancelled.id,
        "QUEUED": queued,
        "RUNNING": backing_off,
    }.items():
        assert shown(admin, f"{LIST}?status={status}") == [expected]
    assert shown(admin, f"{LIST}?status=FAILED,CANCELLED") == [cancelled.id, failed]
    assert set(RunStatus) == {"COMPLETED", "FAILED", "CANCELLED", "QUEUED", "RUNNING"}


def test_runs_are_found_by_workflow_queue_and_time(admin: Client) -> None:
    first = workflows.echo.enqueue().id
    second = workflows.fail.using(queue_name="other").enqueue().id
    assert shown(admin, f"{LIST}?workflow=ui-echo") == [first]
    assert shown(admin, f"{LIST}?queue=other") == [second]
    assert shown(admin, f"{LIST}?window=1h") == [second, first]
    soon = (timezone.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    assert shown(admin, f"{LIST}?since={soon}") == []
    assert shown(admin, f"{LIST}?until={soon}") == [second, first]
    assert shown(admin, f"{LIST}?workflow=no-such-workflow") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("user:7", True),
        ("count:3", True),
        ("flag:true", True),
        ('name:"Ada Lovelace"', True),
        ("user:7 count:3", True),
        ("user:8", False),
        ("user:7 count:4", False),
        ("nothing:7", False),
        ("user:", False),
        ('a:"open', False),
        ("a:NaN", False),
        ("a:\\u0000", False),
        ("a:1e999", False),
    ],
)
def test_runs_are_found_by_metadata(admin: Client, text: str, found: bool) -> None:
    run = workflows.echo.using(
        metadata={"user": "7", "count": 3, "flag": True, "name": "Ada Lovelace"}
    ).enqueue()
    workflows.echo.using(metadata={"user": "9"}).enqueue()
    for name in ("metadata", "q"):
        response = admin.get(LIST, {name: text})
        rows = [row.pk for row in response.context["cl"].result_list]
        assert rows == ([run.id] if found else [])


def test_runs_are_found_by_their_id_and_those_of_what_belongs_to_them(
    admin: Client,
) -> None:
    run_id = workflows.fail.enqueue().id
    workflows.echo.enqueue()
    drain()
    task_run_id = ids.task_run_id(run_id, 0)
    for key in (run_id, task_run_id, ids.attempt_id(task_run_id, 1)):
        assert shown(admin, f"{LIST}?q={key}") == [run_id]
    assert shown(admin, f"{LIST}?q={ids.uuid7()}") == []


def test_other_words_are_not_searched_for(admin: Client) -> None:
    workflows.echo.enqueue()
    response = admin.get(LIST, {"q": "echo"})
    assert not response.context["cl"].result_list
    assert "Search for: " in response.content.decode()


@pytest.mark.parametrize(
    "query",
    ["status=NONE", "window=1y", "since=yesterday", "since=0001-01-01T00:00"],
)
def test_a_filter_that_cannot_be_read_is_refused(admin: Client, query: str) -> None:
    response = admin.get(f"{LIST}?{query}")
    assert response.status_code == 302
    assert response["Location"].endswith("?e=1")


def test_names_are_links_while_they_are_few_and_a_box_when_many(admin: Client) -> None:
    drain()  # registers the workflows of all tests, which are many
    html = admin.get(LIST).content.decode()
    assert '<datalist id="orch-list-workflow">' in html
    assert 'href="?queue=default"' in html


# Rows.


def test_a_row_says_what_became_of_the_run(admin: Client) -> None:
    workflows.pipeline.enqueue({"fail": "It broke.\nbadly"})
    drain()
    row = admin.get(LIST).context["cl"].result_list[0].row
    assert row.run.status == "RUNNING"
    assert (row.ended, row.tasks, row.attempts) == (2, 5, 3)
    assert row.line == "ValueError: It broke."
    assert row.due_at > timezone.now()
    assert row.started_at is not None


def test_a_run_whose_workflow_is_not_registered_is_shown(admin: Client) -> None:
    run = workflows.echo.enqueue()
    Run.objects.update(workflow_id=1, version_id=2, queue_id=3)
    html = admin.get(LIST).content.decode()
    assert str(run.id) in html
    page = admin.get(reverse("admin:orchestrator_run_change", args=(run.id,)))
    assert "not registered" in page.content.decode()
