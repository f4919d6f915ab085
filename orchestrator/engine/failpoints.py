"""Named points where a crash hurts. Inert unless a test arms them.

`ORCHESTRATOR_FAILPOINTS="settle.after=kill@3,claim.committed=sleep:2"` arms points of
a process at its start: `kill` and `stop` send that signal to the process, `raise`
raises ConnectionError, `sleep:SECONDS` waits. `@N` acts on the N-th hit alone.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import Counter

logger = logging.getLogger("orchestrator")

POINTS = (
    "claim.committed",
    "settle.before",
    "settle.after",
    "settle.replied",
    "journal.before",
    "journal.after",
    "spawn.created",
    "waits.written",
    "suspend.before",
    "suspend.after",
    "resume.before",
    "resume.after",
    "rescue.before",
    "promote.before",
)


def _parse(text: str) -> dict[str, tuple[str, float, int | None]]:
    armed = {}
    for part in filter(None, text.split(",")):
        name, _, rest = part.partition("=")
        action, _, number = rest.partition("@")
        verb, _, seconds = action.partition(":")
        if name not in POINTS or verb not in ("kill", "stop", "raise", "sleep"):
            raise ValueError(
                f"ORCHESTRATOR_FAILPOINTS: {part!r} is not <point>=<action>; points "
                f"are {', '.join(POINTS)}, actions kill, stop, raise, sleep:SECONDS."
            )
        armed[name] = (verb, float(seconds or 0), int(number) if number else None)
    return armed


_armed = _parse(os.environ.get("ORCHESTRATOR_FAILPOINTS", ""))
_hits: Counter[str] = Counter()


def hit(name: str) -> None:
    """Act as armed; does nothing in a process where no point is."""
    if not _armed or name not in _armed:
        return
    verb, seconds, number = _armed[name]
    _hits[name] += 1
    if number is not None and _hits[name] != number:
        return
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif verb == "sleep":
        time.sleep(seconds)
    else:
        logger.warning("Failpoint %s raises.", name)
        raise ConnectionError(f"Failpoint {name}.")
