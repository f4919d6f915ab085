"""Durable tasks that the tests of workers execute in real processes.

Each execution of a function appends a line to a file, each effect of a step is a row.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.utils import timezone

from orchestrator import (
    Context,
    DurableContext,
    EventCondition,
    Eviction,
    SleepCondition,
    durable_task,
    task,
    workflow,
)
from orchestrator.models import AuditEntry
from tests.app.tasks import tell


@dataclass(frozen=True)
class Journey:
    """Where a function tells what it does, what it is called, and how long it waits."""

    path: str
    name: str
    seconds: float = 0.2


def effect(key: str) -> str:
    """One row for each time that this is called and committed."""
    AuditEntry.objects.create(
        id=uuid4(),
        action="effect",
        target_type="effect",
        target_id=key,
        target_repr=key,
        data={},
        created_at=timezone.now(),
    )
    return key


def effects(key: str) -> list[str]:
    """The rows of effects whose key begins so."""
    rows = AuditEntry.objects.filter(target_id__startswith=key).order_by("target_id")
    return list(rows.values_list("target_id", flat=True))


@task(name="tests-pupil")
def pupil(path: str, name: str, seconds: float = 0.0) -> str:
    """A child."""
    tell(path, "child", name, os.getpid())
    time.sleep(seconds)
    return name


@durable_task(name="tests-journey", input=Journey, retries=5)
def journey(ctx: DurableContext[Journey]) -> list[Any]:
    """A step, a child, a sleep and a step."""
    told = ctx.input
    tell(told.path, "start", told.name, os.getpid())
    first = ctx.step(effect, f"{told.name}: 1")
    child = ctx.run(pupil.bind(told.path, told.name))
    ctx.sleep(timedelta(seconds=told.seconds))
    second = ctx.step(effect, f"{told.name}: 2")
    tell(told.path, "end", told.name, os.getpid())
    return [first, child, second]


@durable_task(name="tests-ajourney", input=Journey, retries=5)
async def ajourney(ctx: DurableContext[Journey]) -> list[Any]:
    """The same side by side, on the loop."""
    told = ctx.input
    tell(told.path, "start", told.name, os.getpid())

    async def branch(number: int) -> list[Any]:
        first = await ctx.astep(effect, f"{told.name}: {number}.1")
        child = await ctx.arun(pupil.bind(told.path, f"{told.name}.{number}"))
        await ctx.asleep(timedelta(seconds=told.seconds * number))
        second = await ctx.astep(effect, f"{told.name}: {number}.2")
        return [first, child, second]

    found = await asyncio.gather(branch(1), branch(2))
    tell(told.path, "end", told.name, os.getpid())
    return list(found)


@durable_task(name="tests-nap", input=Journey)
def nap(ctx: DurableContext[Journey]) -> str:
    """Sleep without a slot."""
    tell(ctx.input.path, "start", ctx.input.name, os.getpid())
    ctx.sleep(timedelta(seconds=ctx.input.seconds))
    return ctx.input.name


def napping(name: str, eviction: Eviction | None) -> Any:
    """`nap` and an async one with a policy."""

    @durable_task(name=f"tests-{name}-nap", input=Journey, eviction=eviction)
    def sync(ctx: DurableContext[Journey]) -> str:
        tell(ctx.input.path, "start", ctx.input.name, os.getpid())
        ctx.sleep(timedelta(seconds=ctx.input.seconds))
        return ctx.input.name

    @durable_task(name=f"tests-{name}-anap", input=Journey, eviction=eviction)
    async def on_loop(ctx: DurableContext[Journey]) -> str:
        tell(ctx.input.path, "start", ctx.input.name, os.getpid())
        await ctx.asleep(timedelta(seconds=ctx.input.seconds))
        return ctx.input.name

    return sync, on_loop


stay, astay = napping("stay", None)
roomy, aroomy = napping("roomy", Eviction(ttl=None))
brief, abrief = napping("brief", Eviction(ttl=timedelta(seconds=1)))


@durable_task(
    name="tests-patient", input=Journey, eviction=Eviction(ttl=timedelta(seconds=1))
)
def patient(ctx: DurableContext[Journey]) -> list[str]:
    """Wait for an event, or for as long as that takes."""
    tell(ctx.input.path, "start", ctx.input.name, os.getpid())
    result = ctx.wait_for(
        EventCondition("acceptance", scope=ctx.input.name)
        | SleepCondition(timedelta(seconds=ctx.input.seconds), name="late")
    )
    return list(result)


@durable_task(
    name="tests-teacher", input=Journey, eviction=Eviction(ttl=timedelta(seconds=0.5))
)
def teacher(ctx: DurableContext[Journey]) -> list[str]:
    """Children that take longer and longer, with the slot given back in between."""
    tell(ctx.input.path, "start", ctx.input.name, os.getpid())
    return [
        ctx.run(pupil.bind(ctx.input.path, f"{ctx.input.name}-{n}", n * 0.5))
        for n in range(1, 4)
    ]


@durable_task(name="tests-lonely", input=Journey, isolated=True)
def lonely(ctx: DurableContext[Journey]) -> list[Any]:
    """A journey in a process of its own."""
    told = ctx.input
    tell(told.path, "start", told.name, os.getpid())
    first = ctx.step(effect, f"{told.name}: 1")
    child = ctx.run(pupil.bind(told.path, told.name))
    ctx.sleep(timedelta(seconds=told.seconds))
    return [first, child]


spawning = workflow("tests-spawning", input=Journey)


@spawning.task(retries=2, execution_timeout=timedelta(seconds=1))
def hasty(ctx: Context[Journey]) -> str:
    """Spawn a child and take too long, each time."""
    ctx.spawn(pupil.bind(ctx.input.path, ctx.input.name, 2.0))
    for _ in range(200):
        time.sleep(0.05)
        ctx.check_cancelled()
    return "too late"


@task(name="tests-crowd", takes_context=True)
def crowd(ctx: Context[Any], path: str, size: int) -> int:
    """Spawn very many children; the most memory that the process had, in MB."""
    elsewhere = pupil.using(queue_name="tests-nobody")
    ctx.spawn_many(elsewhere.bind(path, f"child {n}") for n in range(size))
    status = Path("/proc/self/status").read_text()
    [peak] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(peak.split()[1]) // 1024
