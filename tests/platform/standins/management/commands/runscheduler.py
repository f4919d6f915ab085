from __future__ import annotations

import os
import signal
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """A scheduler that takes SIGTERM in order."""

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        self.stdout.write(f"pid={os.getpid()}")
        signal.pause()
        self.stdout.write("ended in order")
