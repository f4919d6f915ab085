from __future__ import annotations

import os
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """The main job: takes STANDIN_JOB_SECONDS, ends with STANDIN_JOB_CODE."""

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write("indexing")
        time.sleep(float(os.environ.get("STANDIN_JOB_SECONDS", "0")))
        sys.exit(int(os.environ.get("STANDIN_JOB_CODE", "0")))
