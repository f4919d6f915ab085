"""Ours beside its peers, in one run: ``python -m benchmarks --help``.

One PostgreSQL with its default settings, one Python, one machine, rounds in which
the peers take turns. Every worker is a process started as its users start it; every
task does nothing but stamp the time at which it began (``stamps``); a task counts as
done when its peer's own tables say so, after the commit.

``peers`` holds an adapter for each, ``apps`` and ``ours`` the code that a user of the
peer would write, ``measures`` what is measured, ``report`` the table and the floors.
"""
