"""The life of an order: days long, and never half done.

    reserve ── review ── charge ── deliver
                                              compensate, when one of them fails

`review` waits for a person, and only for expensive orders. `charge` speaks with a
gateway that fails now and then. `deliver` waits for the parcel to arrive, for two weeks
at most, and holds no slot meanwhile. Whatever fails, `compensate` gives back stock and
money.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from orchestrator import (
    Context,
    DurableContext,
    EventCondition,
    NonRetryable,
    ParentCondition,
    Retry,
    SleepCondition,
    workflow,
)

from . import gateway, stock
from .models import Order

EXPENSIVE = 50_000  # cents, from which on a person looks at an order
PATIENCE = timedelta(days=14)  # for a parcel


@dataclass(frozen=True)
class Placed:
    """An order that was placed."""

    order: int


@dataclass(frozen=True)
class Reserved:
    """What was taken out of the stock costs so many cents."""

    total: int


def key_of(order: Order) -> str:
    """What the gateway knows an order's charge by, however often it is asked."""
    return f"order-{order.reference}"


fulfil_order = workflow(
    "shop-order",
    input=Placed,
    description="Reserve, charge and deliver an order, or give everything back.",
)


@fulfil_order.task
def reserve(ctx: Context[Placed]) -> Reserved:
    """Take it out of the stock."""
    try:
        return Reserved(stock.reserve(ctx.input.order))
    except stock.OutOfStock as error:
        raise NonRetryable(str(error)) from error


@fulfil_order.task(
    parents=[reserve],
    skip_if=ParentCondition(reserve, f"output.total < {EXPENSIVE}"),
    wait_for=EventCondition(
        "order:approved", "payload.order == input.order", lookback=timedelta(days=1)
    ),
)
def review(ctx: Context[Placed]) -> None:
    """A person has approved it."""
    ctx.log("Approved.", order=ctx.input.order)


@fulfil_order.task(
    parents=[reserve, review], retries=Retry(5, initial=timedelta(seconds=1))
)
def charge(ctx: Context[Placed]) -> str:
    """Take the money. The key makes a second try find the first one's charge."""
    order = Order.objects.get(pk=ctx.input.order)
    total = ctx.output(reserve).total
    try:
        payment = gateway.charge(key_of(order), total, order.card)
    except gateway.Declined as error:
        raise NonRetryable(str(error)) from error
    stock.paid(order.pk, payment)
    return payment


@fulfil_order.durable_task(parents=[charge])
def deliver(ctx: DurableContext[Placed]) -> str:
    """Ship it, and wait for its arrival: days in which no worker is needed."""
    order = ctx.input.order
    ctx.step(stock.ship, order)
    outcome = ctx.wait_for(
        EventCondition(
            "parcel:delivered", "payload.order == input.order", name="delivered"
        )
        | SleepCondition(PATIENCE, name="lost")
    )
    if outcome.first == "lost":
        raise NonRetryable(f"The parcel did not arrive within {PATIENCE.days} days.")
    ctx.step(stock.deliver, order)
    return str(outcome["delivered"].get("signed_by", ""))


@fulfil_order.on_failure(retries=Retry(5, initial=timedelta(seconds=1)))
def compensate(ctx: Context[Placed]) -> None:
    """Give back the money and what was reserved."""
    order = Order.objects.get(pk=ctx.input.order)
    gateway.refund(key_of(order))
    stock.release(order.pk, "; ".join(error.message for error in ctx.errors.values()))
