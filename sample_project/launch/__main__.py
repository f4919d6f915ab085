"""``python -m sample_project.launch [--once]``: see ``make run``, ``make demo``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from types import FrameType

import django

from orchestrator.conf import settings
from sample_project.launch.prepare import CannotStart, demo_sign_in, prepare_database
from sample_project.launch.processes import Child, Group, say
from sample_project.launch.web import LOOPBACK, free_port, is_listening

MANAGE = [sys.executable, "manage.py"]
JOB = "index_library"

GRACE_SECONDS = 30  # a little longer than a worker's own
CRASH_SECONDS = 5  # who dies sooner would only die again
WEB_SECONDS = 60


def main() -> int:
    arguments = _parse()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sample_project.settings")
    # SIGINT as well: a shell that starts us in the background leaves it ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    group = Group(dict(os.environ))
    try:
        return _once(group) if arguments.once else _serve(group, arguments.port)
    except CannotStart as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        say("\nStopping …")
        return 130 if arguments.once else 0
    finally:
        group.stop(grace=GRACE_SECONDS)
        # What follows is the orderly end of the embedded server: not to be cut off.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def _serve(group: Group, first_port: int) -> int:
    """Web, worker, scheduler and the main job, until somebody says stop."""
    _prepare()
    sign_in = demo_sign_in()
    try:
        port = free_port(first_port)
    except OSError as error:
        raise CannotStart(str(error)) from error
    web = group.start("web", _daphne(port))
    _start_workers(group)
    _await_web(web, port)
    say(f"\n  Admin: http://{LOOPBACK}:{port}/admin/")
    say(f"         {sign_in}")
    say("         Ctrl-C ends everything.\n")
    job: Child | None = group.start("library", [*MANAGE, JOB])
    while True:
        time.sleep(0.2)
        if job is not None and job.fate() is not None:
            say(_verdict(job))
            group.forget(job)
            job = None
        _revive(group, except_for=job)


def _once(group: Group) -> int:
    """Worker, scheduler and the main job; returns the job's exit code."""
    _prepare()
    _start_workers(group)
    job = group.start("library", [*MANAGE, JOB])
    while job.fate() is None:
        time.sleep(0.1)
        _revive(group, except_for=job)
    code = job.process.returncode
    say(_verdict(job))
    return code if code >= 0 else 1


def _prepare() -> None:
    say("Preparing the database …")
    django.setup()
    prepare_database()


def _start_workers(group: Group) -> None:
    group.start("worker", [*MANAGE, "runworker"])
    group.start("scheduler", [*MANAGE, "runscheduler"])


def _daphne(port: int) -> list[str]:
    options = ["--bind", LOOPBACK, "--port", str(port), "--verbosity", "0"]
    return [sys.executable, "-m", "daphne", *options, "sample_project.asgi:application"]


def _await_web(web: Child, port: int) -> None:
    deadline = time.monotonic() + WEB_SECONDS
    while not is_listening(port):
        if web.fate() is not None:
            raise CannotStart(_post_mortem(web))
        if time.monotonic() > deadline:
            raise CannotStart(
                f"The web server does not listen on port {port} after "
                f"{WEB_SECONDS} s. Its output is above."
            )
        time.sleep(0.1)


def _revive(group: Group, *, except_for: Child | None) -> None:
    """Start again what was killed. Raises CannotStart for what dies at its start."""
    for child in group.ended():
        if child is except_for:
            continue
        if child.lived() < CRASH_SECONDS:
            raise CannotStart(_post_mortem(child))
        say(
            f"\nThe {child.name} (process {child.process.pid}) {child.fate()}. "
            f"Starting another; nothing that was enqueued is lost."
        )
        if child.name == "worker":
            seconds = settings.lost_after.total_seconds()
            say(f"What it was doing is taken up again after {seconds:.0f} s.")
        say()
        group.restart(child)


def _verdict(job: Child) -> str:
    if job.process.returncode == 0:
        return "\nThe main job is done.\n"
    return (
        f"\nThe main job {job.fate()}: its output is above. "
        f"Once more: python manage.py {JOB}\n"
    )


def _post_mortem(child: Child) -> str:
    alone = " ".join(["python", *child.command[1:]])
    return (
        f"The {child.name} {child.fate()} {child.lived():.0f} s after its start, so "
        f"everything was stopped. Its output is above; to see it alone: {alone}"
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sample_project.launch",
        description="Run the sample: web, worker and scheduler, and its main job.",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="run the main job without the web server, and end with its exit code",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=int(os.environ.get("PORT", "8000")),
        help="the first port to try on 127.0.0.1 (default: PORT or 8000)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
