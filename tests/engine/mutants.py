"""What a mutant is, and those of the statements that route, judge and ripen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tests.engine import test_conditions_races, test_judge, test_ripen, test_route
from tests.engine.lab import Lab

Killer = Callable[[Lab], None]


class Mutant(NamedTuple):
    """What is replaced in which file, and the tests that notice."""

    verb: str
    old: str
    new: str
    killers: tuple[Killer, ...]


LOCK = r"\n    FOR UPDATE SKIP LOCKED"

CONDITIONS = {
    "an event counts by its time alone": Mutant(
        "route",
        r"event\.xid <> condition\.xid",
        "false",
        (test_conditions_races.test_an_event_whose_transaction_is_open_for_long,),
    ),
    "a look back by the time alone": Mutant(
        "look_back",
        r"event\.xid <> condition\.xid",
        "false",
        (
            partial(
                test_conditions_races.test_an_event_counts_once,
                pushed="before it opens",
                committed="before it is written",
                expression="true",
                routed="at once",
            ),
        ),
    ),
    "a wait opens when it is written": Mutant(
        "enqueue",
        r"pg_current_snapshot\(\)::text",
        "'999999999:999999999:'",
        (
            partial(
                test_conditions_races.test_an_event_counts_once,
                pushed="before it opens",
                committed="before it is written",
                expression="true",
                routed="at once",
            ),
        ),
    ),
    "route waits": Mutant(
        "route",
        "FOR UPDATE SKIP LOCKED",
        "FOR UPDATE",
        (
            test_route.test_a_condition_that_is_held_elsewhere_keeps_its_event,
            test_route.test_two_routers_take_different_events,
        ),
    ),
    "an event of another scope": Mutant(
        "route",
        r"ANY \(ARRAY\['', event\.scope\]\)",
        "ANY (ARRAY['', 'me'])",
        (
            partial(
                test_route.test_scopes,
                wanted="me",
                pushed="you",
                expected=False,
                expression="true",
            ),
        ),
    ),
    "judge without locking the runs": Mutant(
        "judge",
        LOCK,
        "",
        (test_judge.test_a_run_that_is_locked_elsewhere_is_left_for_later,),
    ),
    "ripe before its time": Mutant(
        "ripen",
        r"condition\.due_at <= orchestrator_now\(\)",
        "condition.due_at IS NOT NULL",
        (test_ripen.test_a_sleep_is_over_at_its_time,),
    ),
    "a start that begins no wait": Mutant(
        "judge",
        r"WHEN start\.id IS NULL",
        "WHEN true",
        (test_ripen.test_a_run_of_later_is_looked_at_at_its_time,),
    ),
    "judge leaves conditions behind": Mutant(
        "judge",
        r"DELETE FROM orchestrator_wait_condition\nWHERE id IN",
        "DELETE FROM orchestrator_wait_condition WHERE false AND id IN",
        (test_judge.test_what_is_decided_leaves_no_condition,),
    ),
}
