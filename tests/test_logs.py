"""What tasks log: kept by attempt, captured from `logging`, capped, in nobody's way."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from orchestrator import Context, Retry, RunHandle, RunNotFound, ids, task, workflow
from orchestrator.models import LogLine
from orchestrator.testing import drain, make_context, said
from orchestrator.voices import Outbox, Voice, captured, lines, speaker

pytestmark = pytest.mark.usefixtures("own_definitions")

log = logging.getLogger("shop.orders")


@pytest.fixture(autouse=True)
def _level() -> Any:
    before = log.level
    log.setLevel(logging.INFO)
    yield
    log.setLevel(before)


@pytest.mark.django_db
def test_lines_are_kept_with_their_attempt_and_level_and_fields() -> None:
    @task(takes_context=True)
    def ship(ctx: Context[Any], number: int) -> None:
        ctx.log("packing", number=number)
        ctx.log("fragile", "warning")
        ctx.log({"boxes": 2}, logging.DEBUG)

    handle = ship.enqueue(7)
    drain()
    found = handle.logs()
    assert [(line.level, line.message, line.fields) for line in found] == [
        ("INFO", "packing", {"number": 7}),
        ("WARNING", "fragile", {}),
        ("DEBUG", '{"boxes": 2}', {}),
    ]
    assert {(line.task, line.attempt, line.logger) for line in found} == {
        ("ship", 1, "")
    }
    assert [line.number for line in found] == [1, 2, 3]
    assert LogLine.objects.count() == 3


@pytest.mark.django_db
def test_standard_logging_is_captured_where_its_level_allows() -> None:
    @task
    def ship() -> None:
        log.debug("not asked for")
        log.info("packed %d boxes", 2, extra={"shelf": "a", "odd": object})
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("dropped one")

    handle = ship.enqueue()
    drain()
    first, second = handle.logs()
    assert (first.message, first.logger) == ("packed 2 boxes", "shop.orders")
    assert first.fields == {"shelf": "a", "odd": "<class 'object'>"}
    assert second.level == "ERROR"
    assert second.message.startswith("dropped one\nTraceback")
    assert second.message.endswith("ValueError: broken")


@pytest.mark.django_db
def test_async_tasks_and_the_threads_they_use_are_captured() -> None:
    @task
    async def ship() -> None:
        log.info("on the loop")
        await asyncio.to_thread(log.info, "in a thread")
        await sync_to_async(log.info)("in Django's thread")

    handle = ship.enqueue()
    drain()
    assert [line.message for line in handle.logs()] == [
        "on the loop",
        "in a thread",
        "in Django's thread",
    ]


@pytest.mark.django_db
def test_nothing_is_captured_outside_of_tasks() -> None:
    @task
    def ship() -> None: ...

    ship.enqueue()
    drain()
    log.info("afterwards")
    with captured():
        log.info("by nobody")
    assert speaker.get() is None
    assert not LogLine.objects.exists()
    assert not any(
        type(handler).__name__ == "Capture" for handler in logging.root.handlers
    )


@pytest.mark.django_db
def test_each_attempt_has_lines_of_its_own_and_failed_ones_keep_theirs() -> None:
    @task(takes_context=True, retries=2)
    def wobbly(ctx: Context[Any]) -> None:
        ctx.log(f"attempt {ctx.attempt}")
        if ctx.attempt < 3:
            raise ValueError

    handle = wobbly.enqueue()
    drain()
    assert [(line.attempt, line.number, line.message) for line in handle.logs()] == [
        (1, 1, "attempt 1"),
        (2, 1, "attempt 2"),
        (3, 1, "attempt 3"),
    ]


@pytest.mark.django_db
def test_the_lines_of_a_workflow_are_in_the_order_of_time() -> None:
    wf = workflow("wf")

    @wf.task
    def first(ctx: Context[None]) -> None:
        ctx.log("one")
        ctx.log("two")

    @wf.task(parents=[first])
    def second(ctx: Context[None]) -> None:
        ctx.log("three")

    handle = wf.enqueue()
    drain()
    assert [line.message for line in handle.logs()] == ["one", "two", "three"]
    assert [line.message for line in handle.logs(task="second")] == ["three"]
    assert [line.message for line in async_to_sync(handle.alogs)(limit=1)] == ["one"]


@pytest.mark.django_db
def test_an_attempt_keeps_ten_thousand_lines_and_says_what_was_dropped() -> None:
    @task(takes_context=True)
    def prattle(ctx: Context[Any], count: int) -> None:
        for number in range(1, count + 1):
            ctx.log(str(number))

    exactly, more = prattle.enqueue(10_000), prattle.enqueue(10_500)
    drain()
    found = exactly.logs()
    assert len(found) == 10_000
    assert found[-1].message == "10000"
    found = more.logs()
    assert len(found) == 10_000
    assert found[-2].message == "9999"
    assert found[-1].message == (
        "501 further lines were dropped: an attempt keeps 10,000."
    )
    assert found[-1].level == "WARNING"


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.django_db
def test_whatever_is_logged_no_task_fails_of_it() -> None:
    @task(takes_context=True)
    def odd(ctx: Context[Any]) -> None:
        odd_fields: dict[str, Any] = {"nul \0": "\0", "x": float("nan")}
        ctx.log("nul \0 and \ud800", **odd_fields)
        ctx.log(Unshowable(), thing=Unshowable())
        ctx.log("x" * 1_000_000)
        ctx.log("ä\n" * 100_000, note="y" * 100_000)
        ctx.log("level", "no such level, and a long one")
        ctx.log(b"bytes")
        log.info("%d", "not a number")

    handle = odd.enqueue()
    logging.raiseExceptions, before = False, logging.raiseExceptions
    try:
        drain()
    finally:
        logging.raiseExceptions = before
    assert handle.refresh().status == "COMPLETED"
    found = handle.logs()
    assert [line.message[:6] for line in found] == [
        "nul � ",
        "<Unsho",
        "xxxxxx",
        "ä\nä\nä\n",
        "level",
        "\"b'byt",
    ]
    assert max(len(line.message.encode()) for line in found) <= 8 * 1024
    assert found[2].message.startswith("xxx")
    assert "1,000,000 bytes" in found[2].message


def test_a_line_is_at_most_eight_kibibytes() -> None:
    for message, fields in (
        ('"' * 9_000, {}),
        ("\n" * 9_000, {"a": "\n" * 9_000}),
        ("€" * 9_000, {str(n): "€" * 100 for n in range(1_000)}),
    ):
        assert len(lines.line(message, "INFO", fields, "").encode()) <= 8 * 1024


@pytest.mark.parametrize(
    "fields",
    [
        {"body": "\x01" * 5_000},
        {str(number): "\x01" * 50 for number in range(10_000)},
        {"\x02" * 60 + str(number): '"' * 50 for number in range(200)},
        {"body": "\\" * 5_000, "number": float("nan")},
    ],
)
def test_what_grows_as_json_fits_a_line_too(fields: dict[str, Any]) -> None:
    text = lines.line("\x01" * 9_000, "INFO", fields, "\x01" * 300)
    assert len(text.encode()) <= 8 * 1024
    assert json.loads(text)["fields"]


def test_many_threads_speak_with_one_voice() -> None:
    outbox = Outbox()
    run_id = ids.uuid7()
    voice = Voice(outbox, run_id, ids.task_run_id(run_id, 0), 1)

    def speak() -> None:
        for _ in range(50):
            voice.log("x", "INFO", {})

    threads = [threading.Thread(target=speak) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = outbox.take()
    assert sorted(line.number for line in said.lines) == list(range(1, 401))


@pytest.mark.django_db
def test_a_run_that_is_not_there_has_no_logs() -> None:
    with pytest.raises(RunNotFound):
        RunHandle(ids.uuid7()).logs()


@pytest.mark.django_db
def test_a_record_that_no_handler_shows_reaches_the_last_resort(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    with captured():
        logging.getLogger("nobody.listens").warning("still seen")
        logging.getLogger("nobody.listens").info("not seen")
    assert capsys.readouterr().err == "still seen\n"


@pytest.mark.django_db
def test_a_retry_with_a_delay_logs_nothing_of_its_own() -> None:
    @task(retries=Retry(1))
    def fails() -> None:
        raise ValueError

    handle = fails.enqueue()
    drain()
    assert handle.logs() == []


def test_a_test_reads_what_a_task_has_said_without_a_run() -> None:
    wf = workflow("wf")

    @wf.task
    def speak(ctx: Context[None]) -> None:
        ctx.log("a line", "DEBUG", n=1)
        ctx.stream({"a": 1})
        ctx.progress(1, 3)
        ctx.progress(2, 3, "nearly")

    ctx = make_context(speak)
    assert said(ctx) == ([], [], None)
    speak.call(ctx)
    assert said(ctx) == (
        [("DEBUG", "a line", {"n": 1})],
        [{"a": 1}],
        (2.0, 3.0, "nearly"),
    )
