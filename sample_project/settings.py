"""Settings of the sample project: a development machine, nothing else running.

Environment: DATABASE_URL, DEBUG (default on), SECRET_KEY, ALLOWED_HOSTS (commas).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sample_project import embedded
from sample_project.secrets import kept_secret

BASE_DIR = Path(__file__).resolve().parent.parent


def _is_on(name: str, *, default: bool) -> bool:
    return os.environ.get(name, str(default)).lower() in {"1", "true", "yes", "on"}


DEBUG = _is_on("DEBUG", default=True)
SECRET_KEY = os.environ.get("SECRET_KEY") or kept_secret("secret-key")
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

INSTALLED_APPS = [
    "daphne",  # before staticfiles: it makes runserver speak ASGI
    "orchestrator",  # before any app with a runworker of its own
    "orchestrator_ui",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "django_htmx",
    "sample_project.library",
    "sample_project.shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

ROOT_URLCONF = "sample_project.urls"
ASGI_APPLICATION = "sample_project.asgi.application"


def _default_database() -> dict[str, Any]:
    if url := os.environ.get("DATABASE_URL"):
        import dj_database_url

        return {**dj_database_url.parse(url)}
    return embedded.database(BASE_DIR / ".postgres")


DATABASES: dict[str, dict[str, Any]] = {"default": _default_database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

ORCHESTRATOR: dict[str, Any] = {}

# What the shop's fake payment gateway remembers.
SHOP_LEDGER = BASE_DIR / ".sample" / "gateway.sqlite3"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / ".sample" / "static"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {"orchestrator": {"handlers": ["console"], "level": "INFO"}},
}
