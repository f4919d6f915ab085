"""Settings of the tests: the sample project on a server that forgets nothing slowly.

Child processes of a test (``DJANGO_SETTINGS_MODULE=tests.settings``) find the
running test's database by ORCHESTRATOR_TEST_DATABASE_NAME, which conftest sets.
"""

from __future__ import annotations

import os

from sample_project import embedded
from sample_project.settings import *  # noqa: F403
from sample_project.settings import BASE_DIR, DATABASES, INSTALLED_APPS

DEBUG = False
SECRET_KEY = "tests-only"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
INSTALLED_APPS = [*INSTALLED_APPS, "tests.app"]

ORCHESTRATOR = {"PARTITION_BY": "none"}

if "DATABASE_URL" not in os.environ:
    DATABASES = {"default": embedded.database(BASE_DIR / ".postgres-test", fast=True)}
# Named, because a live server in a forked child would otherwise look for
# test_test_…; conftest numbers it where several suites run at once.
DATABASES["default"]["TEST"] = {"NAME": "test_orchestrator"}
if running := os.environ.get("ORCHESTRATOR_TEST_DATABASE_NAME"):
    DATABASES["default"]["NAME"] = running
