"""Users, runs in every state, and pages read as a browser reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client

PASSWORD = "a-password"

MakeUser = Callable[..., Any]


@pytest.fixture
def make_user() -> MakeUser:
    """Makes a staff user with these permissions: `view_run`, `cancel_run`."""

    def make(*permissions: str, name: str = "", **fields: Any) -> Any:
        number = get_user_model().objects.count()
        user = get_user_model().objects.create_user(
            name or f"user{number}", password=PASSWORD, **{"is_staff": True, **fields}
        )
        for codename in permissions:
            user.user_permissions.add(
                Permission.objects.get(
                    codename=codename, content_type__app_label="orchestrator"
                )
            )
        return user

    return make


@pytest.fixture
def sign_in(make_user: MakeUser) -> Callable[..., Client]:
    """A client signed in as a staff user with these permissions."""

    def enter(*permissions: str, **fields: Any) -> Client:
        client = Client()
        client.force_login(make_user(*permissions, **fields))
        return client

    return enter


@pytest.fixture
def admin(make_user: MakeUser) -> Client:
    """A client signed in as a superuser."""
    client = Client()
    client.force_login(make_user(name="root", is_superuser=True))
    return client
