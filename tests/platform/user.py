"""A process that uses an embedded server: ``python -m tests.platform.user DIRECTORY``.

It prints the postmaster's process id once it is connected, then connects anew and
prints the id again for every line that it reads, and ends in order at end of file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg

from sample_project.embedded import EmbeddedServer


def main(directory: str) -> None:
    server = EmbeddedServer(Path(directory), fast=True)
    while True:
        server.ensure()
        with psycopg.connect(
            host=str(server.sockets), user="postgres", dbname="postgres"
        ) as connection:
            connection.execute("SELECT 1")
        print((server.data / "postmaster.pid").read_text().split()[0], flush=True)
        if not sys.stdin.readline():
            return


if __name__ == "__main__":
    main(sys.argv[1])
