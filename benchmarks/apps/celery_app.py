"""The app that ``celery worker`` loads."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks.stamps import stamp

app = Celery(
    "bench",
    broker=os.environ["BENCH_BROKER"],
    backend=os.environ["BENCH_RESULTS"],
    task_default_queue="bench",
    broker_connection_retry_on_startup=True,
    # Its results live in Redis as long as ours in PostgreSQL, as far as a run goes.
    result_expires=3600,
)


@app.task(name="noop")
def noop(number: int) -> None:
    stamp(number)


@app.task(name="step")
def step(number: int) -> None:
    """The second and third of a chain."""
