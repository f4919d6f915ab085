"""What an attempt comes to, whatever its function does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Context, InvalidInput, NonRetryable, Retry, registry, task
from orchestrator.exceptions import LeaseLost, TaskCancelled
from orchestrator.states import AttemptOutcome
from orchestrator.worker import execute
from tests.worker.conftest import MakeWork


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    with registry.isolated():
        yield


class Unshowable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def _group() -> BaseException:
    return ExceptionGroup("several", [ValueError("a"), KeyError("b")])


def _deep() -> BaseException:
    error: BaseException = ValueError("innermost")
    for number in range(500):
        outer = ValueError(f"level {number}")
        outer.__cause__ = error
        error = outer
    return error


def _loop() -> BaseException:
    error = ValueError("its own cause")
    error.__cause__ = error
    return error


ZOO: list[tuple[BaseException, str]] = [
    (ValueError("plain"), "ValueError"),
    (SystemExit(3), "SystemExit"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (GeneratorExit(), "GeneratorExit"),
    (asyncio.CancelledError(), "CancelledError"),
    (StopIteration("stopped"), "StopIteration"),
    (StopAsyncIteration(), "StopAsyncIteration"),
    (MemoryError(), "MemoryError"),
    (RecursionError("too deep"), "RecursionError"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError"),
    (Unshowable(), "Unshowable"),
    (ValueError("nul \0 and \ud800"), "ValueError"),
    (ValueError("x" * 1_000_000), "ValueError"),
    (_group(), "ExceptionGroup"),
    (_deep(), "ValueError"),
    (_loop(), "ValueError"),
]


@pytest.mark.parametrize(
    ("error", "kind"), ZOO, ids=[f"{i}-{kind}" for i, (_, kind) in enumerate(ZOO)]
)
@pytest.mark.parametrize("on_loop", [False, True])
def test_every_exception_becomes_a_failed_attempt(
    make_work: MakeWork, error: BaseException, kind: str, *, on_loop: bool
) -> None:
    if on_loop:

        @task
        async def afails() -> None:
            raise error

        if isinstance(error, StopIteration):
            kind = "RuntimeError"  # what Python makes of it in a coroutine
        result = asyncio.run(execute.run_async(make_work(afails)))
    else:

        @task
        def fails() -> None:
            raise error

        result = execute.run_sync(make_work(fails))
    assert result.outcome is AttemptOutcome.FAILED
    assert result.final
    stored = json.loads(result.error or "")
    assert stored["type"].rpartition(".")[2] == kind
    assert len(result.error or "") < 200_000
    assert "\\u0000" not in (result.error or "")


def test_endless_recursion_becomes_a_failed_attempt(make_work: MakeWork) -> None:
    @task
    def recurses(depth: int) -> int:
        return int(recurses.call(depth + 1))

    result = execute.run_sync(make_work(recurses, 0))
    assert "RecursionError" in (result.error or "")


def test_a_function_returns_its_output(make_work: MakeWork) -> None:
    @task
    def add(a: int, b: int) -> int:
        return a + b

    result = execute.run_sync(make_work(add, 1, 2))
    assert (result.outcome, result.output) == (AttemptOutcome.COMPLETED, "3")
    assert result.finished >= result.started > 0


def test_an_output_that_is_no_json_fails_with_its_path(make_work: MakeWork) -> None:
    @task
    def returns_a_set() -> Any:
        return {"found": [1, {2}]}

    result = execute.run_sync(make_work(returns_a_set))
    assert result.outcome is AttemptOutcome.FAILED
    assert "$.found[1]" in result.reason


def test_an_input_that_does_not_fit_any_more_is_not_retried(
    make_work: MakeWork,
) -> None:
    @task(retries=5)
    def wants_a_number(number: int) -> int:
        return number

    result = execute.run_sync(make_work(wants_a_number, "seven"))
    assert result.final
    assert "InvalidInput" in result.reason


def test_an_invalid_input_that_a_task_passes_on_is_retried(make_work: MakeWork) -> None:
    @task(retries=5)
    def passes_on() -> None:
        raise InvalidInput("Input of another workflow: $ is no number.")

    assert not execute.run_sync(make_work(passes_on)).final


def test_failures_are_retried_by_the_policy_and_no_more(make_work: MakeWork) -> None:
    @task(retries=Retry(2, initial=timedelta(seconds=3), jitter=False))
    def fails() -> None:
        raise ValueError("again")

    first = execute.run_sync(make_work(fails))
    assert (first.final, first.retry_in) == (False, timedelta(seconds=3))
    second = execute.run_sync(make_work(fails, failures=1))
    assert (second.final, second.retry_in) == (False, timedelta(seconds=6))
    third = execute.run_sync(make_work(fails, failures=2))
    assert third.final
    assert third.reason == 'Task "fails" failed: ValueError: again'


def test_non_retryable_ends_it(make_work: MakeWork) -> None:
    @task(retries=5)
    def gives_up() -> None:
        raise NonRetryable("hopeless")

    assert execute.run_sync(make_work(gives_up)).final


@pytest.mark.parametrize("error", [TaskCancelled(), LeaseLost()])
def test_a_task_that_stops_because_it_was_told_to_is_cancelled(
    make_work: MakeWork, error: BaseException
) -> None:
    @task
    def stops() -> None:
        raise error

    result = execute.run_sync(make_work(stops))
    assert result.outcome is AttemptOutcome.CANCELLED


def test_work_that_was_cancelled_before_its_start_does_not_start(
    make_work: MakeWork,
) -> None:
    started = []

    @task
    def tells() -> None:
        started.append(1)

    work = make_work(tells)
    work.cancelled = True
    assert execute.run_sync(work).outcome is AttemptOutcome.CANCELLED
    assert started == []


def test_an_async_task_is_cancelled_at_its_timeout(make_work: MakeWork) -> None:
    @task(execution_timeout=timedelta(seconds=0.05))
    async def sleeps() -> str:
        await asyncio.sleep(30)
        return "too late"

    result = asyncio.run(execute.run_async(make_work(sleeps)))
    assert result.outcome is AttemptOutcome.TIMED_OUT
    assert "0.05 s" in result.reason


def test_a_result_that_comes_after_the_timeout_does_not_count(
    make_work: MakeWork,
) -> None:
    @task(execution_timeout=timedelta(seconds=0.05))
    async def swallows() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "too late"
        return "never"

    result = asyncio.run(execute.run_async(make_work(swallows)))
    assert result.outcome is AttemptOutcome.TIMED_OUT
    assert result.output is None


def test_a_sync_task_that_took_too_long_is_timed_out_though_nobody_looked(
    make_work: MakeWork,
) -> None:
    """The engine thread may have slept as well: a frozen process, a suspended host."""

    @task(execution_timeout=timedelta(seconds=0.01))
    def oversleeps() -> str:
        time.sleep(0.02)
        return "too late"

    result = execute.run_sync(make_work(oversleeps))
    assert result.outcome is AttemptOutcome.TIMED_OUT
    assert result.output is None


def test_a_timeout_of_the_tasks_own_is_an_ordinary_failure(make_work: MakeWork) -> None:
    @task(execution_timeout=timedelta(seconds=30))
    async def times_out_itself() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(30)

    result = asyncio.run(execute.run_async(make_work(times_out_itself)))
    assert result.outcome is AttemptOutcome.FAILED
    assert "TimeoutError" in result.reason


def test_an_async_function_runs_where_there_is_no_loop(make_work: MakeWork) -> None:
    @task
    async def answers() -> int:
        await asyncio.sleep(0)
        return 42

    assert execute.run_sync(make_work(answers)).output == "42"


def test_the_context_describes_the_attempt(make_work: MakeWork) -> None:
    seen: list[Context[Any]] = []

    @task(takes_context=True)
    def looks(ctx: Context[Any]) -> None:
        seen.append(ctx)

    work = make_work(looks, attempt=3, tenant="acme", metadata='{"user": "7"}')
    execute.run_sync(work)
    (ctx,) = seen
    assert (ctx.attempt, ctx.tenant, ctx.metadata) == (3, "acme", {"user": "7"})
    assert ctx.task_run_id == work.claim.task_run_id
    assert not ctx.is_cancelled
    work.stop()
    assert ctx.is_cancelled


def test_the_last_chances_of_what_was_lost_before_are_spent_alone(
    make_work: MakeWork,
) -> None:
    @task
    def suspect() -> None: ...

    isolated = [make_work(suspect, losses=losses).isolated for losses in range(4)]
    assert isolated == [False, False, True, True]


def test_a_lost_attempt_is_charged_to_its_own_budget(make_work: MakeWork) -> None:
    @task(retries=0)
    def dies() -> None: ...

    within = execute.lost(make_work(dies, losses=2), "signal SIGSEGV")
    assert (within.final, within.outcome) == (False, AttemptOutcome.LOST)
    beyond = execute.lost(make_work(dies, losses=3), "signal SIGSEGV")
    assert beyond.final
    assert "WorkerLost" in beyond.reason
    assert "SIGSEGV" in beyond.reason
