"""How much of each measure a run takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """Counts per round. Fast and slow peers drain different numbers of tasks."""

    rounds: int
    drain: int
    drain_slow: int
    """Tasks of a burst; of one behind a backlog at most ``behind_slow``."""
    behind_slow: int
    bursts: int
    """Bursts per worker start; their median is the round's figure."""
    single: int
    bulk_calls: int
    """Calls of 1,000 tasks."""
    samples: int
    """Latency samples."""
    backlog: int
    chains: int
    chains_slow: int
    idle_seconds: float
    limit: float
    """Seconds after which a drain is cut short and its rate so far is taken."""


PROFILES = {
    # Does it work? A minute; the figures mean nothing.
    "smoke": Profile(
        rounds=1, drain=2_000, drain_slow=200, behind_slow=20, bursts=1, single=50,
        bulk_calls=2, samples=20, backlog=30_000, chains=300, chains_slow=50,
        idle_seconds=3, limit=10,
    ),
    # Ratios good to perhaps a fifth. Ten minutes.
    "short": Profile(
        rounds=3, drain=20_000, drain_slow=1_500, behind_slow=60, bursts=1, single=500,
        bulk_calls=10, samples=100, backlog=750_000, chains=3_000, chains_slow=300,
        idle_seconds=10, limit=15,
    ),
    # For a quiet machine. Most of an hour.
    "full": Profile(
        rounds=5, drain=50_000, drain_slow=5_000, behind_slow=200, bursts=3,
        single=2_000, bulk_calls=30, samples=300, backlog=750_000, chains=10_000,
        chains_slow=1_000, idle_seconds=10, limit=30,
    ),
}  # fmt: skip
