"""Orders that take days, in milliseconds: how to test an application's workflows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from orchestrator import RunFailed, RunHandle
from orchestrator.models import Lease, TaskRun
from orchestrator.testing import assert_enqueued, drain, travel
from sample_project.shop import gateway, orders, workflows
from sample_project.shop.models import Order, Product

pytestmark = pytest.mark.django_db

MOMENT = timedelta(minutes=1)  # enough for any retry
STATUS = Order.Status


@pytest.fixture(autouse=True)
def _own_ledger(settings: Any, tmp_path: Path) -> None:
    settings.SHOP_LEDGER = tmp_path / "gateway.sqlite3"


@pytest.fixture(autouse=True)
def _shelves(db: None) -> None:
    orders.stock_shelves()


PassTime = Callable[..., None]


@pytest.fixture
def pass_time() -> Iterator[PassTime]:
    """Let time pass for the rest of the test, and do what is due then.

    A `with travel(…):` block would go back at its end, and what was pushed after it
    would come before what was waited for in it.
    """
    with ExitStack() as stack:

        def until(by: timedelta = MOMENT) -> None:
            for step in (by, MOMENT):  # what fails then is tried again a moment later
                stack.enter_context(travel(step))
                drain()

        yield until


def status(order: Order) -> str:
    order.refresh_from_db()
    return order.status


def stock(sku: str) -> int:
    return Product.objects.get(sku=sku).stock


def result(order: Order) -> Any:
    assert order.run_id
    return RunHandle.get(order.run_id).result()


def test_an_order_is_charged_although_the_gateway_fails_at_first(
    pass_time: PassTime,
) -> None:
    order = orders.place("mug", 3)
    drain()
    assert status(order) == STATUS.RESERVED
    pass_time()
    assert status(order) == STATUS.SHIPPED
    assert stock("mug") == 97
    assert gateway.ledger() == {f"pay-order-{order.reference}": 3_600}
    charged = TaskRun.objects.get(run_id=order.run_id or "", task__name="charge")
    assert charged.attempts == 2


def test_it_waits_for_its_parcel_and_holds_no_slot(pass_time: PassTime) -> None:
    order = orders.place("mug")
    drain()
    pass_time()
    assert not Lease.objects.exists()
    pass_time(timedelta(days=3))
    assert status(order) == STATUS.SHIPPED
    orders.delivered(order.pk, "ada")
    drain()
    assert status(order) == STATUS.DELIVERED
    assert result(order)["deliver"] == "ada"


def test_an_arrival_of_another_order_is_not_its_own(pass_time: PassTime) -> None:
    one, other = orders.place("mug"), orders.place("chair")
    drain()
    pass_time()
    orders.delivered(other.pk)
    drain()
    assert (status(one), status(other)) == (STATUS.SHIPPED, STATUS.DELIVERED)


def test_a_parcel_that_is_lost_gives_back_stock_and_money(pass_time: PassTime) -> None:
    order = orders.place("mug")
    drain()
    pass_time()
    pass_time(workflows.PATIENCE)
    assert status(order) == STATUS.FAILED
    assert "did not arrive within 14 days" in order.problem
    assert stock("mug") == 100
    assert set(gateway.ledger().values()) == {0}
    with pytest.raises(RunFailed):
        result(order)


def test_a_declined_card_is_not_asked_again_and_the_stock_comes_back(
    pass_time: PassTime,
) -> None:
    order = orders.place("mug", card=gateway.DECLINED)
    drain()
    pass_time()
    assert status(order) == STATUS.FAILED
    assert order.problem == "The card was declined."
    assert stock("mug") == 100
    assert gateway.ledger() == {}


def test_what_is_not_there_is_not_sold(pass_time: PassTime) -> None:
    order = orders.place("piano", 3)
    drain()
    pass_time()
    assert status(order) == STATUS.FAILED
    assert order.problem == "There are less than 3 left."
    assert stock("piano") == 2


def test_an_expensive_order_waits_for_a_person(pass_time: PassTime) -> None:
    order = orders.place("piano")
    drain()
    pass_time(timedelta(days=30))
    assert status(order) == STATUS.RESERVED
    assert gateway.ledger() == {}
    orders.approve(order.pk)
    drain()
    pass_time()
    assert status(order) == STATUS.SHIPPED


def test_an_order_whose_request_is_rolled_back_has_no_run() -> None:
    with pytest.raises(Product.DoesNotExist):
        orders.place("boat")
    assert_enqueued(workflows.fulfil_order, count=0)
    order = orders.place("mug")
    assert_enqueued(workflows.fulfil_order, input=workflows.Placed(order.pk), count=1)


# The page and the command.


def test_the_page_places_orders_and_tells_what_happened(
    client: Client, pass_time: PassTime
) -> None:
    shop = reverse("shop:shop")
    assert client.get(shop).status_code == 200
    assert client.get(reverse("shop:place")).status_code == 405
    client.post(reverse("shop:place"), {"sku": "mug"})
    order = Order.objects.get()
    drain()
    pass_time()
    html = client.get(shop).content.decode()
    assert STATUS.SHIPPED in html
    assert reverse("admin:orchestrator_run_change", args=(order.run_id,)) in html
    client.post(reverse("shop:tell", args=(order.pk,)), {"what": "delivered"})
    drain()
    assert status(order) == STATUS.DELIVERED
    assert client.post(reverse("shop:place"), {"sku": "boat"}).status_code == 404


def test_the_command_places_orders_and_tells_what_happened(pass_time: PassTime) -> None:
    out = StringIO()
    call_command("shop_order", "mug", quantity=2, stdout=out)
    order = Order.objects.get()
    assert f"Placed order {order.pk}" in out.getvalue()
    drain()
    pass_time()
    call_command("shop_order", delivered=order.pk, stdout=out)
    drain()
    assert status(order) == STATUS.DELIVERED
    with pytest.raises(CommandError, match="there are chair, mug, piano"):
        call_command("shop_order", "boat")
    with pytest.raises(CommandError, match="no order 0"):
        call_command("shop_order", approve=0)
