"""CPU time of a peer's worker and of the server, from /proc (Linux; elsewhere none).

On a machine that others use at the same time the wall clock says little; the CPU time
of a task hardly changes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
# Fields of /proc/<pid>/stat behind the command's closing parenthesis.
PARENT, USER, SYSTEM = 1, 11, 12


@dataclass(frozen=True)
class Cpu:
    """Seconds used so far by processes that are still alive."""

    worker: float
    server: float

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(self.worker - other.worker, self.server - other.server)


def used(workers: set[int], postmaster: int | None) -> Cpu:
    """By a peer's workers and by a postmaster, each with all its descendants."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for directory in PROC.glob("[0-9]*"):
        try:
            stat = (directory / "stat").read_text()
        except OSError:
            continue  # it has ended
        fields = stat[stat.rindex(")") + 2 :].split()
        pid = int(directory.name)
        parents[pid] = int(fields[PARENT])
        ticks[pid] = int(fields[USER]) + int(fields[SYSTEM])

    def total(roots: set[int]) -> float:
        wanted = [pid for pid in ticks if _descends(pid, roots, parents)]
        return sum(ticks[pid] for pid in wanted) / os.sysconf("SC_CLK_TCK")

    return Cpu(total(workers), total({postmaster} if postmaster else set()))


def _descends(pid: int, roots: set[int], parents: dict[int, int]) -> bool:
    while pid:
        if pid in roots:
            return True
        pid = parents.get(pid, 0)
    return False
