"""The engine thread of a child: settle what came back, claim what comes next.

One loop in one thread. While an exchange waits for the database, the slots execute what
the one before it claimed; so settling one batch, executing the next and claiming the
one after it overlap. Nothing that goes wrong with the database ends the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from uuid import UUID

from orchestrator import registry
from orchestrator.engine import leases, notify, queues, versions
from orchestrator.engine.claim import Claim, Demand, WorkerKey
from orchestrator.engine.exchange import exchange
from orchestrator.engine.faults import Backoff, Fault, kind_of
from orchestrator.engine.give_back import give_back
from orchestrator.engine.links import Link
from orchestrator.engine.outputs import parent_outputs
from orchestrator.engine.settle import Result
from orchestrator.engine.tend import tend
from orchestrator.hosts import Host
from orchestrator.voices import Outbox
from orchestrator.worker import execute
from orchestrator.worker.appetite import Appetite
from orchestrator.worker.batches import Gatherer
from orchestrator.worker.board import Board, supervisor_silence
from orchestrator.worker.execute import Work
from orchestrator.worker.hands import Hands
from orchestrator.worker.orders import Orders
from orchestrator.worker.residents import Residents
from orchestrator.worker.scribe import Scribe

logger = logging.getLogger("orchestrator")

BATCH = 100  # results that are settled without waiting for more
GATHER = 0.0015  # seconds that a result waits for others while slots are busy
LOOK_AFTER = 0.05  # seconds between two looks at what runs for too long
FEED_INTERVAL = 0.1  # seconds between two hints to open pages
BUGS = 10  # unexplained failures in a row after which the child is replaced

REPLACE_ME = 75  # exit code: not a crash, start another one at once


class Engine:
    """The state of the loop. All methods are for its own thread."""

    def __init__(
        self,
        key: WorkerKey,
        hands: Hands,
        appetite: Appetite,
        board: Board,
        orders: Orders,
        housekeeping: float,
        host: Host | None = None,
        residents: Residents | None = None,
        gatherer: Gatherer | None = None,
    ) -> None:
        self.key = key
        self.hands = hands
        self.appetite = appetite
        self.board = board
        self.orders = orders
        self.housekeeping = housekeeping  # seconds between two reconciliations
        self.patience = supervisor_silence()
        self.link = Link(f"Child {key.child_id}")
        self.trouble = Backoff(0.05, 5.0)
        self.resume_at = 0.0
        self.reconciled_at = 0.0
        self.looked_at = 0.0
        self.changed: set[UUID] = set()
        self.feed_at = 0.0
        self.retiring = self.tended = False
        self.outbox = Outbox(hands.mailbox.ring)
        self.host = Host(worker_id=key.worker_id) if host is None else host
        self.host.outlet = self.outbox
        self.scribe = Scribe(self.outbox)
        self.residents = residents
        self.gatherer = gatherer

    # The loop.

    def run(self) -> int:
        """Serve until drained, stopped or worn out; the exit code."""
        while True:
            self.board.beat_child()
            now = monotonic()
            self.hands.collect(now)
            if now >= self.looked_at + LOOK_AFTER:
                self.look_after(now)
            if self.leaving:
                self.hand_back(self.hands.withdraw())
            if self.done():
                if self.link.is_open:
                    self.scribe.finish(self.link.session)
                return self.exit_code()
            if not self.step(now):
                self.wait(now)

    def exit_code(self) -> int:
        """How the supervisor is to take the end of `run`."""
        if self.hands.stalled:
            return 1
        return REPLACE_ME if self.retiring else 0

    @property
    def drained(self) -> bool:
        """Whether nothing runs any more that might use what the process has set up."""
        return self.hands.empty and not self.hands.abandoned

    @property
    def leaving(self) -> bool:
        """Whether it finishes what runs and then ends."""
        return self.orders.draining or self.retiring

    def done(self) -> bool:
        """Whether there is nothing left to wait for, or no time."""
        if self.hands.stalled:
            return True
        if self.orders.stop_now:
            return not self.hands.finished or not self.link.is_open
        return self.leaving and self.hands.empty

    def step(self, now: float) -> bool:
        """Speak with the database if there is anything to say; whether it did."""
        if now < self.resume_at or not self.connected():
            return False
        due = self.due(now)
        if due is not None:
            self.attempt(due)
        return due is not None or self.orders.tend

    def due(self, now: float) -> Callable[[], object] | None:
        """What comes next, if anything does."""
        if self.orders.reconcile or now >= self.reconciled_at + self.housekeeping:
            return self.reconcile
        if self.orders.tend and not self.tended:
            return self.tend
        self.tended = False
        if now >= self.outbox.due_at:
            return lambda: self.scribe.write(self.link.session)
        residents = self.residents
        if residents is not None and now >= residents.due_at:
            return lambda: residents.look(self.link.session)
        gatherer = self.gatherer
        if gatherer and self.claims() and gatherer.due(now, woken=self.orders.woken):
            return lambda: gatherer.look(self)
        ready = self.ready_to_settle(now)
        demand = self.demand(now, along=ready)
        if ready or demand is not None:
            # What has come back goes out in any case, once something goes out.
            return lambda: self.exchange(self.hands.results(now), demand)
        if self.changed and now >= self.feed_at + FEED_INTERVAL:
            return self.send_feed
        return None

    def wait(self, now: float) -> None:
        """Sleep until a result, a word of the supervisor or the next thing due."""
        hands = self.hands
        until = now + 2 * LOOK_AFTER if hands.running else now + 1.0
        wanted = 1
        if not self.link.is_open:
            until = min(until, now + self.link.retry_in)
        elif self.resume_at > now:
            until = min(until, self.resume_at)
        else:
            if hands.finished:
                until = min(until, max(hands.finished_at + GATHER, hands.settle_at))
                wanted = max(1, BATCH - len(hands.finished))
            until = min(until, self.outbox.due_at)
            if self.residents is not None:
                until = min(until, self.residents.due_at)
            if self.claims():
                until = min(until, self.appetite.next_look())
                if self.gatherer is not None:
                    until = min(until, self.gatherer.next_look())
            if self.changed:
                until = min(until, self.feed_at + FEED_INTERVAL)
        hands.mailbox.sleep(until - now, wanted)

    def look_after(self, now: float) -> None:
        """End what runs for too long, and return what does not get to start."""
        self.looked_at = now
        self.hands.give_up_overdue(now)
        if self.residents is not None:
            self.residents.evict(now, leaving=self.leaving)
        self.hand_back(self.hands.withdraw_stalled(now))
        if self.hands.worn_out(now):
            self.retire("functions have outlived their execution timeouts")

    def retire(self, why: str) -> None:
        """Finish what runs, then let the supervisor start another child."""
        if not self.retiring:
            logger.warning("Child %d is replaced: %s.", self.key.child_id, why)
            self.retiring = True

    # What to say.

    def ready_to_settle(self, now: float) -> bool:
        """Whether results go out now: many, or waited long enough, or all there is."""
        hands = self.hands
        if not hands.finished or now < hands.settle_at:
            return False
        return (
            len(hands.finished) >= BATCH
            or now - hands.finished_at >= GATHER
            or not hands.running
        )

    def claims(self) -> bool:
        """Whether this child may claim at all."""
        if self.leaving or self.orders.stop_now:
            return False
        return self.board.supervisor_silence() < self.patience

    def demand(self, now: float, *, along: bool) -> Demand | None:
        """What to claim now; with `along`, results go out in any case."""
        if self.orders.woken:
            self.orders.woken = False
            self.appetite.wake(now)
        return self.appetite.demand(now, along=along) if self.claims() else None

    # Saying it.

    def connected(self) -> bool:
        """Whether there is a connection; a new one begins with a reconciliation."""
        if not self.link.is_open and self.link.restore():
            self.orders.reconcile = True
        return self.link.is_open

    def attempt(self, step: Callable[[], object]) -> None:
        """Take a step, and act on what goes wrong by its kind.

        Nothing is lost by a failure: results stay in hand, and the next reconciliation
        returns claims whose reply did not arrive.
        """
        try:
            step()
        except Exception as error:
            self.failed(error)
        else:
            self.link.proved()

    def failed(self, error: Exception) -> None:
        """Decide when, and on which connection, it goes on."""
        kind = kind_of(error)
        self.orders.reconcile = True
        if kind is Fault.CONNECTION:
            self.link.drop(error)
            return
        self.resume_at = monotonic() + self.trouble.next()
        if kind is Fault.CONTENTION:
            logger.info("Trying an exchange again: %s", str(error).split("\n", 1)[0])
            return
        logger.error("An exchange failed (%s).", kind.value, exc_info=error)
        self.link.drop()
        if kind is Fault.BUG and self.trouble.failures >= BUGS:
            self.retire(f"{BUGS} exchanges in a row have failed")
            self.orders.stop_now = True

    def exchange(self, results: Sequence[Result], demand: Demand | None) -> None:
        """Settle what has finished, claim, and start what was claimed."""
        if results:
            self.scribe.before(self.link.session, results)
        exchanged = exchange(self.link.session, self.key, results, demand)
        self.trouble.reset()
        if results:
            self.hands.settled(exchanged)
        if exchanged.judge:
            self.orders.tend = True
        claims = exchanged.claims
        if demand is not None:
            self.appetite.answered(claims, monotonic())
        if claims:
            self.hands.submit(self.prepared(claims))
        if self.board.wants_feed():
            self.changed.update(result.claim.run_id for result in results)
            self.changed.update(claim.run_id for claim in claims)

    def tend(self) -> None:
        """Route and judge what waits; a scheduler does so, too, but not as soon."""
        # What has come back has its turn before the next time.
        self.tended, self.orders.tend = True, False
        if tend(self.link.session):
            self.orders.tend = True
        if self.residents is not None and self.residents.all():
            self.residents.look_soon()

    def prepared(self, claims: Sequence[Claim]) -> Iterable[Work]:
        """Claims as work for the slots; parents' outputs are fetched in one query."""
        session = self.link.session
        works = []
        children = False
        for claim in claims:
            shape = versions.shape(session, claim.version_id)
            definition = registry.task(claim.task_id)
            if shape is None or definition is None:
                continue  # the next reconciliation returns it
            work = execute.start(claim, definition, shape, {}, self.host)
            children = children or bool(work.node.parents)
            works.append(work)
        if children:
            outputs = parent_outputs(session, claims)
            for work in works:
                work.parents = outputs.get(work.claim.task_run_id, {})
        execute.load_journals(session, works)
        return works

    def reconcile(self) -> None:
        """Return what the database says is ours and we do not have; stop what is not.

        A lease is gone when its run was cancelled, or when this worker was declared
        lost: its function is told, and its report would be refused.
        """
        self.orders.reconcile = False
        self.reconciled_at = monotonic()
        if not self.appetite.strict:
            self.appetite.serve(queues.known(self.link.session))
        gone = leases.reconcile(self.link.session, self.key, self.hands.held())
        if gone:
            self.hands.stop(gone)
            self.outbox.forget(gone)

    def hand_back(self, works: Sequence[Work]) -> None:
        """Return claims at no cost; where that fails, reconciliation does it."""
        if not works or not self.link.is_open:
            return
        held = [
            (work.claim.run_id, work.claim.task_run_id, work.claim.attempt)
            for work in works
        ]
        self.attempt(lambda: give_back(self.link.session, self.key.worker_id, held))

    def send_feed(self) -> None:
        """Tell open pages which runs have changed."""
        changed, self.changed = self.changed, set()
        self.feed_at = monotonic()
        notify.feed(self.link.session, changed)
