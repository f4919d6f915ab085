"""Placing orders, and what the world tells about them."""

from __future__ import annotations

from django.db import transaction

from orchestrator import events

from .models import Order, Product
from .workflows import Placed, fulfil_order

PRODUCTS = (
    ("mug", "A mug", 1_200, 100),
    ("chair", "A chair", 24_900, 20),
    ("piano", "A piano", 899_000, 2),
)


def stock_shelves() -> None:
    """Have something to sell, where there is nothing."""
    for sku, name, price, stock in PRODUCTS:
        defaults = {"name": name, "price": price, "stock": stock}
        Product.objects.get_or_create(sku=sku, defaults=defaults)


def place(sku: str, quantity: int = 1, *, card: str = "good") -> Order:
    """Place an order. The order and its run commit together, or neither does."""
    with transaction.atomic():
        product = Product.objects.get(sku=sku)
        order = Order.objects.create(product=product, quantity=quantity, card=card)
        target = fulfil_order.using(metadata={"order": str(order.pk)})
        order.run_id = target.enqueue(Placed(order.pk)).id
        order.save(update_fields=["run_id"])
    return order


def approve(order_id: int) -> None:
    """A person looked at an expensive order and likes it."""
    events.push("order:approved", {"order": order_id})


def delivered(order_id: int, signed_by: str = "") -> None:
    """The carrier says that the parcel has arrived."""
    events.push("parcel:delivered", {"order": order_id, "signed_by": signed_by})
