from __future__ import annotations

import time
import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator import ids

TIMES = st.integers(min_value=0, max_value=2**48 - 200)
INTEGERS = st.integers(min_value=0, max_value=10**6)


@given(TIMES)
def test_uuid7_carries_its_time_and_version(milliseconds: Any) -> None:
    made = ids.uuid7(milliseconds)
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert milliseconds <= ids.milliseconds_of(made) <= milliseconds + 101
    assert ids.floor_uuid(milliseconds) <= made


def test_ids_made_one_after_the_other_are_in_order() -> None:
    now = time.time_ns() // 1_000_000
    made = [ids.uuid7(now) for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert ids.milliseconds_of(made[-1]) - now < 10


def test_a_clock_that_was_set_back_is_followed() -> None:
    ids.uuid7(10**12)
    assert ids.milliseconds_of(ids.uuid7(10**12 - 60_000)) == 10**12 - 60_000


def test_uuid7_defaults_to_now() -> None:
    made = ids.milliseconds_of(ids.uuid7())
    assert abs(made - time.time_ns() // 1_000_000) < 1000


@given(TIMES, INTEGERS)
def test_derived_ids_stay_in_the_range_of_their_parent(
    milliseconds: Any, ordinal: Any
) -> None:
    parent = ids.uuid7(milliseconds)
    child = ids.task_run_id(parent, ordinal)
    assert (child.version, child.variant) == (8, uuid.RFC_4122)
    assert ids.milliseconds_of(child) == ids.milliseconds_of(parent)


def test_derived_ids_are_the_same_every_time_and_differ_from_one_another() -> None:
    run_id = ids.uuid7()
    tasks = [ids.task_run_id(run_id, ordinal) for ordinal in range(1000)]
    attempts = [ids.attempt_id(task, 1) for task in tasks]
    assert tasks == [ids.task_run_id(run_id, ordinal) for ordinal in range(1000)]
    assert len({run_id, *tasks, *attempts}) == 2001


def test_ordinals_and_kinds_cannot_be_confused() -> None:
    run_id = ids.uuid7(0)
    assert ids.derive(run_id, b"a", 11) != ids.derive(run_id, b"a1", 1)


def test_definition_ids_are_positive_63_bit_and_keep_names_apart() -> None:
    found = [
        ids.definition_id(*names)
        for names in (("a",), ("a", ""), ("a", "bc"), ("ab", "c"), ("", "abc"))
    ]
    assert len(set(found)) == len(found)
    assert all(0 < number < 2**63 for number in found)


def test_definition_ids_never_change() -> None:
    # They are stored: another value would lose every queue and workflow.
    assert ids.definition_id("queue", "default") == 846_405_287_080_111_473


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_a_lane_keeps_the_upper_bits_and_leaves_room_below(task_id: Any) -> None:
    lane = ids.lane_of(task_id)
    assert lane % 2**31 == 0
    assert lane >> 31 == task_id >> 31
