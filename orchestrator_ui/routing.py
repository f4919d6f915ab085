"""Where the live feed is: include `websocket_urlpatterns` in the ASGI application."""

from __future__ import annotations

from typing import Any

from django.urls import path

from orchestrator_ui.consumers import FeedConsumer
from orchestrator_ui.feed import FEED_PATH

websocket_urlpatterns: list[Any] = [
    path(FEED_PATH, FeedConsumer.as_asgi()),  # type: ignore[arg-type]
]
