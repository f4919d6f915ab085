"""Clock: ids take their time from the database, whatever this machine believes."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from orchestrator import ids
from orchestrator.engine import clock
from tests.engine.lab import Lab

HOUR = 3_600.0


@pytest.fixture(autouse=True)
def _unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_measured_at", None)


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets this machine's wall clock ahead by so many seconds."""
    usual = time.time

    def by(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: usual() + seconds)

    return by


def difference(lab: Lab) -> float:
    """Seconds between the database's clock and that of a new run's id."""
    run_id = lab.enqueue_one(lab.shape("one"))
    now = lab.value("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8")
    return float((ids.milliseconds_of(run_id) - now) / 1000)


@pytest.mark.parametrize("skew", [-HOUR, -1.0, 0.0, 1.0, HOUR, 24 * 365 * HOUR])
def test_a_wrong_clock_is_put_right(
    lab: Lab, wrong: Callable[[float], None], skew: float
) -> None:
    wrong(skew)
    assert abs(difference(lab)) < 1


@pytest.mark.parametrize("jump", [-HOUR, HOUR, 24 * 365 * HOUR])
def test_a_clock_that_jumps_is_noticed_at_once(
    lab: Lab, wrong: Callable[[float], None], jump: float
) -> None:
    """It was set, or a test travels by it: no partition may be there for such ids."""
    assert abs(difference(lab)) < 1
    wrong(jump)
    assert abs(difference(lab)) < 1


def test_it_is_measured_once_a_minute(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = lab.shape("one")
    lab.enqueue_one(shape)
    measured = clock._measured_at
    lab.enqueue(shape, 10)
    assert clock._measured_at == measured
    monkeypatch.setattr(clock, "_REMEASURE", 0.0)
    lab.enqueue_one(shape)
    assert clock._measured_at != measured


def test_ids_of_one_process_hardly_ever_go_back(lab: Lab) -> None:
    shape = lab.shape("one")
    times = [ids.milliseconds_of(lab.enqueue_one(shape)) for _ in range(50)]
    assert times == sorted(times)
