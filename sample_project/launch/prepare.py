"""What must be there before the first process starts."""

from __future__ import annotations

import os

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import DatabaseError, connection

from sample_project.embedded.server import EmbeddedServerError
from sample_project.secrets import kept_secret

DEMO_USER = "demo"


class CannotStart(Exception):
    """The sample cannot start; the text says why and what to do."""


def prepare_database() -> None:
    """Start the embedded server, if it is ours, and migrate. Raises CannotStart."""
    try:
        connection.ensure_connection()
    except (EmbeddedServerError, LookupError) as error:
        raise CannotStart(str(error)) from error
    except DatabaseError as error:
        raise CannotStart(
            f"The database does not answer: {str(error).strip()}\n"
            "Start it, correct DATABASE_URL, or unset DATABASE_URL to use the "
            "embedded PostgreSQL."
        ) from error
    call_command("migrate", interactive=False, verbosity=0)
    connection.close()


def demo_sign_in() -> str:
    """Make the demo superuser, and say how to sign in.

    Only with DEBUG, and only the launcher calls it, which serves the loopback
    address alone. An account that is already there is never changed.
    """
    if not settings.DEBUG:
        return "sign in with an account of yours (DEBUG is off: no demo user)"
    password = os.environ.get("DEMO_PASSWORD") or kept_secret("password", length=9)
    users = get_user_model()._default_manager
    user = users.filter(**{get_user_model().USERNAME_FIELD: DEMO_USER}).first()
    if user is None:
        get_user_model().objects.create_superuser(DEMO_USER, password=password)
    elif not user.check_password(password):
        return (
            f"sign in as {DEMO_USER}; its password was changed "
            f"(python manage.py changepassword {DEMO_USER})"
        )
    connection.close()
    return f"sign in as {DEMO_USER} with password {password}"
