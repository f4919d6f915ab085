from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection


class Command(BaseCommand):
    """A worker with a child of its own; ends at its start if told so."""

    def handle(self, *args: Any, **options: Any) -> None:
        if os.environ.get("STANDIN_WORKER") == "broken":
            raise CommandError("no such queue")
        connection.ensure_connection()
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self.stdout.write(f"pid={os.getpid()} child={child.pid}")
        child.wait()
