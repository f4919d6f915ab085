"""Says: what is written twice is there once, and trouble keeps nobody from settling."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

import psycopg
import pytest

from orchestrator import ids
from orchestrator.engine import says
from orchestrator.engine.says import Said
from orchestrator.voices import Outbox, Voice
from orchestrator.worker.scribe import Scribe
from tests.engine.lab import Lab, task


@pytest.fixture
def box() -> Outbox:
    return Outbox()


def voice_of(box: Outbox, run_id: UUID, ordinal: int = 0, attempt: int = 1) -> Voice:
    return Voice(box, run_id, ids.task_run_id(run_id, ordinal), attempt)


def messages(lab: Lab, run_id: UUID, shape: Any) -> list[str]:
    return [line.message for line in says.lines(lab.session, run_id, shape, limit=100)]


def test_what_is_written_twice_is_there_once(lab: Lab, box: Outbox) -> None:
    shape = lab.shape("wf")
    run_id = lab.enqueue_one(shape)
    voice = voice_of(box, run_id)
    voice.log("a line", "INFO", {"n": 1})
    voice.stream("a chunk")
    said = box.take()
    says.write(lab.session, said)
    says.write(lab.session, said)
    assert (lab.count("log_line"), lab.count("stream_chunk")) == (1, 1)
    assert messages(lab, run_id, shape) == ["a line"]


def test_chunks_are_read_in_parts_and_never_twice(lab: Lab, box: Outbox) -> None:
    shape = lab.shape("wf", task("a"), task("b"))
    run_id = lab.enqueue_one(shape)
    first, second = voice_of(box, run_id), voice_of(box, run_id, attempt=2)
    other = voice_of(box, run_id, 1)
    for number in range(5):
        first.stream(f"a1-{number}")
    for number in range(5):
        other.stream(f"b1-{number}")
        second.stream(f"a2-{number}")
    says.write(lab.session, box.take())
    seen = says.unseen(run_id, shape)
    read: list[Any] = []
    more = True
    while more:
        part, more = says.chunks(lab.session, run_id, seen, limit=3)
        read += part
    assert len(read) == len(set(read)) == 15
    of_a = [chunk for chunk in read if chunk.startswith("a")]
    assert of_a == [f"a{attempt}-{n}" for attempt in (1, 2) for n in range(5)]
    assert [c for c in read if c.startswith("b")] == [f"b1-{n}" for n in range(5)]
    assert says.chunks(lab.session, run_id, seen) == ([], False)


def test_a_refresh_extends_the_lease_of_its_own_attempt_alone(
    lab: Lab, box: Outbox
) -> None:
    shape = lab.shape("wf", execution_timeout=10)
    run_id = lab.enqueue_one(shape)
    claim = lab.main.claim_one()
    left = (
        "SELECT extract(epoch FROM timeout_at - claimed_at)::int"
        " FROM orchestrator_lease"
    )
    voice_of(box, run_id, attempt=claim.attempt + 1).more(5.0)
    says.write(lab.session, box.take())
    assert lab.value(left) == 10
    voice_of(box, run_id, attempt=claim.attempt).more(5.0)
    voice_of(box, run_id, attempt=claim.attempt).more(7.0)
    for more in box.take().more:
        says.write(lab.session, Said(more=[more]))
    assert lab.value(left) == 22


def test_the_progress_of_what_ends_goes_before_its_end(lab: Lab, box: Outbox) -> None:
    lab.shape("wf")
    lab.enqueue(lab.shapes[0], 2)
    ending, staying = lab.main.claim(2)
    scribe = Scribe(box)
    for claim in (ending, staying):
        voice_of(box, claim.run_id).progress(1, 2, "")
    scribe.write(lab.session)
    assert lab.count("progress") == 2
    result = lab.completed(ending)
    voice_of(box, ending.run_id).progress(2, 2, "")
    scribe.before(lab.session, [result])
    assert lab.rows("SELECT task_run_id FROM orchestrator_progress") == [
        (staying.task_run_id,)
    ]
    lab.main.exchange([result])
    lab.main.complete(staying)
    assert says.sweep(lab.session) == 1


def test_trouble_is_kept_for_later_and_lets_results_pass(
    lab: Lab, box: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    shape = lab.shape("wf")
    run_id = lab.enqueue_one(shape)
    voice = voice_of(box, run_id)
    voice.log("first", "INFO", {})
    scribe = Scribe(box)
    holder = lab.connect()
    lab.main.connection.execute("SET lock_timeout = '50ms'")
    with holder.transaction():
        holder.execute("LOCK TABLE orchestrator_log_line IN ACCESS EXCLUSIVE MODE")
        with caplog.at_level(logging.WARNING, "orchestrator"):
            scribe.before(lab.session, [])
    assert "written later" in caplog.text
    voice.log("second", "INFO", {})
    scribe.write(lab.session)
    assert messages(lab, run_id, shape) == ["first", "second"]
    assert not box.waiting


def test_a_lost_connection_is_the_engines_to_mend(lab: Lab, box: Outbox) -> None:
    shape = lab.shape("wf")
    run_id = lab.enqueue_one(shape)
    voice_of(box, run_id).log("kept", "INFO", {})
    hand = lab.hand(fresh=True)
    hand.connection.close()
    with pytest.raises(psycopg.OperationalError):
        Scribe(box).write(hand.session)
    Scribe(box).finish(hand.session)
    Scribe(box).write(lab.session)
    assert messages(lab, run_id, shape) == ["kept"]


def test_what_the_database_refuses_is_dropped_and_counted(
    lab: Lab, box: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    shape = lab.shape("wf")
    run_id = lab.enqueue_one(shape)
    voice = voice_of(box, run_id)
    voice.log("refused", "INFO", {})
    said = box.take()
    bad = said.lines[0]._replace(text='{"level": "a level that is too long"}')
    box.put_back(Said(lines=[bad]), delay=0.0)
    scribe = Scribe(box)
    with caplog.at_level(logging.WARNING, "orchestrator"):
        scribe.write(lab.session)
    assert "1 lines and chunks of tasks were dropped" in caplog.text
    voice.log("fine", "INFO", {})
    scribe.write(lab.session)
    assert messages(lab, run_id, shape) == ["fine"]
