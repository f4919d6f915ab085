"""Tasks that say something while real workers execute them."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from orchestrator import Context, Idempotency, batch_task, task, workflow

log = logging.getLogger("tests.says")


@task(takes_context=True)
def recite(ctx: Context[Any], chunks: int, pause: float, wait: float = 0.0) -> int:
    """Stream chunks of ten characters, one every `pause` seconds."""
    time.sleep(wait)
    for number in range(chunks):
        ctx.stream(f"{number:010}")
        time.sleep(pause)
    return chunks


@task(takes_context=True)
async def arecite(ctx: Context[Any], chunks: int, pause: float) -> int:
    """`recite` on the loop."""
    for number in range(chunks):
        ctx.stream(f"{number:010}")
        await asyncio.sleep(pause)
    return chunks


@task(takes_context=True, isolated=True)
def recite_alone(ctx: Context[Any], chunks: int) -> int:
    """Say all kinds of things in a process of its own."""
    for number in range(chunks):
        ctx.stream(f"{number:010}")
        ctx.log(f"line {number}")
        ctx.progress(number, chunks)
    log.warning("from the isolated process")
    return chunks


@task(takes_context=True)
def wobble(ctx: Context[Any], path: str) -> None:
    """Say how far it is, until the file is gone."""
    done = 0
    while Path(path).exists():
        done += 1
        ctx.progress(done, message="on the way")
        time.sleep(0.02)


@task(takes_context=True)
def chatter(ctx: Context[Any], count: int) -> None:
    """Log with both."""
    log.warning("begins")
    for number in range(count):
        ctx.log(f"line {number}", number=number)


@task(
    takes_context=True,
    execution_timeout=timedelta(seconds=1),
)
def patient(ctx: Context[Any], seconds: float, more: float) -> str:
    """Take longer than it may, after asking for more time."""
    if more:
        ctx.refresh_timeout(timedelta(seconds=more))
    time.sleep(seconds)
    return "success"


@task(takes_context=True, execution_timeout=timedelta(seconds=1))
async def apatient(ctx: Context[Any], seconds: float, more: float) -> str:
    """`patient` on the loop."""
    if more:
        ctx.refresh_timeout(timedelta(seconds=more))
    await asyncio.sleep(seconds)
    return "success"


@task(takes_context=True, isolated=True, execution_timeout=timedelta(seconds=1))
def patient_alone(ctx: Context[Any], seconds: float, more: float) -> str:
    """`patient` in a process of its own."""
    if more:
        ctx.refresh_timeout(timedelta(seconds=more))
    time.sleep(seconds)
    return "success"


quitters = workflow("tests-quitters")


@quitters.task
async def quit_soon(ctx: Context[None]) -> None:
    """Cancel itself after a while."""
    await asyncio.sleep(0.5)
    ctx.cancel("I give up")


@quitters.task
def look_on(ctx: Context[None]) -> str:
    """Look at the flag for a while."""
    for _ in range(20):
        if ctx.is_cancelled:
            break
        time.sleep(0.05)
    return "done"


@quitters.task(parents=[quit_soon])
def never(ctx: Context[None]) -> None:
    """Depend on what is cancelled."""


@task(isolated=True)
def clean_up(path: str, *, stubborn: bool) -> None:
    """Note how it is told to end."""
    from orchestrator.exceptions import TaskCancelled

    Path(path).write_text("started")
    try:
        time.sleep(60)
    except TaskCancelled:
        Path(path).write_text("told")
        if stubborn:
            time.sleep(60)
            Path(path).write_text("survived")
        raise


@task(
    idempotency=Idempotency("input.name", ttl=timedelta(seconds=60), until="finished")
)
def once(name: str, seconds: float) -> str:
    """One at a time of each name."""
    time.sleep(seconds)
    return f"hello {name}"


@task(takes_context=True)
def surroundings(ctx: Context[Any]) -> dict[str, Any]:
    """What it knows of its worker."""
    return {
        "labels": ctx.worker_labels,
        "worker": str(ctx.worker_id),
        "event": ctx.event_id,
        "key": ctx.event_key,
        "filter": ctx.filter_payload,
    }


@task(takes_context=True)
def find_lifespan(ctx: Context[Any], seconds: float = 0.0) -> list[Any]:
    """What the lifespan gave."""
    time.sleep(seconds)
    return [type(ctx.lifespan).__name__, ctx.lifespan.foo, ctx.lifespan.pi]


@task(takes_context=True)
async def afind_lifespan(ctx: Context[Any]) -> bool:
    """Whether the lifespan lives on the loop of the tasks."""
    return ctx.lifespan.loop is asyncio.get_running_loop()


@task(takes_context=True, isolated=True)
def find_lifespan_alone(ctx: Context[Any]) -> list[Any]:
    """What the lifespan gave in a process of its own."""
    return [ctx.lifespan.foo, ctx.lifespan.pi]


@batch_task(max_size=3, max_interval=timedelta(milliseconds=200))
def batch_shout(inputs: dict[str, str]) -> dict[str, str]:
    """Upper case, three at a time."""
    log.warning("a batch of %d", len(inputs))
    return {key: text.upper() for key, text in inputs.items()}


@batch_task(max_size=100, max_interval=timedelta(seconds=3))
async def weigh(inputs: dict[str, str]) -> dict[str, list[Any]]:
    """The size of each, and which batch it was in."""
    batch = min(inputs)
    return {key: [batch, len(text)] for key, text in inputs.items()}


@batch_task(max_size=4)
def batch_until(inputs: dict[str, str]) -> dict[str, str]:
    """Wait until the file is there."""
    path = Path(next(iter(inputs.values())))
    with path.with_suffix(".starts").open("a") as file:
        file.write(f"{len(inputs)}\n")
    while not path.exists():
        time.sleep(0.02)
    return dict(inputs)
