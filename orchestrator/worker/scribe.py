"""The scribe: writes what the attempts of a child have said."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

from orchestrator.engine import says
from orchestrator.engine.faults import Fault, kind_of
from orchestrator.engine.sessions import Session
from orchestrator.engine.settle import Result
from orchestrator.voices import Outbox

logger = logging.getLogger("orchestrator")

AGAIN = 1.0  # seconds until what could not be written is tried again


class Scribe:
    """Writes an outbox on the connection of the engine thread, its only user."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox

    def before(self, session: Session, results: Sequence[Result]) -> None:
        """Write what was said, before these results are settled.

        So whoever sees the end of a run and reads once more has read everything. The
        progress of task runs that end goes with it.
        """
        outbox = self.outbox
        if outbox.progressed:
            outbox.forget(
                result.claim.task_run_id for result in results if result.final
            )
        if outbox.waiting:
            self.write(session)

    def write(self, session: Session) -> None:
        """Write all that waits. What goes wrong here keeps no result back, unless the
        connection is gone, which is raised: then both wait for the next one."""
        while self.outbox.waiting:
            said = self.outbox.take()
            try:
                says.write(session, said)
            except Exception as error:
                kind = kind_of(error)
                if kind is Fault.DATA:
                    self.outbox.drop(said)
                    logger.error("What tasks have said is refused.", exc_info=error)
                    continue
                self.outbox.put_back(said, delay=AGAIN)
                if kind is Fault.CONNECTION:
                    raise
                logger.warning("What tasks have said is written later: %s", error)
                return
        dropped = self.outbox.count_dropped()
        if dropped:
            logger.warning("%d lines and chunks of tasks were dropped.", dropped)

    def finish(self, session: Session) -> None:
        """Write what is left at the end of the process, if that is possible."""
        with contextlib.suppress(Exception):
            self.write(session)
