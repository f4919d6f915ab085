"""Admission: who may open a socket, and whether they still may."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import auth
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.utils.crypto import constant_time_compare
from django.utils.http import is_same_domain

WATCH_PERMISSIONS = ("orchestrator.view_run", "orchestrator.change_run")


def handshake(scope: Mapping[str, Any]) -> ASGIRequest:
    """The request that asked for a socket, with Django's idea of host and cookies."""
    secure = scope.get("scheme") in ("wss", "https")
    scheme = "https" if secure else "http"
    return ASGIRequest({**scope, "method": "GET", "scheme": scheme}, BytesIO())


def has_own_origin(request: ASGIRequest) -> bool:
    """Whether a handshake comes from a page of this site.

    As Django's CSRF protection asks of a POST: scheme, host and port of `Origin` are
    those of the request, or one of CSRF_TRUSTED_ORIGINS. Browsers always send one, so
    a missing one is refused; a socket is opened across sites with the user's cookies.
    """
    origin = request.headers.get("Origin", "")
    try:
        own = f"{request.scheme}://{request.get_host()}"
    except DisallowedHost:
        return False
    return origin == own or any(
        _is_trusted(origin, trusted) for trusted in settings.CSRF_TRUSTED_ORIGINS
    )


def _is_trusted(origin: str, trusted: str) -> bool:
    if "*" not in trusted:
        return origin == trusted
    try:
        given, wanted = urlsplit(origin), urlsplit(trusted)
    except ValueError:
        return False
    return given.scheme == wanted.scheme and is_same_domain(
        given.netloc, wanted.netloc.lstrip("*")
    )


def session_key(request: ASGIRequest) -> str | None:
    """The key of the session that a handshake's cookie names."""
    return request.COOKIES.get(settings.SESSION_COOKIE_NAME)


def watcher(key: str | None) -> Any:
    """The user of a session, if they may watch runs; else None.

    Reads session and user anew, so a logout, a new password, a deactivation and a
    permission taken away all count from the next call on. Writes nothing, unlike
    `django.contrib.auth.get_user`, which may give the session another key.
    """
    if not key:
        return None
    session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    backend_path = session.get(auth.BACKEND_SESSION_KEY)
    if backend_path not in settings.AUTHENTICATION_BACKENDS:
        return None
    model = auth.get_user_model()
    user_id = model._meta.pk.to_python(session[auth.SESSION_KEY])
    user: Any = auth.load_backend(backend_path).get_user(user_id)
    if user is None or not _has_signed(user, session.get(auth.HASH_SESSION_KEY)):
        return None
    return user if may_watch(user) else None


def may_watch(user: Any) -> bool:
    """Whether a user may see runs in the admin."""
    if not (user.is_active and user.is_staff):
        return False
    return any(user.has_perm(permission) for permission in WATCH_PERMISSIONS)


def _has_signed(user: Any, given: str | None) -> bool:
    """Whether a session was opened with the user's present password."""
    if not hasattr(user, "get_session_auth_hash"):
        return True
    valid = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(given or "", each) for each in valid)
