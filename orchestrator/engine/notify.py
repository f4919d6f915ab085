"""Notify: hints that something is there. Polling finds it all the same.

Sent after the commit, never inside the caller's transaction, since a commit with a
notification takes a lock of the whole database; at most one for each queue and process
every 20 ms, the first one at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable
from uuid import UUID

import psycopg
from django.db import Error as DjangoError

from orchestrator.conf import settings
from orchestrator.engine.sessions import Session, statements

logger = logging.getLogger("orchestrator")

QUEUE_CHANNEL = "orchestrator_queue"
CONTROL_CHANNEL = "orchestrator_control"
FEED_CHANNEL = "orchestrator_feed"
CHANNELS = (QUEUE_CHANNEL, CONTROL_CHANNEL, FEED_CHANNEL)

INTERVAL = 0.020  # seconds between two hints about one queue
FEED_IDS = 50  # run ids a hint to the feed, which stays far below 8,000 bytes

_lock = threading.Lock()
_sent: dict[int, float] = {}


def wake(session: Session, queue_ids: Collection[int]) -> None:
    """Tell the workers of these queues, once the transaction has committed."""
    if settings.listen and queue_ids:
        wanted = frozenset(queue_ids)
        session.on_commit(lambda: _wake(session, wanted))


def control(session: Session, word: str) -> None:
    """Tell all workers, once the transaction has committed: `cancel` to look for
    leases that are gone, `feed` to send hints for open pages, `tend` to route and
    judge what waits."""
    if settings.listen:
        session.on_commit(lambda: _send(session, CONTROL_CHANNEL, [word]))


def tend(session: Session) -> None:
    """Tell that there is something to route or to judge, after the commit."""
    control(session, "tend")


def feed(session: Session, run_ids: Iterable[UUID]) -> None:
    """Tell open pages which runs have changed; `*` where they are too many."""
    if not settings.listen:
        return
    named = [str(run_id) for run_id in run_ids]
    payload = ",".join(named) if len(named) <= FEED_IDS else "*"
    _send(session, FEED_CHANNEL, [payload])


def _wake(session: Session, queue_ids: Iterable[int]) -> None:
    now = time.monotonic()
    with _lock:
        due = [q for q in queue_ids if now - _sent.get(q, 0.0) >= INTERVAL]
        for queue_id in due:
            _sent[queue_id] = now
    if due:
        _send(session, QUEUE_CHANNEL, [str(queue_id) for queue_id in due])


def _send(session: Session, channel: str, payloads: list[str]) -> None:
    params = {"channel": channel, "payloads": payloads}
    try:
        session.send(statements("notify")["notify"], params)
    except (psycopg.Error, DjangoError) as error:
        # What it is about is committed: an error would have it done a second time.
        logger.warning("A hint was not sent, polling makes up for it: %s", error)
