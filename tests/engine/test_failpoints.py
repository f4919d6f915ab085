"""Failpoints: inert unless armed, and where the verbs pass by."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from orchestrator.engine import failpoints
from orchestrator.engine.promote import promote
from orchestrator.engine.rescue import rescue
from tests.engine.lab import AT_ONCE, Hand, Lab

PROGRAM = """
import sys
from orchestrator.engine import failpoints
for n in range(int(sys.argv[1])):
    failpoints.hit("settle.after")
    print("passed", n, flush=True)
"""


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Arms points in this process."""
    monkeypatch.setattr(failpoints, "_hits", Counter())

    def set_to(text: str) -> None:
        monkeypatch.setattr(failpoints, "_armed", failpoints._parse(text))

    return set_to


def run(points: str, hits: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(hits)],
        env={**os.environ, "ORCHESTRATOR_FAILPOINTS": points},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_they_are_inert_where_nobody_armed_them() -> None:
    assert failpoints._armed == {}
    for name in (*failpoints.POINTS, "nonsense"):
        failpoints.hit(name)


def test_an_armed_process_dies_at_the_hit_that_was_named() -> None:
    died = run("settle.after=kill@3", 5)
    assert died.returncode == -signal.SIGKILL
    assert died.stdout == "passed 0\npassed 1\n"


def test_an_armed_process_stops_and_goes_on() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "2"],
        env={**os.environ, "ORCHESTRATOR_FAILPOINTS": "settle.after=stop@2"},
        stdout=subprocess.PIPE,
        text=True,
    )
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    output, _ = process.communicate(timeout=30)
    assert output == "passed 0\npassed 1\n"


def test_a_raise_is_a_broken_connection_each_time(arm: Callable[[str], None]) -> None:
    arm("settle.before=raise")
    for _ in range(2):
        with pytest.raises(ConnectionError, match=r"settle\.before"):
            failpoints.hit("settle.before")
    failpoints.hit("settle.after")


def test_a_sleep_waits(arm: Callable[[str], None]) -> None:
    arm("promote.before=sleep:0.05@2")
    began = time.monotonic()
    failpoints.hit("promote.before")
    assert time.monotonic() - began < 0.05
    failpoints.hit("promote.before")
    assert time.monotonic() - began >= 0.05


@pytest.mark.parametrize("text", ["nope=kill", "settle.after=explode", "settle.after"])
def test_what_cannot_be_armed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ORCHESTRATOR_FAILPOINTS"):
        failpoints._parse(text)


def test_every_point_is_passed_by_some_verb() -> None:
    sources = "".join(
        path.read_text()
        for package in ("orchestrator.engine", "orchestrator.durable")
        for path in files(package).iterdir()
        if path.name.endswith(".py")
    )
    assert set(re.findall(r'failpoints\.hit\("([^"]+)"\)', sources)) == set(
        failpoints.POINTS
    )


# What a crash at each of them leaves behind is mended by the usual means.


def crash(function: Callable[[], Any]) -> None:
    with pytest.raises(ConnectionError):
        function()


def test_a_crash_before_the_settling_has_settled_nothing(
    lab: Lab, arm: Callable[[str], None]
) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    claim = lab.main.claim_one()
    arm("settle.before=raise@1")
    crash(lambda: lab.main.complete(claim))
    assert lab.places(run_id)["a"] == "leased"
    assert lab.main.complete(claim).accepted == 1


@pytest.mark.parametrize("point", ["settle.after", "settle.replied"])
def test_a_crash_after_the_settling_has_settled_it_once(
    lab: Lab, arm: Callable[[str], None], point: str
) -> None:
    run_id = lab.enqueue_one(lab.diamond())
    claim = lab.main.claim_one()
    arm(f"{point}=raise@1")
    crash(lambda: lab.main.complete(claim))
    assert lab.places(run_id) == {"b": "queued", "c": "queued", "d": "pending"}
    result = lab.completed(claim)
    assert lab.main.exchange([result]).refused == [result]
    assert lab.main.drain() == 3


def test_a_crash_after_the_claims_commit_orphans_nothing(
    lab: Lab, arm: Callable[[str], None]
) -> None:
    lab.enqueue(lab.shape("one"), 3)
    dead: Hand = lab.hand()
    arm("claim.committed=raise@1")
    crash(dead.claim)
    assert lab.count("lease") == 3
    assert rescue(lab.session, dead.worker_id, started=[]) == 3
    assert {c.attempt for c in lab.main.claim()} == {1}


def test_a_crash_in_a_rescue_is_made_up_for(
    lab: Lab, arm: Callable[[str], None]
) -> None:
    lab.enqueue_one(lab.shape("one", retries=AT_ONCE))
    dead = lab.hand()
    dead.claim_one()
    arm("rescue.before=raise@1")
    crash(lambda: rescue(lab.session, dead.worker_id))
    assert rescue(lab.session, dead.worker_id) == 1


def test_a_crash_in_a_promotion_has_moved_nothing(
    lab: Lab, arm: Callable[[str], None]
) -> None:
    shape = lab.shape("one", retries={**AT_ONCE, "initial": 60, "max": 60})
    run_id = lab.enqueue_one(shape)
    lab.main.fail(lab.main.claim_one())
    lab.main.travel(minutes=2)
    arm("promote.before=raise@1")
    crash(lambda: promote(lab.session))
    assert lab.places(run_id) == {"one": "backoff"}
    assert promote(lab.session) == 1
