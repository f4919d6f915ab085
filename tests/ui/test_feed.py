"""The live feed over real websockets and a real LISTEN connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import Client

from orchestrator import operations
from orchestrator.engine import notify, sessions
from orchestrator.operations import RunFilter
from orchestrator.testing import drain
from orchestrator_ui.feed import hub as hubs
from orchestrator_ui.feed import topics
from orchestrator_ui.feed.listening import ANYTHING, Hint
from orchestrator_ui.feed.mailbox import Mailbox
from orchestrator_ui.feed.topics import (
    Locale,
    NewerTopic,
    PageTopic,
    RowTopic,
    Topic,
)
from orchestrator_ui.views import cells, newer
from orchestrator_ui.views.criteria import Criteria
from tests.ui.app import workflows
from tests.ui.sockets import in_database, listeners, opened, until

pytestmark = pytest.mark.django_db(transaction=True)

EN = Locale("en-us", "UTC")


@pytest.fixture(autouse=True)
def _only_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read again by itself: what arrives was hinted at."""
    monkeypatch.setattr(hubs, "RESYNC", 3600.0)
    monkeypatch.setattr(hubs, "RESYNC_DEAF", 3600.0)


@pytest.fixture
def user(make_user: Callable[..., Any]) -> Any:
    return make_user("view_run")


@pytest.fixture
def client(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def execute_and_hint(*run_ids: Any) -> None:
    """As a worker does: execute, and tell open pages."""
    drain()
    notify.feed(sessions.django_session(), run_ids)


def test_a_page_is_told_what_changed_and_nothing_else(
    client: Client, user: Any
) -> None:
    run = workflows.echo.enqueue()
    other = workflows.fail.enqueue()

    async def watch() -> None:
        async with opened(client, user, [PageTopic(EN, run.id)]) as page:
            assert await page.is_silent()
            await in_database(execute_and_hint, run.id)
            message = await page.message()
            assert 'id="run-header"' in message
            assert "Completed" in message
            assert 'id="run-graph"' not in message  # as it was
            await in_database(execute_and_hint, other.id)
            assert await page.is_silent()

    async_to_sync(watch)()


def test_rows_of_a_list_change_in_place(client: Client, user: Any) -> None:
    runs = [workflows.echo.enqueue(), workflows.fail.enqueue()]
    wanted = [RowTopic(EN, run.id) for run in runs]

    async def watch() -> None:
        async with opened(client, user, wanted) as page:
            await in_database(execute_and_hint, *(run.id for run in runs))
            message = await page.message_with("Completed")
            if "Failed" not in message:
                message += await page.message_with("Failed")
            for run in runs:
                assert f'id="run-{run.id.hex}-status"' in message
            assert "<tr" not in message

    async_to_sync(watch)()


def test_a_hint_about_anything_reads_everything(client: Client, user: Any) -> None:
    run = workflows.echo.enqueue()

    async def watch() -> None:
        async with opened(client, user, [RowTopic(EN, run.id)]) as page:
            await in_database(drain)
            await in_database(
                notify._send, sessions.django_session(), notify.FEED_CHANNEL, ["*"]
            )
            assert "Completed" in await page.message()

    async_to_sync(watch)()


def test_new_runs_are_counted_and_do_not_appear_by_themselves(
    client: Client, user: Any
) -> None:
    shown = workflows.echo.enqueue()
    criteria = Criteria((("workflow", "ui-echo"),))
    topic = NewerTopic(EN, criteria, newer.Shown((shown.id,), has_older=False))

    async def watch() -> None:
        async with opened(client, user, [topic]) as page:
            await in_database(workflows.fail.enqueue)
            assert await page.is_silent(1.5)
            await in_database(workflows.echo.enqueue)
            message = await page.message()
            assert "1 new run<" in message
            assert 'href="?workflow=ui-echo"' in message

    async_to_sync(watch)()


def test_what_is_enqueued_is_told_by_the_hint_to_workers(
    client: Client, user: Any
) -> None:
    assert Hint.read("orchestrator_queue", "17") == Hint(frozenset(), enqueued=True)
    assert Hint.read("orchestrator_feed", "*") == ANYTHING
    assert Hint.read("orchestrator_feed", "not-an-id") == ANYTHING


def test_what_was_missed_while_the_connection_was_lost_is_sent(
    client: Client, user: Any
) -> None:
    run = workflows.echo.enqueue()

    def terminate() -> None:
        (pid,) = listeners()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        execute_and_hint(run.id)  # nobody hears it

    async def watch() -> None:
        async with opened(client, user, [RowTopic(EN, run.id)]) as page:
            await in_database(terminate)
            assert "Completed" in await page.message()
            await until(lambda: hubs.hub().is_listening)

    async_to_sync(watch)()


def test_without_hints_everything_is_read_again_now_and_then(
    client: Client, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "RESYNC", 0.5)
    monkeypatch.setattr(hubs, "RESYNC_DEAF", 0.5)
    run = workflows.echo.enqueue()

    async def watch() -> None:
        async with opened(client, user, [RowTopic(EN, run.id)]) as page:
            await in_database(drain)
            assert "Completed" in await page.message()

    async_to_sync(watch)()


def test_a_topic_is_rendered_once_for_all_who_look(
    client: Client, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = workflows.echo.enqueue()
    topic = PageTopic(EN, run.id)
    rendered: list[int] = []
    render = topics.render

    def counted(batch: Any) -> Any:
        rendered.append(len(list(batch)))
        return render(batch)

    async def watch() -> None:
        async with opened(client, user, [topic]) as one:
            async with opened(client, user, [topic]) as two:
                async with opened(client, user, [topic]) as three:
                    monkeypatch.setattr(topics, "render", counted)
                    await in_database(execute_and_hint, run.id)
                    messages = [await page.message() for page in (one, two, three)]
                    assert len(set(messages)) == 1
                    assert rendered == [1]

    async_to_sync(watch)()


def test_one_connection_listens_for_all_and_ends_with_the_last(
    client: Client, user: Any
) -> None:
    run = workflows.echo.enqueue()
    topic = RowTopic(EN, run.id)

    async def watch() -> None:
        async with opened(client, user, [topic]):
            async with opened(client, user, [topic]):
                assert len(await in_database(listeners)) == 1
            assert len(await in_database(listeners)) == 1
        hub = hubs.hub()
        assert not hub.watchers
        assert not hub._by_run
        assert not hub._sent
        for _ in range(100):
            if not await in_database(listeners):
                return
        raise AssertionError("The connection is still there.")

    async_to_sync(watch)()


def test_workers_are_asked_for_hints_while_somebody_looks(
    client: Client, user: Any, second_connection: Callable[[], Any]
) -> None:
    run = workflows.echo.enqueue()
    listener = second_connection()
    listener.execute("LISTEN orchestrator_control")

    async def watch() -> None:
        async with opened(client, user, [RowTopic(EN, run.id)]):
            pass

    async_to_sync(watch)()
    heard = [n.payload for n in listener.notifies(timeout=5, stop_after=1)]
    assert heard == ["feed"]


def test_no_payload_and_no_metadata_is_sent_to_anybody(
    client: Client, user: Any
) -> None:
    secret = "a-secret-value"
    run = workflows.echo.using(metadata={"key": secret}).enqueue(secret)
    wanted: list[Topic] = [PageTopic(EN, run.id), RowTopic(EN, run.id)]

    async def watch() -> list[str]:
        async with opened(client, user, wanted) as page:
            await in_database(execute_and_hint, run.id)
            return [await page.message()]

    assert all(secret not in message for message in async_to_sync(watch)())
    for parts in topics.render(wanted).values():
        assert all(secret not in html for html in parts.values())


def test_what_an_operator_does_is_shown_to_others(client: Client, user: Any) -> None:
    run = workflows.echo.enqueue()

    def cancel() -> None:
        operations.cancel_runs(RunFilter(ids=[run.id]), reason="not needed")
        notify.feed(sessions.django_session(), [run.id])

    async def watch() -> None:
        async with opened(client, user, [PageTopic(EN, run.id)]) as page:
            await in_database(cancel)
            message = await page.message_with("Cancelled")
            assert "not needed" in message

    async_to_sync(watch)()


def test_a_slow_reader_gets_the_latest_of_each_part() -> None:
    async def read() -> str:
        mailbox = Mailbox()
        mailbox.put({"a": "a1", "b": "b1"})
        mailbox.put({"a": "a2"})
        return await mailbox.take()

    assert async_to_sync(read)() == "a2b1"


def test_one_topic_that_cannot_be_read_does_not_end_the_feed(
    client: Client, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = workflows.echo.enqueue()
    fragments = cells.fragments
    broken = [True]

    def sometimes(row: Any) -> Any:
        if broken:
            broken.clear()
            raise RuntimeError("odd row")
        return fragments(row)

    async def watch() -> None:
        async with opened(client, user, [RowTopic(EN, run.id)]) as page:
            monkeypatch.setattr(cells, "fragments", sometimes)
            await in_database(execute_and_hint, run.id)
            await until(lambda: not broken)
            await in_database(execute_and_hint, run.id)
            assert "Completed" in await page.message()

    async_to_sync(watch)()
