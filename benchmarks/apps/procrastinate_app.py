"""The app that ``procrastinate worker`` loads."""

from __future__ import annotations

import os

import procrastinate

from benchmarks.stamps import stamp

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_URL"])
)


@app.task(name="async", queue="async")
async def noop(number: int) -> None:
    stamp(number)


@app.task(name="sync", queue="sync")
def noop_sync(number: int) -> None:
    stamp(number)
