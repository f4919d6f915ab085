"""Workflows that a test holds at a gate: a file that it makes when it has looked."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from orchestrator import Context, Retry, task, workflow

PATIENCE = 60.0  # seconds


def pass_gate(path: str) -> None:
    """Wait for the gate to be opened, by a file of that name."""
    end = time.monotonic() + PATIENCE
    while path and not Path(path).exists():
        if time.monotonic() > end:
            raise TimeoutError(f"Nobody opened {path}.")
        time.sleep(0.02)


pipeline = workflow("ui-pipeline", input=dict, description="Looks like real work.")


@pipeline.task
def discover(ctx: Context[dict[str, Any]]) -> list[str]:
    """Finds what there is."""
    pass_gate(ctx.input.get("discover", ""))
    return ["a", "b"]


@pipeline.task(parents=[discover])
def parse_readme(ctx: Context[dict[str, Any]]) -> int:
    """One branch."""
    pass_gate(ctx.input.get("parse", ""))
    return len(ctx.output(discover))


@pipeline.task(parents=[discover], retries=Retry(2, initial=timedelta(minutes=5)))
def parse_modules(ctx: Context[dict[str, Any]]) -> int:
    """The other branch, which may fail."""
    if ctx.input.get("fail"):
        raise ValueError(ctx.input["fail"])
    return 2


@pipeline.task(parents=[parse_readme, parse_modules])
def index(ctx: Context[dict[str, Any]]) -> dict[str, int]:
    """Where both meet."""
    return {"documents": ctx.output(parse_readme) + ctx.output(parse_modules)}


@pipeline.task(name="report", parents=[index])
def write_report(ctx: Context[dict[str, Any]]) -> str:
    """The end."""
    pass_gate(ctx.input.get("report", ""))
    return f"{ctx.output(index)['documents']} documents"


@task(name="ui-echo")
def echo(value: Any = None) -> Any:
    """Returns what it is given."""
    return value


@task(name="ui-fail")
def fail(message: str = "It broke.", gate: str = "") -> str:
    """Fails until its gate is open."""
    if gate and Path(gate).exists():
        return "mended"
    raise RuntimeError(message)


@task(name="ui-wait")
def wait(gate: str) -> str:
    """Runs until its gate is open."""
    pass_gate(gate)
    return "passed"
