"""Partitions: contiguous ranges, made ahead, whoever makes them and whenever.

On tables of their own, with the database's date replaced (reliability F39, F40).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.test import override_settings

from orchestrator import ids
from orchestrator.engine import partitions
from orchestrator.engine.sessions import statements
from tests.engine.lab import Lab
from tests.engine.pool import rolled_back
from tests.engine.races import Background, together, wait_until_blocked

TABLE = "lab_history"


class Calendar:
    """Partitions of the lab's table, as of a date that the test chooses."""

    def __init__(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lab = lab
        self._monkeypatch = monkeypatch

    def today(self, moment: str) -> None:
        found = dict(statements("partitions"))
        text = found["partitions"].decode()
        assert text.count("statement_timestamp()") == 1
        text = text.replace("statement_timestamp()", f"timestamptz '{moment}'")
        found["partitions"] = text.encode()
        self._monkeypatch.setattr(partitions, "statements", lambda verb: found)

    def ensure(self, by: str = "month", ahead: int = 3) -> list[str]:
        options = {"PARTITION_BY": by, "PARTITIONS_AHEAD": ahead}
        with override_settings(ORCHESTRATOR=options):
            return partitions.ensure(self.lab.session, (TABLE,))

    def ranges(self) -> list[tuple[date | None, date | None]]:
        """From and to of each partition, in order; None is without an end."""
        rows = self.lab.rows(
            "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i"
            " JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = %s::regclass",
            TABLE,
        )
        found = [_range(text) for [text] in rows]
        return sorted(found, key=lambda pair: pair[0] or date.min)

    def insert(self, moment: datetime) -> UUID:
        key = ids.uuid7(round(moment.timestamp() * 1000))
        self.lab.main.connection.execute(
            f"INSERT INTO {TABLE} VALUES (%s)".encode(), [key]
        )
        return key


def _range(text: str) -> tuple[date | None, date | None]:
    def moment(part: str) -> date | None:
        if part in ("MINVALUE", "MAXVALUE"):
            return None
        milliseconds = ids.milliseconds_of(UUID(part.strip("'")))
        found = datetime.fromtimestamp(milliseconds / 1000, UTC)
        assert found.time().isoformat() == "00:00:00"
        return found.date()

    low, high = text.removeprefix("FOR VALUES FROM (").removesuffix(")").split(") TO (")
    return moment(low), moment(high)


@pytest.fixture
def calendar(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calendar]:
    connection = lab.main.connection
    connection.execute(
        f"CREATE TABLE {TABLE} (id uuid PRIMARY KEY, status varchar(9) CHECK"
        " (status <> '')) PARTITION BY RANGE (id)".encode()
    )
    connection.execute(f"CREATE INDEX ON {TABLE} (status)".encode())
    yield Calendar(lab, monkeypatch)
    connection.execute(f"DROP TABLE {TABLE}".encode())


day = date.fromisoformat


def test_the_first_one_has_no_beginning_and_the_rest_follow(
    calendar: Calendar,
) -> None:
    calendar.today("2025-05-17 12:00+00")
    assert calendar.ensure() == [
        f"{TABLE}_2025_05_01",
        f"{TABLE}_2025_06_01",
        f"{TABLE}_2025_07_01",
        f"{TABLE}_2025_08_01",
    ]
    assert calendar.ranges() == [
        (None, day("2025-06-01")),
        (day("2025-06-01"), day("2025-07-01")),
        (day("2025-07-01"), day("2025-08-01")),
        (day("2025-08-01"), day("2025-09-01")),
    ]
    assert calendar.ensure() == []


@pytest.mark.parametrize("ahead", [0, 1, 12])
def test_as_many_are_made_ahead_as_the_setting_says(
    calendar: Calendar, ahead: int
) -> None:
    calendar.today("2025-05-17 12:00+00")
    assert len(calendar.ensure(ahead=ahead)) == ahead + 1


def test_a_new_year_begins(calendar: Calendar) -> None:
    calendar.today("2025-12-31 23:59:59.999+00")
    assert calendar.ensure(ahead=1) == [f"{TABLE}_2025_12_01", f"{TABLE}_2026_01_01"]
    calendar.today("2026-01-01 00:00+00")
    assert calendar.ensure(ahead=1) == [f"{TABLE}_2026_02_01"]
    edge = datetime(2026, 1, 1, tzinfo=UTC)
    places = [
        calendar.insert(edge - timedelta(milliseconds=1)),
        calendar.insert(edge),
    ]
    found = dict(calendar.lab.rows(f"SELECT id, tableoid::regclass::text FROM {TABLE}"))
    assert [found[key] for key in places] == [
        f"{TABLE}_2025_12_01",
        f"{TABLE}_2026_01_01",
    ]


@pytest.mark.parametrize("zone", ["-12:00", "+00:00", "+05:45", "+14:00"])
def test_bounds_are_those_of_utc_wherever_the_server_is(
    calendar: Calendar, zone: str
) -> None:
    calendar.today(f"2025-12-31 11:00{zone}")
    calendar.ensure(ahead=0)
    assert calendar.ranges() == [(None, day("2026-01-01"))]


def test_a_leap_day_is_a_day(calendar: Calendar) -> None:
    calendar.today("2028-02-28 10:00+00")
    assert calendar.ensure("day", ahead=2) == [
        f"{TABLE}_2028_02_28",
        f"{TABLE}_2028_02_29",
        f"{TABLE}_2028_03_01",
    ]
    calendar.today("2028-02-29 23:59:59+00")
    assert calendar.ensure("day", ahead=2) == [f"{TABLE}_2028_03_02"]


def test_a_leap_february_is_a_month(calendar: Calendar) -> None:
    calendar.today("2028-01-31 10:00+00")
    calendar.ensure(ahead=2)
    assert calendar.ranges()[1:] == [
        (day("2028-02-01"), day("2028-03-01")),
        (day("2028-03-01"), day("2028-04-01")),
    ]


@pytest.mark.parametrize("by", ["month", "day"])
def test_a_long_downtime_leaves_no_gap(calendar: Calendar, by: str) -> None:
    calendar.today("2025-03-30 12:00+00")
    calendar.ensure(by, ahead=1)
    calendar.today("2026-09-05 12:00+00")
    calendar.ensure(by, ahead=2)
    ranges = calendar.ranges()
    for (_, end), (start, _) in itertools.pairwise(ranges):
        assert start == end
    for moment in ("2025-03-30", "2025-07-01", "2026-09-05"):
        calendar.insert(datetime.fromisoformat(f"{moment}T11:00:00+00:00"))
    # The time of the downtime lies in one wide range.
    assert len(ranges) == 2 + 3


def test_year_after_year_there_is_a_place_for_now(calendar: Calendar) -> None:
    moment = datetime(2024, 1, 31, 12, tzinfo=UTC)
    for _ in range(30):
        calendar.today(moment.isoformat())
        calendar.ensure(ahead=1)
        calendar.insert(moment)
        calendar.insert(moment + timedelta(days=28))
        moment += timedelta(days=27, hours=13)
    ranges = calendar.ranges()
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))


def test_none_is_one_for_all_times(calendar: Calendar) -> None:
    calendar.today("2025-05-17 12:00+00")
    assert calendar.ensure("none") == [f"{TABLE}_all"]
    assert calendar.ensure("none") == []
    assert calendar.ranges() == [(None, None)]


def test_after_none_there_is_nothing_more_to_make(calendar: Calendar) -> None:
    calendar.today("2025-05-17 12:00+00")
    calendar.ensure("none")
    assert calendar.ensure("month") == []
    assert calendar.ensure("day") == []


@pytest.mark.parametrize("change", [("month", "day"), ("day", "month")])
@pytest.mark.parametrize("moment", ["2025-11-01", "2025-11-20", "2025-11-30"])
@pytest.mark.timeout(30)
def test_the_period_may_be_changed_later(
    calendar: Calendar, change: tuple[str, str], moment: str
) -> None:
    before, after = change
    calendar.today(f"{moment} 12:00+00")
    calendar.ensure(before, ahead=3)
    calendar.ensure(after, ahead=3)
    later = datetime.fromisoformat(f"{moment}T12:00:00+00:00")
    for _ in range(5):
        calendar.today(later.isoformat())
        calendar.ensure(after, ahead=3)
        calendar.insert(later)
        later += timedelta(days=31)
    ranges = calendar.ranges()
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))


def test_a_partition_is_as_its_parent(calendar: Calendar) -> None:
    calendar.today("2025-05-17 12:00+00")
    calendar.ensure(ahead=0)
    name = f"{TABLE}_2025_05_01"
    lab = calendar.lab
    indexes = lab.rows(
        "SELECT inhparent::regclass::text FROM pg_inherits JOIN pg_index"
        " ON indexrelid = inhrelid WHERE indrelid = %s::regclass ORDER BY 1",
        name,
    )
    assert indexes == [(f"{TABLE}_pkey",), (f"{TABLE}_status_idx",)]
    assert (
        lab.value(
            "SELECT count(*) FROM pg_constraint WHERE conrelid = %s::regclass"
            " AND contype = 'c'",
            name,
        )
        == 1
    )
    options = lab.value("SELECT reloptions FROM pg_class WHERE relname = %s", name)
    assert "fillfactor=90" in options


def test_several_makers_at_once_make_each_once(calendar: Calendar) -> None:
    other = calendar.lab.hand()
    month = datetime(2025, 1, 15, tzinfo=UTC)
    options = {"PARTITION_BY": "month", "PARTITIONS_AHEAD": 2}
    with override_settings(ORCHESTRATOR=options):
        for _ in range(12):
            calendar.today(month.isoformat())
            together(
                lambda: partitions.ensure(calendar.lab.session, (TABLE,)),
                lambda: partitions.ensure(other.session, (TABLE,)),
            )
            month += timedelta(days=31)
    ranges = calendar.ranges()
    assert len(ranges) == 3 + 11
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))


def test_inserts_go_on_while_a_partition_is_attached(calendar: Calendar) -> None:
    """Attaching does not wait for a writer, nor a writer for it."""
    calendar.today("2025-05-17 12:00+00")
    calendar.ensure(ahead=0)
    writer = calendar.lab.connect()
    key = ids.uuid7(round(datetime(2025, 5, 1, tzinfo=UTC).timestamp() * 1000))
    with writer.transaction():
        writer.execute(f"INSERT INTO {TABLE} VALUES (%s)".encode(), [key])
        making = Background(lambda: calendar.ensure(ahead=2))
        assert len(making.result()) == 2
        writer.execute(f"UPDATE {TABLE} SET status = 'X'".encode())


def test_it_gives_up_on_a_lock_in_time_and_goes_on_later(
    calendar: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "100ms")
    calendar.today("2025-05-17 12:00+00")
    calendar.ensure(ahead=0)
    other = calendar.lab.connect()
    with other.transaction():
        other.execute(f"LOCK TABLE {TABLE} IN SHARE UPDATE EXCLUSIVE MODE".encode())
        with pytest.raises(psycopg.errors.LockNotAvailable):
            calendar.ensure(ahead=1)
    assert calendar.ensure(ahead=1) == [f"{TABLE}_2025_06_01"]


def test_a_maker_that_rolls_back_leaves_no_table(calendar: Calendar) -> None:
    calendar.today("2025-05-17 12:00+00")
    with rolled_back(calendar.lab.session.transaction()):
        assert len(calendar.ensure(ahead=1)) == 2
    assert calendar.ranges() == []
    assert len(calendar.ensure(ahead=1)) == 2


@pytest.mark.parametrize("may_create", [False, True])
def test_a_role_that_does_not_own_the_table_is_warned_and_goes_on(
    calendar: Calendar, caplog: pytest.LogCaptureFixture, may_create: bool
) -> None:
    """A worker of that role starts: there is room until the last one is full."""
    calendar.today("2025-05-17 12:00+00")
    calendar.ensure(ahead=1)
    execute = calendar.lab.main.connection.execute
    role = f"poor_{ids.uuid7().hex}"  # roles are of the whole server
    execute(f"CREATE ROLE {role}".encode())
    if may_create:
        execute(f"GRANT CREATE ON SCHEMA public TO {role}".encode())
    try:
        execute(f"SET ROLE {role}".encode())
        assert calendar.ensure(ahead=2) == []
    finally:
        execute(b"RESET ROLE")
        execute(f"DROP OWNED BY {role}".encode())
        execute(f"DROP ROLE {role}".encode())
    assert "as the owner of the tables" in caplog.text
    assert calendar.ensure(ahead=2) == [f"{TABLE}_2025_07_01"]


def test_a_second_maker_waits_for_the_first(calendar: Calendar) -> None:
    calendar.today("2025-05-17 12:00+00")
    lab = calendar.lab
    other = lab.hand()
    options = {"PARTITION_BY": "month", "PARTITIONS_AHEAD": 0}
    with override_settings(ORCHESTRATOR=options):
        with lab.session.transaction():
            assert len(partitions.ensure(lab.session, (TABLE,))) == 1
            waiting = Background(lambda: partitions.ensure(other.session, (TABLE,)))
            wait_until_blocked(lab.connect(), other.connection)
        assert waiting.result() == [f"{TABLE}_2025_05_01"]
    assert len(calendar.ranges()) == 1


def test_the_history_tables_have_a_place_for_now(lab: Lab) -> None:
    """What the migration has made; every new run needs it."""
    assert partitions.ensure(lab.session) == []
    for table in partitions.TABLES:
        bounds: Any = lab.value(
            "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i"
            " JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = %s::regclass",
            table,
        )
        assert bounds == "FOR VALUES FROM (MINVALUE) TO (MAXVALUE)"
