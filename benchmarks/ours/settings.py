"""Settings of the benchmark's project: the database of BENCH_URL, all defaults."""

from __future__ import annotations

import os

from psycopg.conninfo import conninfo_to_dict

_server = conninfo_to_dict(os.environ["BENCH_URL"])

SECRET_KEY = "measures only"
INSTALLED_APPS = [
    "orchestrator",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "benchmarks.ours",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _server.get("dbname"),
        "USER": _server.get("user", ""),
        "PASSWORD": _server.get("password", ""),
        "HOST": _server.get("host", ""),
        "PORT": _server.get("port", ""),
        # As a web server's threads keep theirs: a request does not connect anew.
        "CONN_MAX_AGE": None,
    }
}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
