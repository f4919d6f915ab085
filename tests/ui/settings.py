"""Settings of the live server in browser tests: a strict policy, and our workflows."""

from __future__ import annotations

from tests.acceptance.settings import *  # noqa: F403
from tests.acceptance.settings import INSTALLED_APPS, MIDDLEWARE

DEBUG = True  # the development server serves the static files
INSTALLED_APPS = [*INSTALLED_APPS, "tests.ui.app"]
MIDDLEWARE = ["tests.ui.app.policy.strict_policy", *MIDDLEWARE]
