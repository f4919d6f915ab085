from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.exceptions import InvalidDefinition
from orchestrator.policies import Eviction, Retry

SECOND = timedelta(seconds=1)


def test_delays_grow_by_the_factor_up_to_the_maximum() -> None:
    retry = Retry(9, initial=SECOND, factor=3, max=20 * SECOND, jitter=False)
    delays = [retry.delay(number) for number in range(1, 6)]
    assert delays == [SECOND * seconds for seconds in (1, 3, 9, 20, 20)]


def test_a_number_retries_without_a_delay() -> None:
    retry = Retry.of(3)
    assert retry.attempts == 3
    assert retry.delay(2) == timedelta(0)


def test_a_policy_stays_what_it_is() -> None:
    retry = Retry(2)
    assert Retry.of(retry) is retry


def test_jitter_takes_a_random_part_and_never_nothing() -> None:
    retry = Retry(1, initial=8 * SECOND)
    assert retry.delay(1, random=lambda: 0.0) == 8 * SECOND
    assert retry.delay(1, random=lambda: 0.75) == 2 * SECOND
    assert retry.delay(1, random=lambda: 1 - 2**-53) > timedelta(0)


@given(
    number=st.integers(min_value=1, max_value=10**6),
    initial=st.timedeltas(timedelta(microseconds=1), timedelta(days=365)),
    ceiling=st.timedeltas(timedelta(microseconds=1), timedelta(days=365)),
    factor=st.floats(min_value=1, max_value=1000),
    jitter=st.booleans(),
)
def test_a_delay_never_overflows_and_never_exceeds_the_maximum(
    number: Any, initial: Any, ceiling: Any, factor: Any, jitter: Any
) -> None:
    initial, ceiling = sorted([initial, ceiling])
    retry = Retry(1, initial=initial, factor=factor, max=ceiling, jitter=jitter)
    assert timedelta(0) < retry.delay(number) <= ceiling


@given(
    st.builds(
        Retry,
        st.integers(min_value=0, max_value=100),
        initial=st.timedeltas(timedelta(0), timedelta(days=1)),
        factor=st.floats(min_value=1, max_value=1000),
        max=st.timedeltas(timedelta(days=1), timedelta(days=2)),
        jitter=st.booleans(),
    )
)
def test_a_policy_survives_json(retry: Any) -> None:
    data = retry.to_dict()
    assert Retry.from_dict(json.loads(json.dumps(data))) == retry
    assert Retry.from_dict(data).to_dict() == data


def test_what_is_absent_in_data_has_its_default() -> None:
    assert Retry.from_dict({"attempts": 0}) == Retry(0)


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": -1},
        {"attempts": True},
        {"attempts": "3"},
        {"attempts": 10_001},
        {"attempts": 1, "initial": 5},
        {"attempts": 1, "initial": -SECOND},
        {"attempts": 1, "max": timedelta(days=366)},
        {"attempts": 1, "initial": timedelta(hours=1)},
        {"attempts": 1, "factor": 0.5},
        {"attempts": 1, "factor": "2"},
        {"attempts": 1, "factor": float("nan")},
    ],
)
def test_a_policy_that_cannot_work_is_refused(options: Any) -> None:
    with pytest.raises(InvalidDefinition, match=r"give|write"):
        Retry(**options)


def test_an_eviction_frees_the_slot_at_once_unless_it_says_otherwise() -> None:
    assert Eviction().to_dict() == {"ttl": 0.0, "capacity": True, "priority": 0}
    assert not Eviction().keeps
    assert Eviction(SECOND).keeps
    assert Eviction(None, capacity=False).to_dict()["ttl"] is None


@pytest.mark.parametrize(
    "options",
    [{"ttl": 5}, {"ttl": -SECOND}, {"capacity": 1}, {"priority": True}],
)
def test_an_eviction_that_cannot_work_is_refused(options: Any) -> None:
    with pytest.raises(InvalidDefinition, match="Eviction"):
        Eviction(**options)
