"""Connections that async tasks use, in threads that are no slots."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created

from orchestrator.worker import hygiene

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    """Connections are noticed while a test runs, which begins without one."""
    connection.close()
    hygiene.install()
    yield
    connection.close()
    connection_created.disconnect(dispatch_uid="orchestrator.worker")
    vars(connections["default"]).pop("close_if_health_check_failed", None)


def test_a_task_that_starts_during_a_transaction_of_another_one_leaves_it_alone() -> (
    None
):
    with transaction.atomic():
        Group.objects.create(name="one")
        hygiene.arm_elsewhere()
    with transaction.atomic():
        Group.objects.create(name="two")
    assert connection.get_autocommit()
    assert _seen_by_others() == 2


def test_a_check_between_two_statements_of_a_transaction_keeps_it_whole() -> None:
    with transaction.atomic():
        Group.objects.create(name="one")
        hygiene.arm_elsewhere()
        Group.objects.create(name="two")
        transaction.set_rollback(True)
    assert _seen_by_others() == 0


def test_a_connection_that_the_server_closed_is_replaced_for_the_next_task(
    second_connection: Callable[[], psycopg.Connection[tuple[int]]],
) -> None:
    for number in range(2):
        Group.objects.create(name=f"queue {number}")
        pid = connection.connection.info.backend_pid
        second_connection().execute("SELECT pg_terminate_backend(%s, 2000)", [pid])
        hygiene.arm_elsewhere()
    assert Group.objects.count() == 2


def _seen_by_others() -> int:
    found: list[int] = []

    def look() -> None:
        found.append(Group.objects.count())
        connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]
