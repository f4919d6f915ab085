"""What the steps of an order do to the tables. Each changes an order from a status that
it expects and nothing else, so doing it twice is doing it once."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from .models import Order, Product

Status = Order.Status


class OutOfStock(Exception):
    """There is not as much left as was ordered."""


def reserve(order_id: int) -> int:
    """Take what was ordered out of the stock; what it costs. Raises OutOfStock."""
    with transaction.atomic():
        order = _locked(order_id)
        if order.status == Status.NEW:
            enough = Product.objects.filter(
                pk=order.product_id, stock__gte=order.quantity
            )
            if not enough.update(stock=F("stock") - order.quantity):
                raise OutOfStock(f"There are less than {order.quantity} left.")
            _set(order, Status.RESERVED)
    return order.total


def paid(order_id: int, payment: str) -> None:
    """Note the payment."""
    Order.objects.filter(pk=order_id, status=Status.RESERVED).update(
        status=Status.PAID, payment=payment
    )


def ship(order_id: int) -> None:
    """Hand it over to the carrier."""
    Order.objects.filter(pk=order_id, status=Status.PAID).update(status=Status.SHIPPED)


def deliver(order_id: int) -> None:
    """It has arrived."""
    Order.objects.filter(pk=order_id, status=Status.SHIPPED).update(
        status=Status.DELIVERED
    )


def release(order_id: int, problem: str) -> None:
    """Put back what was reserved, and say why."""
    with transaction.atomic():
        order = _locked(order_id)
        if order.status in (Status.RESERVED, Status.PAID, Status.SHIPPED):
            Product.objects.filter(pk=order.product_id).update(
                stock=F("stock") + order.quantity
            )
        order.problem = problem
        _set(order, Status.FAILED)


def _locked(order_id: int) -> Order:
    orders = Order.objects.select_for_update(of=("self",))
    return orders.select_related("product").get(pk=order_id)


def _set(order: Order, status: Status) -> None:
    order.status = status
    order.save(update_fields=["status", "problem"])
