"""The timeline of what is being executed; `tests/test_timeline.py` has the rest."""

from __future__ import annotations

from orchestrator.models import TaskRun
from tests.engine.lab import AT_ONCE, Lab


def test_what_is_being_executed_has_been_claimed(lab: Lab) -> None:
    run_id = lab.enqueue_one(lab.shape("one", retries=AT_ONCE))
    lab.main.fail(lab.main.claim_one())
    claim = lab.main.claim_one()
    moments = TaskRun.objects.get(run_id=run_id).timeline()
    assert [(m.kind.value, m.attempt) for m in moments] == [
        ("ENQUEUED", 0),
        ("STARTED", 1),
        ("STOPPED", 1),
        ("STARTED", claim.attempt),
    ]
    assert moments[-1].text == "Attempt 2 was claimed."
