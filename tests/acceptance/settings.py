"""Settings of real processes in tests: short times, given by the test.

ORCHESTRATOR_TEST_OPTIONS is JSON: keys of the ORCHESTRATOR setting; numbers are
seconds where the setting is a duration. ORCHESTRATOR_TEST_SERVER is the directory of
an embedded server of the test's own, which it may stop and start.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from orchestrator.conf import Settings
from sample_project import embedded
from tests.settings import *  # noqa: F403
from tests.settings import ORCHESTRATOR as BASE


def _option(key: str, value: Any) -> Any:
    field = Settings.__dataclass_fields__[key.lower()]
    return timedelta(seconds=value) if "timedelta" in str(field.type) else value


ORCHESTRATOR = {
    **BASE,
    **{
        key: _option(key, value)
        for key, value in json.loads(
            os.environ.get("ORCHESTRATOR_TEST_OPTIONS", "{}")
        ).items()
    },
}

if directory := os.environ.get("ORCHESTRATOR_TEST_SERVER"):
    DATABASES = {"default": embedded.database(Path(directory), fast=False)}
