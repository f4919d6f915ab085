"""pgqueuer's factory, and its worker as ``pgq run`` starts it.

The command itself cannot be used: with typer 0.29 ``pgq run`` of pgqueuer 1.6 fails
at its own ``--log-level``. ``pgqueuer.run`` is what it calls, on uvloop.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg
import pgqueuer
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.models import Job

from benchmarks.stamps import stamp


@asynccontextmanager
async def create() -> AsyncGenerator[PgQueuer]:
    connection = await asyncpg.connect(os.environ["BENCH_URL"])
    pgq = PgQueuer.from_asyncpg_connection(connection)

    @pgq.entrypoint("async")
    async def noop(job: Job) -> None:
        stamp(int(job.payload or b"0"))

    # Its manual's way for blocking code, since entry points must be coroutines.
    @pgq.entrypoint("sync")
    async def noop_sync(job: Job) -> None:
        await asyncio.to_thread(stamp, int(job.payload or b"0"))

    try:
        yield pgq
    finally:
        await connection.close()


if __name__ == "__main__":
    uvloop.run(
        pgqueuer.run("benchmarks.apps.pgqueuer_app:create", batch_size=int(sys.argv[1]))
    )
