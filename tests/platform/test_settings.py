from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.django_db
def test_the_database_is_postgresql_and_named_for_tests() -> None:
    assert connection.vendor == "postgresql"
    assert connection.settings_dict["NAME"].startswith("test_orchestrator")


@pytest.mark.django_db
def test_a_child_process_finds_the_running_tests_database() -> None:
    script = (
        "import django; django.setup()\n"
        "from django.db import connection\n"
        "cursor = connection.cursor()\n"
        "cursor.execute('SELECT current_database()')\n"
        "print(cursor.fetchone()[0])"
    )
    child = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout.strip() == connection.settings_dict["NAME"]


@pytest.mark.django_db(transaction=True)
def test_second_connections_are_separate_sessions(
    second_connection: Callable[[], psycopg.Connection[Any]],
) -> None:
    one, two = second_connection(), second_connection()
    assert one.info.backend_pid != two.info.backend_pid
    assert one.autocommit
