"""Order something, or tell what happened to an order."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from sample_project.shop import orders
from sample_project.shop.models import Order, Product


class Command(BaseCommand):
    help = "Place an order in the sample shop, or tell what happened to one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group()
        what.add_argument("sku", nargs="?", help="What to order: mug, chair, piano.")
        what.add_argument("--approve", type=int, metavar="ORDER", help="Approve it.")
        what.add_argument(
            "--delivered", type=int, metavar="ORDER", help="Its parcel has arrived."
        )
        parser.add_argument("--quantity", type=int, default=1)
        parser.add_argument(
            "--card", default="good", help='"declined" is one without money.'
        )

    def handle(self, **options: Any) -> None:
        orders.stock_shelves()
        if options["approve"] is not None:
            orders.approve(self._known(options["approve"]))
        elif options["delivered"] is not None:
            orders.delivered(self._known(options["delivered"]), "the neighbour")
        elif options["sku"]:
            self._place(options["sku"], options["quantity"], options["card"])
        for order in Order.objects.select_related("product")[:10]:
            self.stdout.write(
                f"{order.pk:>5}  {order.quantity} × {order.product.sku:<8} "
                f"{order.status:<10}{order.problem}"
            )

    def _place(self, sku: str, quantity: int, card: str) -> None:
        if quantity < 1:
            raise CommandError("Order at least one: --quantity 1.")
        try:
            order = orders.place(sku, quantity, card=card)
        except Product.DoesNotExist:
            known = ", ".join(Product.objects.values_list("sku", flat=True))
            raise CommandError(f"There is no {sku!r}; there are {known}.") from None
        self.stdout.write(f"Placed order {order.pk}; its run is {order.run_id}.")

    def _known(self, pk: int) -> int:
        if not Order.objects.filter(pk=pk).exists():
            raise CommandError(f"There is no order {pk}.")
        return pk
