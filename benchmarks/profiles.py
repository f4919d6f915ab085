"""How much of each measure a run takes."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.peers import Peer


@dataclass(frozen=True)
class Profile:
    """Counts per round. Fast and slow peers drain different numbers of tasks."""

    rounds: int
    """How often everything starts anew, from fresh databases."""
    bursts: int
    """Turns that each peer's workers take in a round, one drain a turn."""
    drain: int
    drain_slow: int
    behind_slow: int
    """Tasks of a slow peer's drain behind the backlog."""
    chains: int
    chains_slow: int
    turns: int
    """Turns of enqueueing in a round."""
    single: int
    bulk_calls: int
    """Tasks, and calls of 1,000 tasks, in a turn."""
    samples: int
    """Latency samples of each peer."""
    backlog: int
    idle_seconds: float
    durable: int
    waits: int
    sleepers: int
    """Durable tasks of a drain, waits on one event, and tasks that sleep."""
    limit: float
    """Seconds after which a drain is cut short and its rate so far is taken."""

    def drained(self, peer: Peer) -> int:
        """Tasks of a drain."""
        return self.drain_slow if peer.pace == "slow" else self.drain

    def behind(self, peer: Peer) -> int:
        """Tasks of a drain behind the backlog."""
        return self.behind_slow if peer.pace == "slow" else self.drain

    def chained(self, peer: Peer) -> int:
        """Chains of a drain."""
        return self.chains_slow if peer.pace == "slow" else self.chains


PROFILES = {
    # Does it work? A minute or two; the figures mean nothing.
    "smoke": Profile(
        rounds=1, bursts=1, drain=2_000, drain_slow=200, behind_slow=20, chains=300,
        chains_slow=50, turns=2, single=25, bulk_calls=1, samples=20, backlog=30_000,
        idle_seconds=3, durable=300, waits=500, sleepers=500, limit=10,
    ),
    # Ratios good to perhaps a tenth. Eight minutes.
    "short": Profile(
        rounds=2, bursts=3, drain=15_000, drain_slow=600, behind_slow=40, chains=2_000,
        chains_slow=200, turns=5, single=100, bulk_calls=3, samples=150,
        backlog=750_000, idle_seconds=10, durable=3_000, waits=20_000,
        sleepers=10_000, limit=15,
    ),
    # For a quiet machine. Most of an hour.
    "full": Profile(
        rounds=5, bursts=5, drain=40_000, drain_slow=3_000, behind_slow=100,
        chains=10_000, chains_slow=1_000, turns=10, single=300, bulk_calls=5,
        samples=300, backlog=750_000, idle_seconds=10, durable=20_000, waits=100_000,
        sleepers=10_000, limit=30,
    ),
}  # fmt: skip
