"""``python -m benchmarks``: measure, print the table and the floors."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks import measures, peers, report
from benchmarks.bench import Bench
from benchmarks.profiles import PROFILES
from benchmarks.server import Server, server
from benchmarks.stamps import Stamps


def main() -> int:
    """Returns the exit status: 1 if something broke or, with --gate, a floor is
    missed, 130 when interrupted."""
    options = _parser().parse_args()
    # Also where a parent shell has switched SIGINT off for its background jobs.
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _directory() as directory, server(directory / "postgres") as postgres:
            return _run(options, directory, postgres)
    except KeyboardInterrupt:
        print("interrupted; nothing is left running", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=(
            "Ours beside its peers on one PostgreSQL: a private one with default "
            "settings, or that of BENCH_DATABASE_URL (a role that may create "
            "databases; it makes and drops its own, named orchestrator_bench_…)."
        ),
    )
    parser.add_argument("--profile", choices=PROFILES, default="short")
    parser.add_argument(
        "--only", nargs="+", metavar="PEER", choices=peers.NAMES, default=peers.NAMES,
        help="peers to run: " + ", ".join(peers.NAMES),
    )  # fmt: skip
    parser.add_argument(
        "--measure", nargs="+", metavar="MEASURE", default=list(measures.MEASURES),
        help="by name or first part of it: " + ", ".join(measures.MEASURES),
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, help="instead of the profile's")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--gate", action="store_true", help="fail if a floor is missed")
    return parser


def _run(options: argparse.Namespace, directory: Path, postgres: Server) -> int:
    chosen = _measures(options.measure)
    profile = PROFILES[options.profile]
    stamps = Stamps(directory / "stamps")
    bench = Bench(postgres, stamps, profile, _peers(options.only, directory, postgres))
    figures = report.Figures()
    broken: list[str] = []
    with contextlib.closing(bench):
        for number in range(options.rounds or profile.rounds):
            figures.round = number
            _round(bench, chosen, figures, broken)
        versions = _versions(bench, postgres)
    names = [peer.name for peer in bench.peers]
    lines, good = report.verdicts(figures, peers.OURS)
    print("\n".join([*versions, "", report.table(figures, names, peers.OURS), ""]))
    print("(n×): ours / peer, the median of the turns.  *: cut short at the limit")
    if peers.OURS in names:
        print("\n".join(["", "Floors", *lines]))
    if options.json:
        options.json.write_text(json.dumps(_data(options, versions, figures), indent=1))
    for text in broken:
        print(f"broken: {text}", file=sys.stderr)
    return 1 if broken or (options.gate and not good) else 0


def _round(
    bench: Bench, chosen: list[str], figures: report.Figures, broken: list[str]
) -> None:
    """Every measure once. What breaks is noted, and the rest goes on."""
    for name in chosen:
        if name in measures.ONCE and figures.round:
            continue
        with _noting(broken, name):
            measures.MEASURES[name](bench, figures)
            _progress(bench, figures, name)


@contextlib.contextmanager
def _noting(broken: list[str], what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        broken.append(f"{what}: {type(error).__name__}: {error}")


def _progress(bench: Bench, figures: report.Figures, measure: str) -> None:
    for metric in figures.metrics():
        if not metric.startswith(measure):
            continue
        said = "   ".join(
            f"{peer.name} {' '.join(map(report.number, values))}"
            for peer in bench.peers
            if (values := figures.of_round(metric, peer.name))
        )
        if said:
            print(f"round {figures.round + 1}  {metric:13}  {said}", file=sys.stderr)


def _measures(asked: list[str]) -> list[str]:
    """All whose names begin with one of those asked for."""
    for text in asked:
        if not any(name.startswith(text) for name in measures.MEASURES):
            raise SystemExit(
                f"no such measure: {text}; there are {', '.join(measures.MEASURES)}"
            )
    return [name for name in measures.MEASURES if name.startswith(tuple(asked))]


def _peers(names: list[str], directory: Path, postgres: Server) -> list[peers.Peer]:
    """Those that can run here; says why another cannot."""
    found: list[peers.Peer] = []
    for name in peers.NAMES:
        if name not in names:
            continue
        try:
            adapter = peers.load(name)
        except ImportError as error:
            why = f"{error}: pip install -r requirements/bench.txt"
        else:
            why = adapter.missing()
            if not why:
                own = directory / name
                own.mkdir()
                found.append(adapter(own, directory / "stamps", postgres.url(name)))
        if why:
            print(f"{name} is left out: {why}", file=sys.stderr)
    return found


def _versions(bench: Bench, postgres: Server) -> list[str]:
    machine = f"{os.cpu_count()} CPUs, {platform.system()} {platform.release()}"
    return [
        f"Python {platform.python_version()}, {postgres.version()}, {machine}",
        *(f"{peer.name:14} {peer.version()}" for peer in bench.peers),
    ]


def _data(
    options: argparse.Namespace, versions: list[str], figures: report.Figures
) -> dict[str, Any]:
    return {
        "profile": options.profile,
        "versions": versions,
        "load": os.getloadavg(),
        **figures.data(),
        "floors": report.floors_data(figures, peers.OURS),
    }


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """A private directory that is gone at the end, with the server's data in it."""
    directory = Path(tempfile.mkdtemp(prefix="orchestrator-bench-"))
    # The account of the server must pass through to its own directory.
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Stop, once: a second signal must not leave half of the processes running."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
