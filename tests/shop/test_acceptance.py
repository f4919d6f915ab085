"""An order with real processes: its worker dies while it waits, and it arrives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sample_project.shop import orders
from sample_project.shop.models import Order, Product
from tests.acceptance.harness import Harness, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def harness(transactional_db: None, tmp_path: Path) -> Iterator[Harness]:
    made = Harness(tmp_path)
    yield made
    made.close()


def test_an_order_outlives_the_worker_that_began_it(harness: Harness) -> None:
    orders.stock_shelves()
    worker = harness.worker("--slots", "2")
    harness.scheduler()
    fine, declined = orders.place("mug"), orders.place("mug", card="declined")

    def becomes(order: Order, status: str) -> None:
        def is_so() -> bool:
            order.refresh_from_db()
            return order.status == status

        wait_until(is_so, f"{order} is {status}", detail=harness.logs)

    becomes(declined, Order.Status.FAILED)
    becomes(fine, Order.Status.SHIPPED)
    worker.kill()
    harness.worker("--slots", "2")
    orders.delivered(fine.pk, "ada")
    becomes(fine, Order.Status.DELIVERED)
    assert Product.objects.get(sku="mug").stock == 99
